"""Beginning a run that changes a lake, and what every such run leaves: a lease, a context, a line in the audit log."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.access import current_user
from pipeline.audit import AuditEntry, record_event
from pipeline.commit import check_unchanged
from pipeline.context import (
    RUNS,
    RunContext,
    current_horizons,
    current_snapshots,
    name_run,
    newest_reference,
    reference_folder,
    staging_folder,
)
from pipeline.erasure import digest_tombstones
from pipeline.errors import MeterveilError
from pipeline.feeds import find_feeds
from pipeline.files import write_file
from pipeline.journal import sole_committer
from pipeline.keys import SECRET_ACCESS, open_keyset
from pipeline.lake import Lake
from pipeline.lease import clean_up_dead, leased, left_alone
from pipeline.ledger import describe_options
from pipeline.machine import tell_boot
from pipeline.records import RecordPath
from pipeline.reference import build_snapshot
from pipeline.registers import ResolveRules
from pipeline.resume import interrupted_run, note_begin, policy_copy
from pipeline.shadow import list_remade
from pipeline.sources.base import ReadOptions
from pipeline.stores import ObjectPath, Place, columnar, local_folder
from pipeline.wrapping import absolute_kek
from schemas.views import VIEW_KINDS
from transforms.plan import Plan
from transforms.pseudonym import derive_matching_key


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What every run is given.

    Attributes:
        keyset: place of the keyset.
        kek: the key-encryption key, as ``pipeline.wrapping`` has it.
        threads: threads of this machine.
        reference: folder of reference feeds, or None for the reference of the lake.
        asked: how to read inputs, as the user said it.
        read: the same, with ``now`` resolved.
        in_process: whether all that works for the run ends with this process.
        detached: whether it goes on by itself on a cluster when this process has sent it there.
    """

    keyset: Place
    kek: str
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    reference: Place | None = None
    asked: ReadOptions = field(default_factory=ReadOptions)
    read: ReadOptions = field(default_factory=ReadOptions)
    in_process: bool = True
    detached: bool = False


@contextmanager
def begin_run(
    lake: Lake, policy: Place, plan: Plan, request: RunRequest, command: str, now: datetime, *, rebuilds: bool = False
) -> Iterator[RunContext]:
    """Begin a run: after those that died, on the tables as they are, with a lease until the block ends.

    Args:
        lake: the lake.
        policy: path of the policy.
        plan: the same, compiled.
        request: what the run is given.
        command: for lease and audit log.
        now: when it begins.
        rebuilds: whether it makes the tables by another policy or key than they are. It goes on where an earlier
            rebuild was interrupted, and leaves what it has done if it is.

    Raises:
        MeterveilError: the lake is of another policy or key, or its tables can't be changed.
    """
    keyset = open_keyset(request.keyset, request.kek)
    run_id = (rebuilds and interrupted_run(lake)) or name_run(now)
    with leased(lake, run_id, command, in_process=request.in_process, resumes=rebuilds):
        remade = None
        with sole_committer(lake):
            clean_up_dead(lake)
            if rebuilds:
                remade = _begin_rebuild(lake, policy, plan, run_id)
                policy = policy_copy(lake)
            else:
                check_unchanged(lake, plan, keyset)
                lake.ensure_tables(plan)
            snapshots, horizons = current_snapshots(lake, plan, remade or ()), current_horizons(lake)
            tombstones = digest_tombstones(lake)
            reference = newest_reference(lake)
        if request.reference:
            rules = ResolveRules(plan.resolution, derive_matching_key(keyset.primary.secret.reveal(SECRET_ACCESS)))
            with local_folder(request.reference) as feeds:
                _check_sources(feeds, plan)
                reference = build_snapshot(feeds, reference_folder(lake), lake.settings.bucket_count, rules)
        if not request.in_process or lake.settings.catalog:
            policy = stage_policy(lake, run_id, policy)
        context = RunContext(
            run_id=run_id,
            lake=str(lake.root),
            policy=str(policy.resolve()),
            keyset=str(request.keyset.resolve()),
            kek=absolute_kek(request.kek),
            reference=reference.version,
            snapshots=snapshots,
            horizons=horizons,
            tombstones=tombstones,
            read=request.read,
            options=describe_options(request.asked),
            threads=request.threads,
            remade=remade,
            boot="" if lake.settings.catalog else tell_boot(),
        )
        left = left_alone(lake, run_id) if request.detached else nullcontext()
        with _audited(lake, command, run_id, "submitted" if request.detached else "done"), left:
            yield context


def own_policy(lake: Lake) -> Path | RecordPath:
    """Find the policy that a lake's tables were made by.

    Raises:
        MeterveilError: no run has committed yet.
    """
    policy = lake.stored_policy()
    if policy is None:
        raise MeterveilError("nothing was ingested yet", where=str(lake.root), remedy="ingest first")
    return policy


def read_run_record(lake: Lake, run_id: str) -> dict[str, Any]:
    """Read a run's record back from ``operational.runs``.

    Raises:
        MeterveilError: no such run has committed.
    """
    for file in lake.state(RUNS).files():
        if file.label == run_id:
            [text] = pq.read_table(columnar(file.path), columns=["record"])["record"].to_pylist()
            record: dict[str, Any] = json.loads(text)
            return record
    raise MeterveilError("the run has not committed", where=run_id, remedy="run it again")


def _check_sources(reference: Path, plan: Plan) -> None:
    """Refuse a feed that the policy does not list: nobody has said why it may be used."""
    for name, path in find_feeds(reference).items():
        if name not in plan.sources:
            raise MeterveilError(
                f"the policy has no source {name}", where=str(path), remedy="list it there, or take the file away"
            )


def _begin_rebuild(lake: Lake, policy: Place, plan: Plan, run_id: str) -> tuple[str, ...]:
    """Note that a rebuild begins, and find the tables that it has to make anew."""
    remade = list_remade(lake, plan)
    for name in remade:
        if VIEW_KINDS[plan.datasets[name].view] in {"input", "log"} and lake.has_table(name):
            raise MeterveilError(
                "the policy changes its columns, and nothing that is there says its rows again",
                where=name,
                remedy="leave its columns as they are",
            )
    note_begin(lake, run_id, policy.read_text(encoding="utf-8"))
    return remade


def stage_policy(lake: Lake, run_id: str, policy: Place) -> Path | ObjectPath:
    """Copy a run's policy to where workers find it that have no other file of this machine's in common."""
    copy = staging_folder(lake, run_id) / policy.name
    write_file(copy, policy.read_bytes(), private=True)
    return copy


@contextmanager
def _audited(lake: Lake, command: str, run_id: str, ended: str) -> Iterator[None]:
    """Leave a line in the audit log, however the run ends."""
    outcome = "failed"
    try:
        yield
        outcome = ended
    finally:
        details: Mapping[str, str | int] = {"run": run_id}
        record_event(lake, AuditEntry(datetime.now(UTC), current_user().name, command, outcome, details=details))
