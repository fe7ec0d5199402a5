"""The work on one cell: fold what arrived into what is there, derive every dataset, write the files that change."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.coders import decode_batch
from pipeline.context import OpenRun
from pipeline.iceberg import CurrentFile
from pipeline.parquet import DataFile, write_data_file
from pipeline.totals import Totals
from transforms.calendar import to_date
from transforms.decimals import as_int64_units
from transforms.derive import Points, derive, view_daily, view_readings
from transforms.fold import CellGrids, fold
from transforms.occupancy import contracted_points, join_occupancy
from transforms.pieces import Cell
from transforms.plan import Dataset
from transforms.rows import Rows

#: The dataset that holds the state of every cell.
READINGS = "operational.readings"


def label_of(cell: Cell) -> str:
    """Name a cell in labels of data files: ``20541/00007``."""
    return f"{cell.local_date}/{cell.bucket:05d}"


def rewrite_cell(run: OpenRun, cell: Cell, frames: Iterable[bytes]) -> tuple[list[DataFile], Totals]:
    """Fold the frames of a cell into its current rows and write every dataset of the cell that is not in step.

    Rows that come out as they were are not written again. A dataset is in step with them if its file says that it
    derives from this very file, by today's policy, reference and key: what a run that died left behind is made up for.

    Args:
        run: the open run.
        cell: local date and bucket.
        frames: encoded frames (``transforms.pieces.split_by_cell``).
    """
    label = label_of(cell)
    replaced = run.current[READINGS].get(label)
    base = None if replaced is None else pq.read_table(replaced.path, partitioning=None)
    grids, tally = fold([decode_batch(frame) for frame in frames], base, cell.local_date, run.calendar)
    points = find_points(run, cell, grids.ids)
    rows = view_readings(grids, points, run.calendar, _sources(run.datasets("readings")))
    state = derive(run.plan.datasets[READINGS], rows, _no_subkeys)
    after = len(state), int(as_int64_units(state["energy"].combine_chunks()).sum())
    changed = base is None or not _same_rows(base, state)
    written = []
    path = path_of(replaced)
    if changed:
        dataset = run.plan.datasets[READINGS]
        path = run.new_data_path(dataset, label)
        file = write_data_file(state, dataset, path, run.footer(dataset, run.context.run_id))
        written.append(replace(file, replaces=path_of(replaced)))
    written += _derive_cell(run, cell, grids, points, rows, name_source(path))
    return written, Totals.of_fold(tally, *after, changed=bool(written))


def find_points(run: OpenRun, cell: Cell, ids: pa.Array) -> Points:
    """Join the points of a cell, and the silent ones under contract, to site and contract on the cell's date."""
    occupancies = run.reference.occupancies(cell.bucket)
    silent = contracted_points(cell.local_date, occupancies)
    every = pc.unique(pa.concat_arrays([ids, silent])).sort() if len(silent) else ids
    place = pc.index_in(ids, every).to_numpy().astype(np.int64)
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
            and not _is_in_step(run.current[dataset.name].get(label), footer := run.footer(dataset, source, local_date))
        ]
        if not stale:
            continue
        used = _sources(dataset for dataset, _ in stale)
        rows = readings if view == "readings" else view_daily(grids, points, run.calendar, used)
        for dataset, footer in stale:
            table = derive(dataset, rows, run.subkeys(dataset, local_date))
            file = write_data_file(table, dataset, run.new_data_path(dataset, label), footer)
            yield replace(file, replaces=path_of(run.current[dataset.name].get(label)))


def _is_in_step(current: CurrentFile | None, footer: Mapping[str, str]) -> bool:
    """Tell whether a current file says that it derives from what it should."""
    if current is None:
        return False
    marks = pq.read_metadata(current.path).metadata
    return all(marks.get(name.encode()) == value.encode() for name, value in footer.items())


def _sources(datasets: Iterable[Dataset]) -> set[str]:
    """Collect the fields of a view that its datasets use."""
    return {name for dataset in datasets for name in [*dataset.where, *(column.source for column in dataset.columns)]}


def _same_rows(base: pa.Table, state: pa.Table) -> bool:
    """Tell whether a cell's rows come out as they were."""
    if len(base) != len(state):
        return False
    return all(base[name].equals(state[name].cast(base[name].type)) for name in state.column_names)


def _no_subkeys(entity: str) -> bytes:
    raise AssertionError(f"the state of a cell has no pseudonym, not even of a {entity}")
