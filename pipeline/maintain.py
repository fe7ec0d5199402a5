"""Housekeeping: old snapshots, days beyond their retention, and every file that nothing refers to any more.

What is to be done is worked out by the same functions for the preview and for the deed. The deed is one commit of the
sole committer's, by the journal, like a run's; only when the tables have forgotten a file is it deleted. So whoever
dies half-way leaves files that nothing refers to, which are the next one's to delete.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.access import current_user
from pipeline.audit import AuditEntry, record_event
from pipeline.context import RUNS, begin_of_run, mark_of, name_run, read_last_commit, reference_folder
from pipeline.digests import find_superseded
from pipeline.horizons import advance_horizons, read_horizons
from pipeline.journal import Journal, TableChange, commit_journal, sole_committer
from pipeline.kept_mirrors import mirrored
from pipeline.labels import last_day_in, mark_in
from pipeline.lake import Lake
from pipeline.lease import (
    begin_of_live,
    clean_up_dead,
    find_drafts,
    find_strays,
    leased,
    list_busy,
    list_dead,
    list_live,
)
from pipeline.records import RecordPath
from pipeline.resume import forget_abandoned, interrupted_run
from pipeline.stores import ObjectPath, Place, delete_tree, locate
from pipeline.table_state import TableState, is_cell_dataset
from schemas.views import VIEW_KINDS
from transforms.calendar import local_day
from transforms.plan import Dataset, Plan

#: How long a state of the lake can be asked for, unless the user says otherwise.
KEEP_DAYS = 30
_DEAD = "left by runs that died"


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
class _Changes:
    """What is to become of the tables.

    Attributes:
        horizons: the first local date that each dataset is to have.
        tables: the changes.
        kept: ids of the snapshots that each table keeps.
    """

    horizons: Mapping[str, int]
    tables: tuple[TableChange, ...]
    kept: Mapping[str, set[int]]

    @property
    def expired(self) -> Chore:
        """The snapshots that no table keeps."""
        return Chore("snapshots that expire", sum(len(table.expired) for table in self.tables), 0)

    @property
    def dropped(self) -> Chore:
        """The files of what is beyond its retention."""
        paths = (locate(path) for table in self.tables for path in table.removed)
        return _count("files beyond retention, gone when their last snapshot expires", paths)


@dataclass(frozen=True, slots=True)
class _Remains:
    """What nothing refers to.

    Attributes:
        files: of data and of metadata.
        references: folders of reference snapshots.
        digests: records of what is no more.
    """

    files: tuple[Path | ObjectPath, ...]
    references: tuple[Path | ObjectPath, ...]
    digests: tuple[Path | ObjectPath, ...]

    @property
    def chores(self) -> list[Chore]:
        """Sum them up."""
        return [
            _count("files that nothing needs", self.files),
            _count("reference snapshots that nothing needs", self.references),
            _count("digest records of what is no more", self.digests),
        ]

    def delete(self) -> None:
        """Delete them all."""
        for path in (*self.files, *self.digests):
            path.unlink(missing_ok=True)
        for folder in self.references:
            delete_tree(folder)


def describe_upkeep(lake: Lake, plan: Plan, keep_days: int = KEEP_DAYS) -> list[Chore]:
    """Say what housekeeping would do now; changes nothing.

    Args:
        lake: the lake.
        plan: its policy.
        keep_days: how many days back a state of the lake can be asked for.
    """
    changes = _plan_changes(lake, plan, keep_days, datetime.now(UTC))
    remains = _find_remains(lake, changes.kept)
    return [_count(_DEAD, list_dead(lake)), changes.expired, changes.dropped, *remains.chores]


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
    run_id = name_run(datetime.now(UTC))
    with mirrored(lake), leased(lake, run_id, "maintain", in_process=True), sole_committer(lake):
        forget_abandoned(lake, list_live(lake), now - timedelta(days=keep_days))
        dead = _count(_DEAD, list_dead(lake))
        clean_up_dead(lake)
        changes = _plan_changes(lake, plan, keep_days, now)
        done = [dead, changes.expired, changes.dropped]
        advance_horizons(lake, changes.horizons)
        if changes.tables:
            last = read_last_commit(lake)
            policy, key, reference = (last[f"meterveil.{what}"] for what in ("policy", "key", "reference"))
            tombstones = last.get("meterveil.tombstones", "")
            commit_journal(lake, Journal(run_id, policy, key, reference, changes.tables, tombstones=tombstones))
        states = (lake.state(name) for name in lake.table_names())
        kept = {state.name: {one["snapshot-id"] for one in state.snapshots} for state in states}
        remains = _find_remains(lake, kept)
        done += remains.chores
        remains.delete()
        details = {"run": run_id} | {chore.what: chore.count for chore in done}
        user = current_user().name
        record_event(lake, AuditEntry(datetime.now(UTC), user, "maintain", "done", details=details))
    return done


def _plan_changes(lake: Lake, plan: Plan, keep_days: int, now: datetime) -> _Changes:
    begun = begin_of_live(lake, now)
    oldest = min(begun, now - timedelta(days=keep_days))
    horizons = _advance(lake, plan, now)
    changes, kept = [], {}
    for name in lake.table_names():
        state = lake.state(name)
        withholds = name in plan.datasets and plan.datasets[name].withholds
        kept[name] = state.list_since(begun if withholds else oldest)
        expired = tuple(one["snapshot-id"] for one in state.snapshots if one["snapshot-id"] not in kept[name])
        removed = _find_dropped(lake, plan.datasets[name], state, horizons) if name in plan.datasets else ()
        if expired or removed:
            changes.append(TableChange(name, (), tuple(removed), expired))
    return _Changes(horizons, tuple(changes), kept)


def _advance(lake: Lake, plan: Plan, now: datetime) -> dict[str, int]:
    today, have = local_day(now, lake.settings.time_zone), read_horizons(lake)
    return {
        dataset.name: max(today - dataset.retention_days, have.get(dataset.name, 0))
        for dataset in plan.datasets.values()
        if dataset.retention_days is not None
    }


def _find_dropped(lake: Lake, dataset: Dataset, state: TableState, horizons: Mapping[str, int]) -> list[str]:
    """Find the current files that are beyond retention: a cell's by its date, else by that of a run.

    That is the run which a file of a log is of, else the one that wrote it. What is of customers is as the reference
    says, whose retention is not ours. A run's record stays, since it has the digests of files that are there.
    """
    horizon = horizons.get(dataset.name)
    if horizon is None or VIEW_KINDS[dataset.view] == "entity" or dataset.view == "runs":
        return []
    if VIEW_KINDS[dataset.view] in {"month", "aggregate"}:
        return [file.path for file in state.files() if last_day_in(file.label) < horizon]
    if is_cell_dataset(dataset):
        return [file.path for file in state.files() if file.local_date is not None and file.local_date < horizon]
    days, is_log = _days_of_runs(lake), VIEW_KINDS[dataset.view] == "log"
    marks = {file.path: mark_of(file.label) if is_log else mark_in(file.path) for file in state.files()}
    return [path for path, mark in marks.items() if days.get(mark, horizon) < horizon]


def _days_of_runs(lake: Lake) -> dict[str, int]:
    """Tell on which local date each run began, by the mark of its files."""
    begins = {file.label: begin_of_run(file.label) for file in lake.state(RUNS).files()}
    return {mark_of(run_id): local_day(begin, lake.settings.time_zone) for run_id, begin in begins.items()}


def _find_remains(lake: Lake, kept: Mapping[str, set[int]]) -> _Remains:
    """Find what nothing needs but snapshots that are not among the kept ones."""
    live, busy = list_live(lake), list_busy(lake)
    states = {name: lake.state(name) for name in lake.table_names()}
    files = [path for name, state in states.items() for path in find_strays(lake, state, kept[name], busy)]
    if not interrupted_run(lake):  # tables that no policy has any more, or that an abandoned rebuild was to make
        for name in set(lake.folder_names()) - states.keys():
            files += (path for path in lake.table_folder(name).rglob("*") if path.is_file())
    files += find_drafts(lake)
    # A run that is at work besides this one may have built a snapshot that it has not committed yet.
    references = [] if len(live) > 1 or RUNS not in states else _find_references(lake, states[RUNS], kept[RUNS])
    digests = find_superseded(lake, gone={str(path) for path in files})
    return _Remains(tuple(files), tuple(references), tuple(digests))


def _find_references(lake: Lake, runs: TableState, kept: set[int]) -> list[Path | ObjectPath]:
    """Find the reference snapshots that no kept snapshot of the runs names; the tables stand by one that it names."""
    if not kept:
        return []
    named = {runs.summary(snapshot).get("meterveil.reference") for snapshot in kept}
    folders = (path for path in reference_folder(lake).glob("*") if path.is_dir() and not path.name.startswith("."))
    return sorted(folder for folder in folders if folder.name not in named)


def _count(what: str, paths: Iterable[Place]) -> Chore:
    paths = list(paths)
    return Chore(what, len(paths), sum(_size(path) for path in paths))


def _size(path: Place) -> int:
    if not isinstance(path, RecordPath) and path.is_dir():
        return sum(_size(inner) for inner in path.iterdir())
    return path.stat().st_size if path.exists() else 0
