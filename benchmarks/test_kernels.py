"""What each step of the core costs: ``pytest benchmarks --benchmark-only``. One thread, one day, 2,500 points."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.conftest import Measure
from benchmarks.workload import DAY, make_workload
from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FORMATS, FleetOptions
from pipeline.parquet import encode_rows
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import plan_file, read_split
from schemas.status import Status
from transforms.calendar import local_calendar, to_day
from transforms.coarsen import sum_days
from transforms.derive import Points, derive, view_readings
from transforms.fold import fold
from transforms.grid import CellGrids, DayGrid, Superseded
from transforms.occupancy import Occupancy, join_occupancy
from transforms.pieces import locate, split_by_cell
from transforms.pseudonym import derive_subkey, pseudonymise
from transforms.rows import Rows
from transforms.series import regroup
from transforms.settle import settle

POINTS = 2_500
CALENDAR = local_calendar("Europe/Helsinki")
LOCAL_DATE = to_day(DAY)
READ = ReadOptions()
SUBKEY = derive_subkey(bytes(range(32)), "load-research", "metering_point", "2026")
PLAN = load_policy(DEFAULT_POLICY)
DATASETS = ("operational.readings", "analytics.readings")


@dataclass(frozen=True)
class Cell:
    """One cell, at every stage of its way.

    Attributes:
        series: what was delivered, as series: the day, then what came again or corrected.
        frames: the same by cell, of which there is one.
        grids: what the first frame folds to.
        points: its points with site and contract.
        reference: points and occupancies.
    """

    series: list[pa.RecordBatch]
    frames: list[pa.RecordBatch]
    grids: CellGrids
    points: Points
    reference: tuple[pa.Table, pa.Table]

    @property
    def readings(self) -> int:
        """Readings of the first frame."""
        return count_readings(self.frames[:1])

    def rows(self) -> Rows:
        """The view ``readings``, with every field that the two datasets use."""
        wanted = {column.source for name in DATASETS for column in PLAN.datasets[name].columns}
        return view_readings(self.grids, self.points, CALENDAR, wanted)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="meterveil-kernels-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def cell(folder: Path) -> Cell:
    make_workload(folder / "workload", POINTS)
    *first, again, corrected = sorted((folder / "workload" / "readings").iterdir())
    series = [gather_series(paths) for paths in (first, [again, corrected])]
    frames = [frame for batch in series for _, frame in split_by_cell(batch, locate(batch, CALENDAR), 1)]
    grids, _ = fold(frames[:1], [], LOCAL_DATE, CALENDAR)
    sites, contracts = (
        pq.read_table(folder / "workload" / "reference" / f"{name}.parquet") for name in ("sites", "contracts")
    )
    reference = (sites.append_column("withheld", pa.array(np.zeros(len(sites), bool))), contracts)
    occupancy = join_occupancy(grids.ids, LOCAL_DATE, *reference)
    points = Points(grids.ids, np.arange(len(grids.ids)), occupancy)
    return Cell(series, frames, grids, points, reference)


def count_readings(batches: list[pa.RecordBatch]) -> int:
    return sum(len(batch.column("energy").flatten()) for batch in batches)


def gather_series(paths: list[Path]) -> pa.RecordBatch:
    deliveries = [
        delivery for path in paths for split in plan_file(str(path), READ) for delivery in read_split(split, READ)
    ]
    return regroup(pa.concat_batches([delivery.series for delivery in deliveries]))


@cache
def subkeys(entity: str) -> bytes:
    return derive_subkey(bytes(range(32)), "load-research", entity, "2026")


@pytest.mark.parametrize("format_name", sorted(FORMATS))
def test_decode(format_name: str, folder: Path, measure: Measure) -> None:
    options = FleetOptions(points=POINTS, days=1, start=DAY, format=format_name, faults=frozenset())
    out = folder / format_name
    if not out.exists():
        generate_fleet(options, out)
    read = ReadOptions(registered_at="file-name")
    splits = [split for path in (out / "readings").iterdir() for split in plan_file(str(path), read)]

    def decode_all() -> int:
        return sum(count_readings([delivery.series]) for split in splits for delivery in read_split(split, read))

    measure(decode_all(), "reading", decode_all)


def test_split_by_cell(cell: Cell, measure: Measure) -> None:
    batch = cell.series[0]
    measure(cell.readings, "reading", lambda: list(split_by_cell(batch, locate(batch, CALENDAR), 4)))


def test_fold_whole_day(cell: Cell, measure: Measure) -> None:
    measure(cell.readings, "reading", fold, cell.frames[:1], [], LOCAL_DATE, CALENDAR)


def test_fold_2_percent_again(cell: Cell, measure: Measure) -> None:
    _, tally = measure(count_readings(cell.frames), "reading", fold, cell.frames, [], LOCAL_DATE, CALENDAR)
    assert tally.superseded.counts["older"] == count_readings(cell.frames[1:])


def test_settle_two_resolutions(measure: Measure) -> None:
    """Every tenth point was delivered by the hour as well, registered later."""
    hourly = np.arange(0, POINTS, 10)

    def make() -> tuple[tuple[Any, ...], dict[str, Any]]:
        grids = {900: _fill(np.arange(POINTS), 96, 0), 3600: _fill(hourly, 24, 1)}
        return (grids, POINTS, np.array([1, 2]), Superseded()), {}

    measure(POINTS * 96 + len(hourly) * 24, "reading", settle, setup=make)


def _fill(points: np.ndarray, slots: int, rank: int) -> DayGrid:
    grid = DayGrid.empty(points, slots)
    grid.status[:] = Status.OK
    grid.energy[:] = 1_000_000
    grid.registered[:] = rank
    return grid


def test_join_occupancy(cell: Cell, measure: Measure) -> None:
    found = measure(len(cell.grids.ids), "id", join_occupancy, cell.grids.ids, LOCAL_DATE, *cell.reference)
    assert isinstance(found, Occupancy)


def test_pseudonymise(cell: Cell, measure: Measure) -> None:
    measure(len(cell.grids.ids), "id", pseudonymise, SUBKEY, cell.grids.ids)


def test_sum_days(cell: Cell, measure: Measure) -> None:
    contracted = cell.points.attribute("contracted").to_numpy(zero_copy_only=False)
    measure(cell.readings, "reading", sum_days, cell.grids, cell.points.place, contracted, CALENDAR)


def test_view_readings(cell: Cell, measure: Measure) -> None:
    measure(cell.readings, "reading", cell.rows)


@pytest.mark.parametrize("name", DATASETS)
def test_derive(name: str, cell: Cell, measure: Measure) -> None:
    def count_rows() -> int:
        return sum(len(block) for block in derive(PLAN.datasets[name], rows, subkeys))

    rows = cell.rows()
    assert measure(cell.readings, "reading", count_rows) == cell.readings


@pytest.mark.parametrize("name", DATASETS)
def test_encode(name: str, cell: Cell, measure: Measure) -> None:
    dataset = PLAN.datasets[name]
    blocks = list(derive(dataset, cell.rows(), subkeys))
    measure(cell.readings, "reading", encode_rows, blocks, dataset, {})
