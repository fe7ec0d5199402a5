"""Housekeeping: old snapshots, days beyond their retention, and every file that nothing refers to any more.

What is to be done is worked out by the same functions for the preview and for the deed. The deed is one commit of the
sole committer's, by the journal, like a run's; only when the tables have forgotten a file is it deleted. So whoever
dies half-way leaves files that nothing refers to, which are the next one's to delete.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.access import current_user
from pipeline.audit import AuditEntry, record_event
from pipeline.context import RUNS, mark_of, name_run, read_last_commit, reference_folder
from pipeline.digests import find_superseded
from pipeline.horizons import advance_horizons, read_horizons
from pipeline.journal import Journal, TableChange, commit_journal, list_unfinished, sole_committer
from pipeline.lake import Lake
from pipeline.lease import begin_of_live, clean_up_dead, leased, list_dead, list_live
from pipeline.night import local_day
from pipeline.table_state import TableState, is_cell_dataset
from transforms.plan import Plan

#: How long a state of the lake can be asked for, unless the user says otherwise.
KEEP_DAYS = 30
_SECOND = 1000


@dataclass(frozen=True, slots=True)
class Chore:
    """One kind of thing that is done.

    Attributes:
        what: of what kind the things are.
        count: how many.
        bytes: how much of the disk they take.
    """

    what: str
    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Upkeep:
    """What there is to do.

    Attributes:
        horizons: the first local date that each dataset is to have.
        changes: of the tables.
        dropped: files of data that the tables drop, beyond their retention.
        strays: files that nothing refers to once the tables have changed.
        folders: reference snapshots that nothing refers to then.
        dead: ids of runs that died, and their leases.
    """

    horizons: Mapping[str, int]
    changes: tuple[TableChange, ...]
    dropped: tuple[str, ...]
    strays: tuple[Path, ...]
    folders: tuple[Path, ...]
    dead: tuple[Path, ...]

    def chores(self, digests: Iterable[Path]) -> list[Chore]:
        """Sum it up."""
        return [
            _count("runs that died", self.dead),
            Chore("snapshots that expire", sum(len(change.expired) for change in self.changes), 0),
            _count("files beyond retention, gone when their last snapshot expires", map(Path, self.dropped)),
            _count("files that nothing needs", self.strays),
            _count("reference snapshots that nothing needs", self.folders),
            _count("digest records of what is no more", digests),
        ]


def describe_upkeep(lake: Lake, plan: Plan, keep_days: int = KEEP_DAYS) -> list[Chore]:
    """Say what housekeeping would do now; changes nothing.

    Args:
        lake: the lake.
        plan: its policy.
        keep_days: how many days back a state of the lake can be asked for.
    """
    return _look(lake, plan, keep_days, datetime.now(UTC)).chores(find_superseded(lake))


def maintain(lake: Lake, plan: Plan, keep_days: int = KEEP_DAYS, now: datetime | None = None) -> list[Chore]:
    """Do what there is to do, as the sole committer; runs that are at work lose nothing.

    Args:
        lake: the lake.
        plan: its policy.
        keep_days: how many days back a state of the lake can be asked for.
        now: by which ages are counted; the present if None.

    Returns:
        What was done.

    Raises:
        MeterveilError: another run commits for too long, or a commit that was begun can't be finished.
    """
    now = now or datetime.now(UTC)
    run_id = name_run(now)
    with leased(lake, run_id, "maintain", in_process=True), sole_committer(lake):
        dead = tuple(list_dead(lake))
        dead_chore = _count("runs that died", dead)
        clean_up_dead(lake)
        upkeep = _look(lake, plan, keep_days, now)
        advance_horizons(lake, upkeep.horizons)
        if upkeep.changes:
            last = read_last_commit(lake)
            policy, key, reference = (last[f"meterveil.{what}"] for what in ("policy", "key", "reference"))
            commit_journal(lake, Journal(run_id, policy, key, reference, upkeep.changes))
        # The commit has left metadata of its own behind, and knows better what it needs.
        after = _look(lake, plan, keep_days, now)
        digests = find_superseded(lake, gone={str(path) for path in after.strays})
        done = _merge_chores(upkeep, after, digests, dead_chore)
        for path in (*after.strays, *digests):
            path.unlink(missing_ok=True)
        for folder in after.folders:
            shutil.rmtree(folder)
        details = {chore.what: chore.count for chore in done}
        record_event(
            lake,
            AuditEntry(datetime.now(UTC), current_user().name, "maintain", "done", details={"run": run_id, **details}),
        )
    return done


def _merge_chores(before: _Upkeep, after: _Upkeep, digests: Iterable[Path], dead: Chore) -> list[Chore]:
    whole = _Upkeep(before.horizons, before.changes, before.dropped, after.strays, after.folders, ())
    return [dead, *whole.chores(digests)[1:]]


def _look(lake: Lake, plan: Plan, keep_days: int, now: datetime) -> _Upkeep:
    """Work out what there is to do."""
    oldest = begin_of_live(lake, now - timedelta(days=keep_days))
    busy = {mark_of(run_id) for run_id in (*list_live(lake), *list_unfinished(lake))}
    tables = {name: lake.state(name) for name in lake.table_names()}
    wanted = _wanted_horizons(lake, plan, now)
    changes, strays, dropped = [], [], []
    for name, state in tables.items():
        kept = _kept_snapshots(state, oldest)
        expired = tuple(one["snapshot-id"] for one in state.snapshots if one["snapshot-id"] not in kept)
        removed = _find_dropped(lake, plan, state, wanted)
        dropped += removed
        if expired or removed:
            changes.append(TableChange(name, (), tuple(removed), expired))
        strays += _find_strays(lake, state, kept, busy)
    folders = () if len(list_live(lake)) > 1 else _find_references(lake, tables.get(RUNS), oldest)
    return _Upkeep(wanted, tuple(changes), tuple(dropped), tuple(strays), tuple(folders), tuple(list_dead(lake)))


def _kept_snapshots(state: TableState, oldest: datetime) -> set[int]:
    """Find the current snapshot, and those that were the current one at a time or later."""
    since = oldest.timestamp() * _SECOND
    kept = {entry["snapshot-id"] for entry, after in pairwise(state.log) if after["timestamp-ms"] > since}
    return kept if state.snapshot_id is None else kept | {state.snapshot_id}


def _wanted_horizons(lake: Lake, plan: Plan, now: datetime) -> dict[str, int]:
    today, have = local_day(now, lake.settings.time_zone), read_horizons(lake)
    return {
        dataset.name: max(today - dataset.retention_days, have.get(dataset.name, 0))
        for dataset in plan.datasets.values()
        if dataset.retention_days is not None
    }


def _find_dropped(lake: Lake, plan: Plan, state: TableState, horizons: Mapping[str, int]) -> list[str]:
    """Find the current files of a table that are beyond its retention: by their date, else by that of their run."""
    horizon, dataset = horizons.get(state.name), plan.datasets.get(state.name)
    if horizon is None or dataset is None:
        return []
    files = state.files()
    if is_cell_dataset(dataset):
        return [file.path for file in files if file.local_date is not None and file.local_date < horizon]
    written = _read_days_of_files(lake) if files else {}
    return [file.path for file in files if written.get(file.path, horizon) < horizon]


def _read_days_of_files(lake: Lake) -> dict[str, int]:
    """Read from the run records on which local date each data file was committed."""
    days: dict[str, int] = {}
    for file in lake.state(RUNS).files():
        for text in pq.read_table(file.path, columns=["record"])["record"].to_pylist():
            record = json.loads(text)
            day = local_day(datetime.fromisoformat(record["committed_at"]), lake.settings.time_zone)
            days |= dict.fromkeys(record["data_files"], day)
    return days


def _find_strays(lake: Lake, state: TableState, kept: set[int], busy: Iterable[str]) -> list[Path]:
    """Find the files in a table's folders that none of its kept snapshots needs and no run at work has written."""
    marks = tuple(f"-{mark}" for mark in busy)
    there = {*lake.marked_data_paths(state.name, ""), *map(str, Path(state.location, "metadata").glob("*"))}
    strays = (Path(path) for path in there - state.needed_paths(kept))
    return sorted(path for path in strays if not any(mark in path.name for mark in marks))


def _find_references(lake: Lake, runs: TableState | None, oldest: datetime) -> list[Path]:
    """Find the reference snapshots that no kept snapshot of the runs names."""
    if runs is None or runs.snapshot_id is None:
        return []
    kept = _kept_snapshots(runs, oldest)
    named = {runs.summary(snapshot).get("meterveil.reference") for snapshot in kept}
    folders = (path for path in reference_folder(lake).glob("*") if path.is_dir() and not path.name.startswith("."))
    return sorted(folder for folder in folders if folder.name not in named)


def _count(what: str, paths: Iterable[Path]) -> Chore:
    paths = list(paths)
    return Chore(what, len(paths), sum(_size(path) for path in paths))


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(_size(inner) for inner in path.iterdir())
    return path.stat().st_size if path.exists() else 0
