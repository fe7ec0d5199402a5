"""Launching an ingestion: look at everything that can be wrong before a reading is read, run the graph, report."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.begin import RunRequest, begin_run, read_run_record
from pipeline.commit import CommitRules
from pipeline.context import RUNS
from pipeline.errors import BadFileError, MeterveilError
from pipeline.feeds import find_feeds, read_feed
from pipeline.ingest import build_ingest
from pipeline.keys import open_keyset
from pipeline.lake import Lake, create_lake, is_lake, open_lake
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.progress import PROGRESS
from pipeline.reading import read_part
from pipeline.runners import Engine, run_pipeline
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import plan_file
from pipeline.stores import Place, local_folder, locate
from pipeline.totals import Totals, add_totals
from transforms.buckets import default_bucket_count
from transforms.calendar import local_calendar, to_date
from transforms.limits import Limits, QuarantineLimit
from transforms.plan import Plan

DEFAULT_TIME_ZONE = "Europe/Helsinki"


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """What a user asks of ``meterveil ingest``.

    Attributes:
        readings: paths or glob patterns of input files; none to bring a reference alone.
        lake: root of the lake.
        keyset: path of the keyset.
        kek: the key-encryption key, as ``pipeline.wrapping`` has it.
        reference: folder of reference feeds, or None for that of the lake.
        policy: policy file, or None for the lake's own, or the default one.
        time_zone: of a new lake, or None.
        buckets: of a new lake, or None for a count by the reference's points.
        catalog: server and database for the catalogs of a new lake; empty for files in its folders.
        read: how to read inputs where the files don't say.
        skip_bad_files: list files that can't be read, and go on.
        force: read files again that were ingested before.
        max_quarantined: greatest share of readings that may be quarantined, above which the run stops; None for what
            the policy says.
        threads: threads of a worker, or None for what suits the engine.
        engine: where the graph runs.
        detached: whether to leave when the cluster has the graph, which then goes on by itself.
    """

    readings: Sequence[str]
    lake: Place
    keyset: Place
    kek: str
    reference: Place | None = None
    policy: Place | None = None
    time_zone: str | None = None
    buckets: int | None = None
    catalog: str = ""
    read: ReadOptions = field(default_factory=ReadOptions)
    skip_bad_files: bool = False
    force: bool = False
    max_quarantined: float | None = None
    threads: int | None = None
    engine: Engine = field(default_factory=Engine)
    detached: bool = False


def run_ingest(request: IngestRequest) -> dict[str, Any]:
    """Ingest readings into a lake.

    Returns:
        The run record (``pipeline.commit``), as it stands in ``operational.runs``; of a run that goes on by itself its
        id alone, and the outcome ``submitted``.

    Raises:
        MeterveilError: whatever went wrong, in one line; nothing was committed.
    """
    started = datetime.now(UTC)
    pipeline = request.engine.make_pipeline()
    paths = find_inputs(request.readings)
    read = resolve_now(request.read, started)
    open_keyset(request.keyset, request.kek)  # before a lake is made
    policy, plan = choose_policy(request)
    lake = prepare_lake(request)
    given = RunRequest(
        keyset=request.keyset,
        kek=request.kek,
        threads=request.threads or request.engine.threads,
        reference=request.reference,
        asked=request.read,
        read=read,
        in_process=request.engine.is_in_process,
        detached=request.detached,
    )
    rules = CommitRules("ingest", started.isoformat(), _choose_limits(plan, request.max_quarantined))
    with begin_run(lake, policy, plan, given, "ingest", started) as context:
        PROGRESS.reset()
        build_ingest(
            *(pipeline, paths, context, rules),
            skip_bad_files=request.skip_bad_files,
            force=request.force,
            ends_run=not given.in_process,
        )
        run_pipeline(pipeline, waits=not request.detached)
    if request.detached:
        return {"run_id": context.run_id, "outcome": "submitted"}
    return read_run_record(lake, context.run_id)


def describe_ingest(request: IngestRequest) -> dict[str, Any]:
    """Say what an ingestion would read, into which cells, by which policy; writes nothing."""
    paths = find_inputs(request.readings)
    read = resolve_now(request.read, datetime.now(UTC))
    _, plan = choose_policy(request)
    lake = open_lake(request.lake) if is_lake(request.lake) else None
    time_zone = lake.settings.time_zone if lake else request.time_zone or DEFAULT_TIME_ZONE
    buckets = lake.settings.bucket_count if lake else _count_buckets(request)
    totals: list[Totals] = []
    cells: dict[tuple[int, int], int] = {}
    files: list[dict[str, Any]] = []
    for path in paths:
        try:
            splits = plan_file(path, read)
        except BadFileError as error:
            if not request.skip_bad_files:
                raise
            files.append({"name": Path(path).name, "problem": str(error)})
            continue
        of_file = []
        for split in splits:
            part = read_part(split, read, local_calendar(time_zone), buckets)
            of_file.append(part.totals)
            for cell, frame in part.frames:
                cells[cell] = cells.get(cell, 0) + len(frame.column("energy").flatten())
        total = add_totals(of_file)
        totals.append(total)
        name = Path(path).name
        readings = total.count("delivered")
        files.append({"name": name, "format": splits[0].format, "parts": len(splits), "readings": readings})
    whole = add_totals(totals)
    return {
        "lake": str(request.lake),
        "lake_exists": lake is not None,
        "time_zone": time_zone,
        "bucket_count": buckets,
        "policy_digest": plan.digest,
        "datasets": sorted(plan.datasets),
        "files": files,
        "readings": whole.count("delivered"),
        "quarantined": whole.by_kind("quarantined"),
        "cells": [
            {"local_date": str(to_date(day)), "bucket": bucket, "readings": count}
            for (day, bucket), count in sorted(cells.items())
        ],
    }


def find_inputs(patterns: Sequence[str]) -> list[str]:
    """Expand paths and glob patterns to a sorted list of distinct files.

    Raises:
        MeterveilError: a path that is not there, a pattern that matches nothing, or no pattern.
    """
    found: set[str] = set()
    for pattern in patterns:
        matches = _match(pattern)
        if not matches:
            is_pattern = glob.has_magic(pattern)
            raise MeterveilError(
                "no file matches" if is_pattern else "there is no such file",
                where=pattern,
                remedy="check --readings; quote a pattern, so that the shell leaves it alone",
            )
        found.update(matches)
    for path in found:
        if not _is_text(path):
            raise MeterveilError("the name is not UTF-8", where=path, remedy="rename the file, or its folder")
    return sorted(found)


def _match(pattern: str) -> list[str]:
    place = locate(pattern)
    if not isinstance(place, Path):
        root, *parts = pattern.partition("://")[2].split("/")
        store = locate(f"{pattern.partition('://')[0]}://{root}")
        found = [place] if not glob.has_magic(pattern) else store.glob("/".join(parts))
        return [str(path) for path in found if path.is_file()]
    # A file whose name looks like a pattern is that file.
    every = [str(place)] if place.exists() else glob.glob(str(place), recursive=True)  # noqa: PTH207 - absolute patterns
    return [str(Path(path).resolve()) for path in every if Path(path).is_file()]


def resolve_now(read: ReadOptions, now: datetime) -> ReadOptions:
    """Turn ``--registered-at now`` into one time for the whole run."""
    return replace(read, registered_at=now.isoformat()) if read.registered_at == "now" else read


def choose_policy(request: IngestRequest) -> tuple[Place, Plan]:
    """Find the policy: the one that is named, else the lake's own, else the default one."""
    stored = open_lake(request.lake).stored_policy() if is_lake(request.lake) else None
    policy = request.policy or stored or DEFAULT_POLICY
    plan = load_policy(policy)
    if not {"runs", "quarantine"} <= {dataset.view for dataset in plan.datasets.values()} or RUNS not in plan.datasets:
        raise MeterveilError(
            f"a run needs {RUNS} to be recorded in, and a dataset of the view quarantine for what it sets aside",
            where=str(policy),
            remedy="take them over from the default policy",
        )
    return policy, plan


def prepare_lake(request: IngestRequest) -> Lake:
    """Open the lake, or make it; options that contradict an existing lake are refused."""
    if not is_lake(request.lake):
        return create_lake(
            request.lake,
            time_zone=request.time_zone or DEFAULT_TIME_ZONE,
            bucket_count=_count_buckets(request),
            catalog=request.catalog,
        )
    lake = open_lake(request.lake)
    return create_lake(
        lake.root,
        time_zone=request.time_zone or lake.settings.time_zone,
        bucket_count=request.buckets or lake.settings.bucket_count,
        catalog=request.catalog or lake.settings.catalog,
    )


def _choose_limits(plan: Plan, max_quarantined: float | None) -> Limits:
    """Take the policy's limits, and for quarantine what the user says instead."""
    if max_quarantined is None:
        return plan.limits
    return replace(plan.limits, quarantined=QuarantineLimit(max_quarantined, "stop"))


def _count_buckets(request: IngestRequest) -> int:
    if request.buckets is not None:
        return request.buckets
    if not request.reference:
        return default_bucket_count(0)
    with local_folder(request.reference) as feeds:
        sites = find_feeds(feeds)["sites"]
        return default_bucket_count(sum(batch.num_rows for batch in read_feed("sites", sites)))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # octets that are no UTF-8 came through as surrogates
        return False
    return True
