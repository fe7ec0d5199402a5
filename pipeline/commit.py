"""The commit: one step, on exact totals, one snapshot per table, the run's own record last."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException

from pipeline.cells import READINGS, CellWork
from pipeline.context import OpenRun
from pipeline.errors import MeterveilError
from pipeline.iceberg import replace_files
from pipeline.parquet import DataFile, write_data_file
from pipeline.totals import Totals, add_totals, check_conservation
from transforms.plan import Dataset

RUNS = "operational.runs"


@dataclass(frozen=True, slots=True)
class CommitRules:
    """What the commit must respect, and what it notes.

    Attributes:
        command: the command, without values of options.
        started_at: when the run began, ISO 8601.
        max_quarantined: greatest share of the delivered readings that may be quarantined, 0 to 1.
    """

    command: str
    started_at: str
    max_quarantined: float


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What the steps before the commit did.

    Attributes:
        cells: what became of every cell.
        others: every file that was written besides those of cells.
        read: totals of every part that was read.
        inputs: (digest, name) of every input file.
        problems: a line for every input file that was skipped.
    """

    cells: Sequence[CellWork]
    others: Sequence[DataFile]
    read: Sequence[Totals]
    inputs: Sequence[tuple[str, str]]
    problems: Sequence[str]

    @property
    def written(self) -> list[DataFile]:
        """Every file that was written."""
        return [*(file for work in self.cells for file in work.files), *self.others]

    @property
    def totals(self) -> Totals:
        """Totals of all that was read and folded."""
        return add_totals([*self.read, *(work.totals for work in self.cells)])


def commit_run(run: OpenRun, outcome: RunOutcome, rules: CommitRules) -> None:
    """Check the run's totals and make its files the tables' current ones.

    Tables are committed in the order operational, derived, quarantine, runs. A run whose id is in a table's history has
    been committed there already: a step that is tried again changes nothing.

    Raises:
        MeterveilError: conservation is broken, too much was quarantined, or another run committed meanwhile. Nothing of
            this run is visible then.
    """
    totals = outcome.totals
    check_conservation(totals)
    _check_rows(run, outcome.written, totals)
    _check_quarantined(totals, rules.max_quarantined)
    _check_base(run)
    snapshots = {
        dataset.name: _commit_table(run, dataset, [file for file in outcome.written if file.dataset == dataset.name])
        for dataset in sorted(run.plan.datasets.values(), key=_commit_order)
        if dataset.name != RUNS
    }
    record = _describe_run(run, outcome, totals, rules, snapshots)
    _commit_table(run, run.plan.datasets[RUNS], [_write_record(run, record)])


def _commit_order(dataset: Dataset) -> tuple[int, str]:
    if dataset.name == READINGS:
        return 0, dataset.name
    return {"quarantine": 2}.get(dataset.view, 1), dataset.name


def _check_rows(run: OpenRun, written: Sequence[DataFile], totals: Totals) -> None:
    """Check that the files hold the rows that the fold counted."""
    state = [file for file in written if file.dataset == READINGS]
    current = run.current[READINGS]
    replaced = sum(current[file.label].rows for file in state if file.replaces)
    gained = sum(file.rows for file in state) - replaced
    if gained != totals.count("after") - totals.count("before"):
        raise MeterveilError(
            f"the files gain {gained} rows, the fold counted {totals.count('after') - totals.count('before')}",
            where="commit",
            remedy="nothing was committed; report this with the run record",
        )


def _check_quarantined(totals: Totals, limit: float) -> None:
    quarantined, delivered = totals.count("quarantined"), totals.count("delivered")
    if quarantined > limit * delivered:
        reasons = ", ".join(f"{count} {reason}" for reason, count in totals.by_kind("quarantined").items())
        raise MeterveilError(
            f"{quarantined} of {delivered} readings would be quarantined ({reasons}), more than {limit:.4%}",
            where="--max-quarantined",
            remedy="nothing was committed; look at the input, or allow more",
        )


def _check_base(run: OpenRun) -> None:
    """Check that every table is as this run found it, or has this run's commit already."""
    snapshots = dict(run.context.snapshots)
    for name in run.plan.datasets:
        table = run.lake.table(name)
        current = table.current_snapshot()
        found = None if current is None else current.snapshot_id
        if found != snapshots.get(name) and not _is_committed(table, run.context.run_id):
            raise MeterveilError(
                "another run committed while this one worked", where=name, remedy="nothing was committed; run it again"
            )


def _is_committed(table: object, run_id: str) -> bool:
    snapshots = table.snapshots()  # type: ignore[attr-defined]
    return any(snapshot.summary and snapshot.summary.get("meterveil.run") == run_id for snapshot in snapshots)


def _commit_table(run: OpenRun, dataset: Dataset, written: Sequence[DataFile]) -> int | None:
    """Commit one table; its snapshot afterwards, or None while it has none."""
    table = run.lake.table(dataset.name)
    if written and not _is_committed(table, run.context.run_id):
        summary = {"meterveil.run": run.context.run_id, "meterveil.policy": run.plan.digest}
        summary |= {"meterveil.key": run.keyset.primary.info.id, "meterveil.reference": run.context.reference}
        try:
            replace_files(table, written, [file.replaces for file in written if file.replaces], summary)
        except CommitFailedException as error:
            raise MeterveilError(
                "another run committed at the same moment", where=dataset.name, remedy="run it again"
            ) from error
    current = run.lake.table(dataset.name).current_snapshot()
    return None if current is None else current.snapshot_id


def _describe_run(
    run: OpenRun, outcome: RunOutcome, totals: Totals, rules: CommitRules, snapshots: dict[str, int | None]
) -> dict[str, object]:
    """Make the run record: everything that can be said of a run without a single identifier."""
    tables: dict[str, dict[str, object]] = {
        name: {"snapshot": snapshot, "files": 0, "rows": 0, "bytes": 0} for name, snapshot in snapshots.items()
    }
    for file in outcome.written:
        entry = tables[file.dataset]
        for what, by in (("files", 1), ("rows", file.rows), ("bytes", file.bytes)):
            entry[what] = int(str(entry[what])) + by
    return {
        "run_id": run.context.run_id,
        "command": rules.command,
        "started_at": rules.started_at,
        "committed_at": datetime.now(UTC).isoformat(),
        "outcome": "committed",
        "code_version": version("meterveil"),
        "policy_digest": run.plan.digest,
        "reference_version": run.context.reference,
        "key_id": run.keyset.primary.info.id,
        "inputs": [{"sha256": digest, "name": name} for digest, name in outcome.inputs],
        "skipped": sorted(outcome.problems),
        "totals": asdict(totals),
        "tables": tables,
        "data_files": {file.path: file.sha256 for file in outcome.written},
    }


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
