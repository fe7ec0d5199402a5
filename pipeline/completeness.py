"""Is last night complete: counted from the daily table of contracted points, as billing sees it."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq

from pipeline.cells import label_of
from pipeline.context import newest_reference
from pipeline.errors import MeterveilError
from pipeline.lake import Lake
from pipeline.reference import Snapshot
from pipeline.stores import columnar
from transforms.calendar import LocalCalendar, local_calendar
from transforms.completeness import DayCount, count_rows, count_silent
from transforms.occupancy import contracted_points
from transforms.pieces import Cell
from transforms.plan import Dataset, Keep, Plan

_FIELDS = ("product", "expected_minutes", "present_minutes")
_THREADS = 4


def find_daily(plan: Plan) -> Dataset | None:
    """Find the dataset whose rows are the days of all contracted points; None where the policy has none."""
    for dataset in plan.datasets.values():
        kept = {column.source for column in dataset.columns if isinstance(column.rule, Keep)}
        if dataset.view == "daily" and dict(dataset.where) == {"contracted": True} and kept.issuperset(_FIELDS):
            return dataset
    return None


def count_days(
    dataset: Dataset,
    files: Mapping[str, str],
    reference: Snapshot,
    calendar: LocalCalendar,
    buckets: int,
    dates: Iterable[int],
) -> list[DayCount]:
    """Count what each local date has and misses, over all buckets.

    A bucket without a cell that day has no reading: all its points under contract are silent.

    Args:
        dataset: what ``find_daily`` found.
        files: path of the dataset's file by label of the cell (``pipeline.cells.label_of``).
        reference: the reference that the files stand by.
        calendar: local days of the lake.
        buckets: bucket count of the lake.
        dates: days since 1970-01-01.
    """
    names = {column.source: column.name for column in dataset.columns if column.source in _FIELDS}

    def count_cell(cell: Cell) -> DayCount:
        path = files.get(label_of(cell))
        if path is None:
            points = len(contracted_points(cell.local_date, reference.occupancies(cell.bucket)))
            return count_silent(cell.local_date, points, _minutes(calendar, cell.local_date))
        rows = pq.read_table(columnar(path), columns=[names[field] for field in _FIELDS], partitioning=None)
        return count_rows(cell.local_date, rows.rename_columns(list(_FIELDS)))

    with ThreadPoolExecutor(_THREADS) as pool:
        return [
            sum(pool.map(count_cell, [Cell(day, bucket) for bucket in range(buckets)]), DayCount(day))
            for day in sorted(dates)
        ]


def describe_days(days: Iterable[DayCount]) -> Iterator[dict[str, str | int]]:
    """Tell counts as they stand in run records and in JSON."""
    for day in days:
        yield {
            "local_date": str(day.date),
            "points": day.points,
            "silent_points": day.silent_points,
            "expected_minutes": day.expected_minutes,
            "missing_minutes": day.missing_minutes,
        }


def count_lake(lake: Lake, plan: Plan, dates: Iterable[int]) -> list[DayCount]:
    """Count what dates have and miss in the lake's present tables.

    Raises:
        MeterveilError: the policy has no daily dataset of contracted points, or the lake is out of reach.
    """
    dataset = find_daily(plan)
    if dataset is None:
        raise MeterveilError(
            "the policy has no daily dataset of contracted points to count from",
            where="completeness",
            remedy=f"add one with {', '.join(_FIELDS)} and where: {{contracted: true}}",
        )
    state = lake.state(dataset.name)
    files = {file.label: file.path for file in state.files()} if state.snapshot_id else {}
    settings = lake.settings
    calendar = local_calendar(settings.time_zone)
    return count_days(dataset, files, newest_reference(lake), calendar, settings.bucket_count, dates)


def _minutes(calendar: LocalCalendar, day: int) -> int:
    return int(calendar.seconds_of(np.array([day]))[0]) // 60
