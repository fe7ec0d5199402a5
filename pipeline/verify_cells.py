"""Verifying rows: every cell sorted and without doubles, its derived files in step, its customers the reference's."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.cells import READINGS, name_source
from pipeline.findings import Findings
from pipeline.horizons import read_horizons
from pipeline.labels import bucket_in
from pipeline.lake import Lake
from pipeline.parquet import read_marks
from pipeline.reference import Snapshot
from pipeline.stores import columnar
from pipeline.table_state import CurrentFile, is_cell_dataset
from pipeline.verify_tables import TableFiles
from transforms.buckets import bucket_of
from transforms.calendar import local_calendar
from transforms.occupancy import join_occupancy
from transforms.plan import Dataset, Keep, Plan

Ints = npt.NDArray[np.int64]
Where = tuple[tuple[str, str | bool], ...]

_KEY = ("metering_point_id", "product", "resolution_s", "start")
_OF_POINT = ("customer_id", "contract_id", "direction")
_COLUMNS = (*_KEY, *_OF_POINT, "local_date", "energy", "status")
_TEXT = ("metering_point_id", "product", *_OF_POINT)


@dataclass(slots=True)
class _Sum:
    """Rows, and their energy in kWh, exact."""

    rows: int = 0
    energy: Decimal = Decimal(0)

    def add(self, energy: pa.ChunkedArray) -> None:
        """Add rows by their energy; a missing value adds none."""
        self.rows += len(energy)
        self.energy += pc.sum(energy).as_py() or 0


@dataclass(slots=True)
class _State:
    """What was read of a cell's operational file.

    Attributes:
        faults: what is wrong with its rows, each once.
        sums: rows and energy of those that datasets select, by what they select.
        points: a row for each run of rows of one point: its id and what the reference said of it.
    """

    sums: dict[Where, _Sum]
    faults: dict[str, None] = field(default_factory=dict)
    points: list[pa.Table] = field(default_factory=list)


class CellChecks:
    """Checks of all cells.

    Args:
        lake: the lake.
        plan: its policy.
        findings: where to tell.
        reference: the reference snapshot that the tables stand by, or None if it is damaged.
        keys: ids of the keys that runs worked with, the last run's last.
    """

    def __init__(
        self, lake: Lake, plan: Plan, findings: Findings, reference: Snapshot | None, keys: Sequence[str]
    ) -> None:
        self._findings, self._reference, self._keys = findings, reference, keys
        self._digest = plan.digest
        self._derived = [
            dataset for dataset in plan.datasets.values() if is_cell_dataset(dataset) and dataset.name != READINGS
        ]
        self._calendar = local_calendar(lake.settings.time_zone)
        self._buckets = lake.settings.bucket_count
        self._horizons = read_horizons(lake)
        self._wheres = {where: None for dataset in self._derived if _can_select(where := _where(dataset))}

    def check_all(self, tables: Mapping[str, TableFiles], intact: Container[str]) -> None:
        """Check every cell of the tables that can be read, of the files that hold."""
        known = {name: self._by_label(table) for name, table in tables.items()}
        states = known.get(READINGS)
        if states is None:
            return
        derived = [dataset for dataset in self._derived if dataset.name in known]
        for label, file in sorted(states.items()):
            state = self._check_rows(file) if file.path in intact else None
            for dataset in derived:
                if self._is_beyond(dataset.name, file):
                    continue
                derived_file = known[dataset.name].get(label)
                self._findings["in step"].looked_at += 1
                if derived_file is None:
                    self._findings["in step"].find(file.path, f"{dataset.name} has no file of this cell")
                elif derived_file.path in intact and self._check_step(dataset, file, derived_file):
                    total = state.sums.get(_where(dataset)) if state else None
                    if total:
                        self._check_sums(dataset, total, derived_file)
        for dataset in derived:
            self._check_origins(known[dataset.name], states)

    def _check_origins(self, derived: Mapping[str, CurrentFile], states: Container[str]) -> None:
        """Check that every derived file has its cell, unless the lake keeps what derives from it for longer."""
        for label, file in derived.items():
            if label not in states and not self._is_beyond(READINGS, file):
                self._findings["in step"].find(file.path, "derives from no cell that is there")

    def _is_beyond(self, dataset_name: str, file: CurrentFile) -> bool:
        """Tell whether a dataset no longer keeps the day of a file."""
        return file.local_date is not None and file.local_date < self._horizons.get(dataset_name, file.local_date)

    def _by_label(self, table: TableFiles) -> dict[str, CurrentFile]:
        """Index current files by what they hold; each may be held once."""
        found: dict[str, CurrentFile] = {}
        for file in table.current:
            if found.setdefault(file.label, file) is not file:
                self._findings["in step"].find(file.path, "another file holds the same: rows are double")
        return found

    def _check_rows(self, file: CurrentFile) -> _State:
        check = self._findings["rows"]
        check.looked_at += 1
        state = self._read_state(file)
        for fault in state.faults:
            check.find(file.path, fault)
        if not state.faults and state.points:
            self._check_occupancy(file, pa.concat_tables(state.points))
        return state

    def _read_state(self, file: CurrentFile) -> _State:
        state = _State({where: _Sum() for where in self._wheres})
        bucket = bucket_in(file.label)
        last: pa.Table | None = None
        for block in _read_blocks(file.path):
            rows = block if last is None else pa.concat_tables([last, block]).unify_dictionaries()
            last = block.slice(len(block) - 1)
            codes = [_rank(rows[name]) for name in _KEY]
            starts = block["start"].combine_chunks().view(pa.int64()).to_numpy()
            right = block["local_date"].combine_chunks().view(pa.int32()).to_numpy() == file.local_date
            missing = block["energy"].is_null().to_numpy() != pc.equal(block["status"], "MISSING").to_numpy()
            begins = np.flatnonzero(np.diff(codes[0], prepend=-1))
            for fault, found in (
                ("rows of another day", not right.all() or (self._calendar.day_of(starts) != file.local_date).any()),
                ("a value without energy that is not missing, or the other way round", missing.any()),
                ("points of another bucket", (self._bucket_of(rows["metering_point_id"]) != bucket).any()),
                ("a point has two customers, contracts or directions on a day", _differ_within(rows, codes[0])),
                *_check_order(codes),
            ):
                if found:
                    state.faults[fault] = None
            state.points.append(_plain(rows.select(["metering_point_id", *_OF_POINT]).take(begins)))
            for where, total in state.sums.items():
                total.add(_select(block, where)["energy"])
        return state

    def _bucket_of(self, ids: pa.ChunkedArray) -> npt.NDArray[np.int32]:
        return bucket_of(ids.combine_chunks().dictionary, self._buckets)

    def _check_occupancy(self, file: CurrentFile, points: pa.Table) -> None:
        """Check whose each point is; a cell of an older reference is one that the newer ones did not touch."""
        check, reference = self._findings["occupancy"], self._reference
        if reference is None:
            return
        check.looked_at += 1
        day, _, bucket = file.label.partition("/")
        ids = points["metering_point_id"].unique()
        first = pc.index_in(ids, points["metering_point_id"].combine_chunks())
        said = join_occupancy(ids, int(day), reference.points(int(bucket)), reference.occupancies(int(bucket)))
        for name in _OF_POINT:
            have, should = points[name].combine_chunks().take(first), getattr(said, name)
            if not pc.all(pc.equal(have.fill_null(""), should.fill_null(""))).as_py():
                check.find(file.path, f"{name} is not what the reference says")

    def _check_step(self, dataset: Dataset, cell: CurrentFile, file: CurrentFile) -> bool:
        """Check what a derived file says that it derives from; tells whether it is this cell."""
        check, marks = self._findings["in step"], read_marks(file.path)
        if marks.get("meterveil.source") != name_source(cell.path):
            check.find(file.path, "derives from another file than the cell's")
            return False
        if marks.get("meterveil.policy") != self._digest:
            check.find(file.path, "derives by another policy than the lake's")
        # With epochs the row's date chooses the key; without, it is the last one.
        allowed = self._keys if dataset.epoch else self._keys[-1:]
        if dataset.domain and allowed and marks.get("meterveil.key") not in allowed:
            check.find(file.path, "derives by another key than the lake's")
        return True

    def _check_sums(self, dataset: Dataset, total: _Sum, file: CurrentFile) -> None:
        """Compare rows and energy of a derived file with those of its cell."""
        check = self._findings["sums"]
        check.looked_at += 1
        if dataset.view == "readings" and file.rows != total.rows:
            check.find(file.path, "another number of rows than its cell")
        for name in (column.name for column in dataset.columns if column.source == "energy" and column.rule == Keep()):
            derived = _Sum()
            with pq.ParquetFile(columnar(file.path)) as content:
                for group in range(content.num_row_groups):
                    derived.add(content.read_row_group(group, [name])[name])
            if derived.energy != total.energy:
                check.find(file.path, "another sum of energy than its cell")


def _where(dataset: Dataset) -> Where:
    return tuple(sorted(dataset.where.items()))


def _can_select(where: Where) -> bool:
    """Tell whether a cell's file has what a dataset selects its rows by; of others no sum can be told."""
    return all(name == "contracted" or name in _COLUMNS for name, _ in where)


def _select(rows: pa.Table, where: Where) -> pa.Table:
    for name, value in where:
        column = rows["contract_id"].is_valid() if name == "contracted" else _plain(rows.select([name]))[name]
        rows = rows.filter(pc.equal(column, value))
    return rows


def _read_blocks(path: str) -> Iterator[pa.Table]:
    """Read an operational file by row groups that have rows, text as dictionaries."""
    with pq.ParquetFile(columnar(path), read_dictionary=list(_TEXT)) as file:
        for group in range(file.num_row_groups):
            block = file.read_row_group(group, list(_COLUMNS))
            if len(block):
                yield block.unify_dictionaries()


def _rank(column: pa.ChunkedArray) -> Ints:
    """Number values so that numbers compare as values do; null comes first."""
    values = column.combine_chunks()
    if not pa.types.is_dictionary(values.type):
        numbers: Ints = values.cast(pa.int64()).to_numpy()
        return numbers
    rank = np.empty(len(values.dictionary), np.int64)
    rank[pc.sort_indices(values.dictionary).to_numpy()] = np.arange(len(rank))
    codes: Ints = np.append(rank, -1)[values.indices.fill_null(-1).to_numpy()]
    return codes


def _check_order(codes: Sequence[Ints]) -> Iterator[tuple[str, bool]]:
    """Compare every row's key with the next one's."""
    less, equal = np.zeros(len(codes[0]) - 1, bool), np.ones(len(codes[0]) - 1, bool)
    for code in codes:
        less |= equal & (code[:-1] < code[1:])
        equal &= code[:-1] == code[1:]
    yield "a key is there twice", bool(equal.any())
    yield "rows are not sorted", bool((~less & ~equal).any())


def _differ_within(rows: pa.Table, point: Ints) -> bool:
    """Tell whether rows of one point, which stand together, differ in what a point has one of."""
    same = np.diff(point) == 0
    return any((same & (np.diff(_rank(rows[name])) != 0)).any() for name in _OF_POINT)


def _plain(rows: pa.Table) -> pa.Table:
    texts = [name for name in rows.column_names if pa.types.is_dictionary(rows[name].type)]
    for name in texts:
        rows = rows.set_column(rows.column_names.index(name), name, rows[name].cast(pa.string()))
    return rows
