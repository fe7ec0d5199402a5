"""The work on one cell: fold what arrived into what is there, derive every dataset, write the files that change."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.context import OpenRun
from pipeline.parquet import DataFile, read_marks, write_data_file
from pipeline.staging import FrameRef, read_frames, write_frames
from pipeline.stores import columnar
from pipeline.table_state import CurrentFile
from pipeline.totals import Totals, add_totals
from transforms.calendar import LocalCalendar, to_date
from transforms.changes import compare_days
from transforms.decimals import as_int64_units
from transforms.derive import Points, derive, view_daily, view_readings
from transforms.erased import leave_out
from transforms.fold import fold
from transforms.grid import CellGrids
from transforms.occupancy import contracted_points, join_occupancy
from transforms.pieces import Cell
from transforms.plan import Dataset
from transforms.rows import Rows, repeat_runs
from transforms.state import RIVAL_COLUMNS, STATE_COLUMNS, frame_rows

#: The dataset that holds the state of every cell.
READINGS = "operational.readings"


def label_of(cell: Cell) -> str:
    """Name a cell in labels of data files: ``20541/00007``."""
    return f"{cell.local_date}/{cell.bucket:05d}"


def cell_of(label: str) -> Cell:
    """Read a cell back from its label."""
    day, _, bucket = label.partition("/")
    return Cell(int(day), int(bucket))


@dataclass(frozen=True, slots=True)
class CellWork:
    """What became of a cell in a run.

    Attributes:
        local_date: days since 1970-01-01.
        bucket: bucket of metering points.
        base: path of the operational file that the frames were folded into; empty where the cell was new.
        frames: where the cell's frames stand in the run's staging folder, to fold them again.
        changes: where it stands in that folder whose day the run changed (``transforms.changes``), if any.
        files: every file that was written; none where all came out as it was.
        totals: exact totals of the cell.
    """

    local_date: int
    bucket: int
    base: str
    frames: tuple[FrameRef, ...]
    changes: tuple[FrameRef, ...]
    files: tuple[DataFile, ...]
    totals: Totals

    @property
    def cell(self) -> Cell:
        """The cell."""
        return Cell(self.local_date, self.bucket)

    @property
    def is_emptied(self) -> bool:
        """Whether the cell had rows and has none now, and so no file either."""
        return bool(self.base) and not self.totals.count("after")


def rewrite_cell(run: OpenRun, cell: Cell, refs: Iterable[FrameRef]) -> CellWork:
    """Fold the frames of a cell into its current rows and write every dataset of the cell that is not in step.

    A cell without frames, whose reference has changed, has its rows as they are joined to it again.
    Rows that come out as they were are not written again. A dataset is in step with them if its file says that it
    derives from this very file, by today's policy, reference and key: what a run that died left behind is made up for.

    Args:
        run: the open run.
        cell: local date and bucket.
        refs: the cell's frames (``transforms.pieces.split_by_cell``), in the run's staging folder; perhaps none.
    """
    label, refs = label_of(cell), tuple(refs)
    frames = read_frames(run.staging, refs)
    if run.is_beyond(READINGS, cell.local_date):  # a file that is there still is left to housekeeping
        return _drop_cell(cell, refs, Totals.of_dropped("retention", _count_frames(frames)))
    replaced = run.current[READINGS].get(label)
    base = [] if replaced is None else _read_state(replaced.path, cell.local_date, run.calendar)
    erased = Totals()
    if find_erased := run.erasures.finder(to_date(cell.local_date)):
        frames, arrived = leave_out(frames, find_erased)
        base, held = leave_out(base, find_erased)
        erased = Totals.of_dropped("erased", arrived, held)
    if not any(map(len, [*frames, *base])):
        return _drop_cell(cell, refs, erased, path_of(replaced))
    grids, tally = fold(frames, base, cell.local_date, run.calendar)
    points = find_points(run, cell, grids.ids, silent=bool(run.datasets("daily")))
    rows = view_readings(grids, points, run.calendar, _sources(run.datasets("readings")))
    dataset = run.plan.datasets[READINGS]
    files = []
    changes: tuple[FrameRef, ...] = ()
    path = path_of(replaced)
    state = _State(derive(dataset, rows, _no_subkeys))
    if replaced is None or not _same_rows(replaced.path, dataset, state):
        path = run.new_data_path(dataset, label)
        state = _State(derive(dataset, rows, _no_subkeys))
        files.append(write_data_file(state, dataset, path, run.footer(dataset, run.context.run_id)))
        if replaced is not None and run.datasets("changes"):
            changes = _stage_changes(run, cell, compare_days(tally.days_before, grids))
    files += _derive_cell(run, cell, grids, points, rows, name_source(path))
    totals = add_totals([Totals.of_fold(tally, state.rows, state.energy, changed=bool(files)), erased])
    return CellWork(*cell, path_of(replaced), refs, changes, tuple(files), totals)


def read_grids(run: OpenRun, cell: Cell) -> CellGrids | None:
    """Read the current rows of a cell as grids, without what was erased; None where there are none."""
    current = run.current[READINGS].get(label_of(cell))
    base = [] if current is None else _read_state(current.path, cell.local_date, run.calendar)
    if find_erased := run.erasures.finder(to_date(cell.local_date)):
        base, _ = leave_out(base, find_erased)
    return fold([], base, cell.local_date, run.calendar)[0] if any(map(len, base)) else None


def _drop_cell(cell: Cell, refs: tuple[FrameRef, ...], dropped: Totals, base: str = "") -> CellWork:
    """Say of a cell that nothing of what came for it is kept, nor of its file if one is named."""
    nothing = Totals.of(cells=(1, 0), cells_unchanged=(int(not base), 0), before=(0, 0), after=(0, 0))
    return CellWork(*cell, base, refs, (), (), add_totals([nothing, dropped]))


def _count_frames(frames: Iterable[pa.RecordBatch]) -> tuple[int, int]:
    """Count readings, and sum up their milliwatt-hours."""
    flat = [frame.column("energy").flatten().to_numpy() for frame in frames]
    return sum(map(len, flat)), sum(int(values.sum(dtype=np.int64)) for values in flat)


def _stage_changes(run: OpenRun, cell: Cell, changed: pa.Table) -> tuple[FrameRef, ...]:
    """Keep what a cell's correction changed until the commit, which writes one file of all cells."""
    if not len(changed):
        return ()
    dates = pa.array(np.full(len(changed), cell.local_date, np.int32)).view(pa.date32())
    [frame] = changed.append_column("local_date", dates).combine_chunks().to_batches()
    return tuple(ref for _, ref in write_frames(run.staging, [(cell, frame)]))


@dataclass(slots=True)
class _State:
    """The cell's rows, block by block; counts those that went by, in the very columns that are written."""

    blocks: Iterable[pa.Table]
    rows: int = 0
    energy: int = 0

    def __iter__(self) -> Iterator[pa.Table]:
        for block in self.blocks:
            self.rows += len(block)
            self.energy += int(as_int64_units(block["energy"].combine_chunks()).sum())
            yield block


def _read_state(path: str, local_date: int, calendar: LocalCalendar) -> list[pa.RecordBatch]:
    """Read the current rows of a cell as frames, block by block."""
    day_start = int(calendar.start_of(np.array([local_date]))[0])
    return [
        frame_rows(block, day_start) for block in _read_blocks(path, [*STATE_COLUMNS, *RIVAL_COLUMNS]) if len(block)
    ]


def _read_blocks(path: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Read columns of a data file as it was written, row group by row group, text as dictionaries."""
    source = columnar(path)
    with pq.ParquetFile(source) as file:
        schema, metadata = file.schema_arrow, file.metadata
    text = [name for name in columns if pa.types.is_string(schema.field(name).type)]
    apart = source is not path  # then a request for each column would be most of the time
    with pq.ParquetFile(source, metadata=metadata, read_dictionary=text, pre_buffer=apart) as file:
        for number in range(metadata.num_row_groups):
            yield file.read_row_group(number, columns, use_threads=False)


def find_points(run: OpenRun, cell: Cell, ids: pa.Array, *, silent: bool) -> Points:
    """Join the points of a cell, and if asked the silent ones under contract, to site and contract on its date."""
    occupancies = run.reference.occupancies(cell.bucket)
    every = ids
    if silent:
        every = pc.unique(pa.concat_arrays([ids, contracted_points(cell.local_date, occupancies)])).sort()
    place = np.arange(len(ids)) if len(every) == len(ids) else pc.index_in(ids, every).to_numpy().astype(np.int64)
    return Points(every, place, join_occupancy(every, cell.local_date, run.reference.points(cell.bucket), occupancies))


def path_of(current: CurrentFile | None) -> str:
    """Give the path of a current file, or an empty one where there is none."""
    return "" if current is None else current.path


def name_source(path: str) -> str:
    """Name an operational data file where its name must not stand: the SHA-256 of the name, which is random, hex."""
    return hashlib.sha256(path.rpartition("/")[2].encode()).hexdigest()


def _derive_cell(
    run: OpenRun, cell: Cell, grids: CellGrids, points: Points, readings: Rows, source: str
) -> Iterator[DataFile]:
    """Derive and write every dataset of the cell, but the state itself and those that are in step with it."""
    label, local_date = label_of(cell), to_date(cell.local_date)
    for view in ("readings", "daily"):
        stale = [
            (dataset, footer)
            for dataset in run.datasets(view)
            if dataset.name != READINGS
            and not run.is_beyond(dataset.name, cell.local_date)
            and not _is_in_step(run.current[dataset.name].get(label), footer := run.footer(dataset, source, local_date))
        ]
        if not stale:
            continue
        used = _sources(dataset for dataset, _ in stale)
        rows = readings if view == "readings" else view_daily(grids, points, run.calendar, used)
        for dataset, footer in stale:
            generalised = run.sites.generalise(dataset, cell.local_date) if dataset.anonymity else None
            table = derive(dataset, rows, run.subkeys(dataset, local_date), generalised)
            yield write_data_file(table, dataset, run.new_data_path(dataset, label), footer)


def _is_in_step(current: CurrentFile | None, footer: Mapping[str, str]) -> bool:
    """Tell whether a current file says that it derives from what it should."""
    if current is None:
        return False
    return footer.items() <= read_marks(current.path).items()


def _sources(datasets: Iterable[Dataset]) -> set[str]:
    """Collect the fields of a view that its datasets use."""
    return {name for dataset in datasets for name in [*dataset.where, *(column.source for column in dataset.columns)]}


def _same_rows(path: str, dataset: Dataset, state: _State) -> bool:
    """Tell whether a cell's rows come out as they were; looks no further than the first block that differs."""
    columns = [column.name for column in dataset.columns]
    if pq.read_schema(columnar(path)).names != columns:
        return False
    blocks = zip_longest(_read_blocks(path, columns), state)
    return all(
        before is not None
        and after is not None
        and len(before) == len(after)
        and all(_same_values(before[name], after[name]) for name in columns)
        for before, after in blocks
    )


def _same_values(before: pa.ChunkedArray, after: pa.ChunkedArray) -> bool:
    if pa.types.is_run_end_encoded(after.type):
        after = pa.chunked_array([repeat_runs(chunk) for chunk in after.chunks])
    if pa.types.is_dictionary(after.type):
        after = after.cast(after.type.value_type)
        before = before.cast(after.type)
    return bool(before.equals(after.cast(before.type)))


def _no_subkeys(entity: str) -> bytes:
    raise AssertionError(f"the state of a cell has no pseudonym, not even of a {entity}")
