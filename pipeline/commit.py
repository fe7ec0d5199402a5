"""The commit: one step, on exact totals, all tables or none, the run's own record last."""

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

import pyarrow as pa

from pipeline.cells import READINGS, CellWork, cell_of, label_of, path_of, rewrite_cell
from pipeline.completeness import describe_days
from pipeline.context import RUNS, OpenRun, read_last_commit
from pipeline.entities import derive_bucket
from pipeline.erased_rows import rewrite_without_erased
from pipeline.errors import MeterveilError
from pipeline.journal import Journal, TableChange, commit_journal, sole_committer
from pipeline.kept_mirrors import mirrored
from pipeline.keys import Keyset
from pipeline.lake import Lake
from pipeline.lease import check_lease
from pipeline.ledger import record_inputs
from pipeline.night import judge_night
from pipeline.parquet import DataFile, write_data_file
from pipeline.quarantine import InputWork, settle_quarantine
from pipeline.staging import read_frames
from pipeline.stores import locate
from pipeline.table_state import is_cell_dataset
from pipeline.totals import Totals, add_totals, check_conservation
from pipeline.touched import find_touched, list_changed_buckets
from pipeline.whole_rows import write_rows
from pipeline.withheld import delete_outlived, forget_outlived
from transforms.calendar import to_date
from transforms.limits import Limits
from transforms.plan import Dataset, Plan


@dataclass(frozen=True, slots=True)
class CommitRules:
    """What the commit must respect, and what it notes.

    Attributes:
        command: the command, without values of options.
        started_at: when the run began, ISO 8601.
        limits: what makes the run warn, or stop.
    """

    command: str
    started_at: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What the steps before the commit did.

    Attributes:
        cells: what became of every cell.
        others: every file that was written besides those of cells.
        read: totals of every part that was read.
        inputs: (digest, name) of every input file.
        problems: a line for every input file that was skipped.
        repeated: digest and name of every input that was not read, and the run that took it in before.
        quarantine: what became of the quarantine of every input of which something was set aside, or released.
        parts: how many parts of files were to be read.
        published: every file of sums and months.
    """

    cells: Sequence[CellWork]
    others: Sequence[DataFile]
    read: Sequence[Totals]
    inputs: Sequence[tuple[str, str]]
    problems: Sequence[str]
    repeated: Sequence[tuple[str, str, str]]
    quarantine: Sequence[InputWork] = ()
    parts: int = 0
    published: Sequence[DataFile] = ()

    @property
    def written(self) -> list[DataFile]:
        """Every file that was written."""
        works: Iterable[CellWork | InputWork] = (*self.cells, *self.quarantine)
        return [*(file for work in works for file in work.files), *self.others, *self.published]

    @property
    def totals(self) -> Totals:
        """Totals of all that was read and folded."""
        works: Iterable[CellWork | InputWork] = (*self.cells, *self.quarantine)
        return add_totals([*self.read, *(work.totals for work in works)])

    @property
    def replaced(self) -> set[str]:
        """Labels of the inputs whose quarantine is replaced as a whole."""
        return {digest for digest, _ in self.inputs} | {work.digest for work in self.quarantine}

    @property
    def emptied(self) -> set[str]:
        """Labels of the cells that have no rows any more."""
        return {label_of(work.cell) for work in self.cells if work.is_emptied}


def commit_run(run: OpenRun, outcome: RunOutcome, rules: CommitRules) -> None:
    """Check the run's totals and make its files the tables' current ones, in all tables or in none.

    Runs at the same time end as if one had come after the other: a cell that another run has written meanwhile is
    folded again, into what that run made of it; and if the lake has another reference by now, so is every cell that is
    not what it would be, had this run begun with that. A step that is tried again finds the run's record and changes
    nothing.

    Raises:
        MeterveilError: conservation is broken, a limit that stops is exceeded, or the lake is of another policy or key
            by now; nothing of this run is visible then. Or the commit was begun: the next run finishes it.
    """
    with mirrored(run.lake), sole_committer(run.lake):
        planned, run = run, run.refreshed()
        if run.context.run_id in run.current[RUNS]:
            record_inputs(run.lake, run.context.options, outcome.inputs, run.context.run_id)
            return
        _check_parts(outcome)
        check_lease(run.lake, run.context.run_id)
        if run.context.remade is None:
            check_unchanged(run.lake, run.plan, run.keyset)
        written, quarantine = outcome.written, settle_quarantine(planned, run, outcome.quarantine)
        cells, others = _fold_changed(planned, run, outcome.cells), _settle_entities(planned, run, outcome)
        outcome = replace(outcome, cells=cells, others=others, quarantine=quarantine)
        totals = outcome.totals
        check_conservation(totals)
        _check_rows(run, outcome, totals)
        days, warnings = judge_night(run, outcome.cells, totals, rules.limits, datetime.fromisoformat(rules.started_at))
        if run.context.remade is None:
            run.lake.store_policy(run.policy_text)
        others = [*outcome.others, *_write_changes(run, outcome.cells)]
        if run.context.tombstones != read_last_commit(run.lake).get("meterveil.tombstones", ""):
            others += rewrite_without_erased(run, outcome.replaced)
        outcome = replace(outcome, others=others)
        night = {"days": list(describe_days(days)), "warnings": warnings}
        record = _write_record(run, {**_describe_run(run, outcome, totals, rules), **night})
        changes = _list_changes(run, [*outcome.written, record], outcome)
        commit_journal(
            run.lake,
            Journal(
                run_id=run.context.run_id,
                policy=run.plan.digest,
                key=run.keyset.primary.info.id,
                reference=run.context.reference,
                changes=changes,
                remade=run.context.remade,
                tombstones=run.context.tombstones,
            ),
        )
        record_inputs(run.lake, run.context.options, outcome.inputs, run.context.run_id)
        delete_outlived(run)
        # Not before: a step that is tried again begins with the same files.
        for file in set(written).difference(outcome.written):
            locate(file.path).unlink(missing_ok=True)


def check_unchanged(lake: Lake, plan: Plan, keyset: Keyset) -> None:
    """Refuse a policy or a key that is not the lake's: its tables would be of two kinds.

    Raises:
        MeterveilError: the last run that committed had another one.
    """
    last = read_last_commit(lake)
    for what, mine in (("policy", plan.digest), ("key", keyset.primary.info.id)):
        if mine != last.get(f"meterveil.{what}", mine):
            raise MeterveilError(
                f"the {what} is not the one that the lake's tables were made with",
                where=str(lake.root),
                remedy=f"run with that {what}, or make the tables by this one: meterveil rebuild",
            )


def _fold_changed(planned: OpenRun, run: OpenRun, cells: Sequence[CellWork]) -> list[CellWork]:
    """Fold those cells again that have another file or reference by now, and those that the run's reference touches.

    Works with as many threads as a worker has.

    Args:
        planned: the run as it began.
        run: the run as it commits; the same one if no other run has committed meanwhile.
        cells: what became of every cell.
    """
    if run is planned:
        return list(cells)
    current = run.current[READINGS]

    def still_holds(work: CellWork) -> bool:
        same_base = path_of(current.get(label_of(work.cell))) == work.base
        same_datasets = all(
            run.is_beyond(name, work.local_date) == planned.is_beyond(name, work.local_date) for name in run.horizons
        )
        erased = run.context.tombstones != planned.context.tombstones and run.erasures.covers(to_date(work.local_date))
        return same_base and same_datasets and not erased and run.reference.version == planned.reference.version

    done = {work.cell: work for work in cells if still_holds(work)}
    stale = [work for work in cells if work.cell not in done]
    frames = {work.cell: work.frames for work in stale if work.frames}
    if run.context.remade is None:
        touched = {cell for bucket in list_changed_buckets(run) for cell in find_touched(run, bucket)}
    else:
        touched = {cell_of(label) for label in current}  # also the cells that came meanwhile
    again = sorted((touched | frames.keys()) - done.keys())
    with ThreadPoolExecutor(run.context.threads) as pool:
        return [*done.values(), *pool.map(lambda cell: rewrite_cell(run, cell, frames.get(cell, ())), again)]


def _settle_entities(planned: OpenRun, run: OpenRun, outcome: RunOutcome) -> Sequence[DataFile]:
    """Keep the files of entities, unless another run has committed another reference meanwhile, and its own files."""
    if run.reference.version == planned.reference.version:
        return outcome.others
    if run.context.remade is None:
        return ()
    return [file for bucket in range(run.lake.settings.bucket_count) for file in derive_bucket(run, bucket)]


def _list_changes(run: OpenRun, written: Sequence[DataFile], outcome: RunOutcome) -> tuple[TableChange, ...]:
    """Say what becomes of every table: a file takes the place of the current one of its label.

    Args:
        run: the run as it commits.
        written: every file.
        outcome: says whose file goes though nothing takes its place: an input's quarantine, a cell without rows.
    """
    changes = []
    for dataset in sorted(run.plan.datasets.values(), key=_commit_order):
        current = run.current[dataset.name]
        added = tuple(file for file in written if file.dataset == dataset.name)
        gone = {file.label for file in added}
        if dataset.view == "quarantine":
            gone |= outcome.replaced
        elif is_cell_dataset(dataset):
            gone |= outcome.emptied
        anew = dataset.name in (run.context.remade or ())  # it begins empty, and without a history
        removed = () if anew else tuple(current[label].path for label in sorted(gone & current.keys()))
        change = TableChange(dataset.name, added, removed)
        change = forget_outlived(run.lake, dataset, change, run.context.run_id, anew=anew)
        if anew or added or removed or change.expired or change.deleted:
            changes.append(change)
    return tuple(changes)


def _commit_order(dataset: Dataset) -> tuple[int, str]:
    """Sort the state first, then what derives from it, quarantine, and the record of runs."""
    if dataset.name == READINGS:
        return 0, dataset.name
    return {"quarantine": 2, "releases": 2, "runs": 3}.get(dataset.view, 1), dataset.name


def _check_parts(outcome: RunOutcome) -> None:
    """Check that every part of a file was read, and once: engines try again what they lost."""
    if len(outcome.read) != outcome.parts:
        raise MeterveilError(
            f"{outcome.parts} parts of files were to be read, {len(outcome.read)} were",
            where="commit",
            remedy="nothing was committed; run it again",
        )


def _check_rows(run: OpenRun, outcome: RunOutcome, totals: Totals) -> None:
    """Check that the files hold the rows that the fold counted."""
    state = [file for file in outcome.written if file.dataset == READINGS]
    current = run.current[READINGS]
    gone = {file.label for file in state} | outcome.emptied
    replaced = sum(current[label].rows for label in gone & current.keys())
    gained = sum(file.rows for file in state) - replaced
    if gained != totals.count("after") - totals.count("before"):
        raise MeterveilError(
            f"the files gain {gained} rows, the fold counted {totals.count('after') - totals.count('before')}",
            where="commit",
            remedy="nothing was committed; report this with the run record",
        )


def _describe_run(run: OpenRun, outcome: RunOutcome, totals: Totals, rules: CommitRules) -> dict[str, object]:
    """Make the run record: everything that can be said of a run without a single identifier."""
    bases = dict(run.context.snapshots)
    tables: dict[str, dict[str, int | None]] = {
        name: {"base_snapshot": bases.get(name), "files": 0, "rows": 0, "bytes": 0}
        for name in run.plan.datasets
        if name != RUNS
    }
    for file in outcome.written:
        entry = tables[file.dataset]
        for what, by in (("files", 1), ("rows", file.rows), ("bytes", file.bytes)):
            entry[what] = (entry[what] or 0) + by
    return {
        "run_id": run.context.run_id,
        "command": rules.command,
        "started_at": rules.started_at,
        "committed_at": datetime.now(UTC).isoformat(),
        "outcome": "committed",
        "code_version": version("meterveil"),
        "policy_digest": run.plan.digest,
        "reference_version": run.context.reference,
        "registers": run.reference.registers(),
        "key_id": run.keyset.primary.info.id,
        "inputs": [{"sha256": digest, "name": name} for digest, name in outcome.inputs],
        "skipped": sorted(outcome.problems),
        "repeated": [{"sha256": digest, "name": name, "run_id": run_id} for digest, name, run_id in outcome.repeated],
        "totals": asdict(totals),
        "tables": tables,
        "data_files": {file.path: file.sha256 for file in outcome.written},
    }


def _write_changes(run: OpenRun, cells: Sequence[CellWork]) -> Iterator[DataFile]:
    """Write what the run's corrections changed: one file of all cells, in each dataset of the view."""
    refs = [ref for work in sorted(cells, key=lambda work: work.cell) for ref in work.changes]
    if not refs:
        return
    rows = pa.Table.from_batches(read_frames(run.staging, refs))
    rows = rows.append_column("run_id", pa.repeat(run.context.run_id, len(rows)))
    yield from (write_rows(run, dataset, run.context.run_id, rows) for dataset in run.datasets("changes"))


def _write_record(run: OpenRun, record: dict[str, object]) -> DataFile:
    dataset = run.plan.datasets[RUNS]
    row = {
        **{name: record[name] for name in ("run_id", "command", "outcome", "policy_digest", "code_version", "key_id")},
        "started_at": datetime.fromisoformat(str(record["started_at"])),
        "committed_at": datetime.fromisoformat(str(record["committed_at"])),
        "reference_version": record["reference_version"] or None,
        "record": json.dumps(record),
    }
    columns = {column.name: pa.array([row[column.source]], column.type) for column in dataset.columns}
    path = run.new_data_path(dataset, run.context.run_id)
    return write_data_file([pa.table(columns)], dataset, path, run.footer(dataset, run.context.run_id))
