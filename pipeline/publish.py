"""Publishing: sums over areas by hour, and months of points, of days that no longer change; each published once.

They are no part of a night's run: a value that is published before and after a correction tells the difference, which
may be one site's. So a day is published when the policy says that it is old enough, and then stands.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.pvalue import AsList

from pipeline.begin import RunRequest, begin_run, own_policy, read_run_record
from pipeline.cells import READINGS, cell_of, find_points, read_grids
from pipeline.coders import register_coders
from pipeline.commit import CommitRules, RunOutcome, commit_run
from pipeline.context import OpenRun, RunContext, begin_of_run, open_run
from pipeline.labels import first_day_in, label_of_day, label_of_month, month_in
from pipeline.lake import open_lake
from pipeline.night import day_number, local_day
from pipeline.overlap import OverlappedDoFn, OverlappedGroupsDoFn
from pipeline.parquet import DataFile, write_data_file
from pipeline.policy_file import load_policy
from pipeline.progress import PROGRESS
from pipeline.runners import Engine, run_pipeline
from pipeline.stores import Place
from transforms.area_sums import merge_areas, protect_areas, sum_areas
from transforms.buckets import bucket_of
from transforms.calendar import to_date
from transforms.derive import derive
from transforms.limits import NO_LIMITS
from transforms.months import merge_days, sum_day, view_months
from transforms.pieces import Cell
from transforms.plan import Dataset
from transforms.rows import Rows

register_coders(DataFile)

_AREAS, _MONTHS = "area_hours", "months"
#: Sites are told apart by so many values of their hash; two that share one are merged with care, not wrongly.
_SITE_HASHES = 1 << 30
_SOURCE = "meterveil publish"


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """What a user asks of ``meterveil publish``.

    Attributes:
        lake: root of the lake.
        run: keys and threads.
        until: last local date that is published; None for the newest that the policy has become old enough.
        since: first local date; None for the first there is.
        again: whether what is published already is published again.
    """

    lake: Place
    run: RunRequest
    until: date | None = None
    since: date | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be published.

    Attributes:
        days: local dates (days since 1970-01-01) to the names of the datasets of areas that lack them.
        months: first days of months, the same for datasets of months.
    """

    days: dict[int, tuple[str, ...]]
    months: dict[int, tuple[str, ...]]


def run_publish(request: PublishRequest) -> dict[str, Any] | None:
    """Publish what is due.

    Returns:
        The run record (``pipeline.commit``); None where nothing is due, and nothing was committed.

    Raises:
        MeterveilError: whatever went wrong, in one line; nothing was committed.
    """
    lake = open_lake(request.lake)
    policy = own_policy(lake)
    plan = load_policy(policy)
    now = datetime.now(UTC)
    with begin_run(lake, policy, plan, request.run, "publish", now) as context:
        due = list_due(open_run(context), request)
        if not (due.days or due.months):
            return None
        PROGRESS.reset()
        pipeline = Engine().make_pipeline()
        build_publish(pipeline, context, due, CommitRules("publish", now.isoformat(), NO_LIMITS))
        run_pipeline(pipeline)
    return read_run_record(lake, context.run_id)


def list_due(run: OpenRun, request: PublishRequest) -> Due:
    """List the days and whole months that are old enough, and which datasets lack them."""
    today = local_day(begin_of_run(run.context.run_id), run.lake.settings.time_zone)
    until = today - run.plan.publish_after_days if request.until is None else min(day_number(request.until), today - 1)
    since = None if request.since is None else day_number(request.since)
    days = sorted({cell_of(label).local_date for label in run.current[READINGS]})
    days = [day for day in days if day <= until and (since is None or day >= since)]
    months = sorted({first_day_in(day) for day in days})
    whole = [month for month in months if _last_day_of(month) <= until and (since is None or month >= since)]

    def lacking(view: str, begin: int, end: int) -> tuple[str, ...]:
        return tuple(
            dataset.name
            for dataset in run.datasets(view)
            if not run.is_beyond(dataset.name, end) and (request.again or not _has(run, dataset, begin))
        )

    return Due(
        {day: names for day in days if (names := lacking(_AREAS, day, day))},
        {month: names for month in whole if (names := lacking(_MONTHS, month, _last_day_of(month)))},
    )


def _has(run: OpenRun, dataset: Dataset, day: int) -> bool:
    """Tell whether a dataset has a day, or the month that begins with it."""
    if dataset.view == _AREAS:
        return label_of_day(day) in run.current[dataset.name]
    return any(month_in(label) == day for label in run.current[dataset.name])


def _last_day_of(month: int) -> int:
    return first_day_in(month + 31) - 1


def build_publish(pipeline: beam.Pipeline, context: RunContext, due: Due, rules: CommitRules) -> None:
    """Wire the job: cells to sums by area, by day to protected tables; buckets to months; one commit."""
    labels = sorted(map(cell_of, open_run(context).current[READINGS]))
    cells = [tuple(cell) for cell in labels if cell.local_date in due.days]
    months = sorted({(first_day_in(cell.local_date), cell.bucket) for cell in labels} & _pairs(due.months, labels))
    areas = (
        pipeline
        | "Cells" >> beam.Create(cells, reshuffle=False)
        | "SpreadCells" >> beam.Reshuffle()
        | "SumAreas" >> beam.ParDo(SumAreas(context)).with_output_types(tuple[int, pa.RecordBatch])
        | "GroupByDay" >> beam.GroupByKey()
        | "ProtectAreas" >> beam.ParDo(ProtectAreas(context, due)).with_output_types(DataFile)
    )
    of_months = (
        pipeline
        | "Months" >> beam.Create(months, reshuffle=False)
        | "SpreadMonths" >> beam.Reshuffle()
        | "WriteMonths" >> beam.ParDo(WriteMonths(context, due)).with_output_types(DataFile)
    )
    _ = (
        pipeline
        | "Once" >> beam.Create([context.run_id]).with_output_types(str)
        | "Commit"
        >> beam.ParDo(CommitPublished(context, rules), AsList(areas), AsList(of_months)).with_output_types(str)
    )


def _pairs(months: Iterable[int], cells: Iterable[Cell]) -> set[tuple[int, int]]:
    buckets = {cell.bucket for cell in cells}
    return {(month, bucket) for month in months for bucket in buckets}


class SumAreas(OverlappedDoFn):
    """Cell to its sums by area and hour."""

    def __init__(self, context: RunContext) -> None:
        super().__init__(context.threads)
        self.context = context

    def work(self, element: tuple[int, int]) -> Sequence[Any]:
        """Sum one cell."""
        run, cell = open_run(self.context), Cell(*element)
        grids = read_grids(run, cell)
        if grids is None:
            return []
        points = find_points(run, cell, grids.ids, silent=False)
        spread = np.isin(_hash_sites(points.attribute("site_id")), _list_spread_sites(self.context))
        sums = sum_areas(grids, points, run.calendar, spread)
        PROGRESS.advance("readings summed", len(grids.status))
        return [(cell.local_date, batch) for batch in sums.combine_chunks().to_batches()]


class ProtectAreas(OverlappedGroupsDoFn):
    """Day with the sums of its cells to a file in each dataset of areas that lacks it."""

    def __init__(self, context: RunContext, due: Due) -> None:
        super().__init__(context.threads)
        self.context, self.due = context, due

    def work(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Sequence[Any]:
        """Protect one day."""
        run, (day, batches) = open_run(self.context), element
        merged = merge_areas(pa.Table.from_batches([batch]) for batch in batches)
        return [_write_areas(run, run.plan.datasets[name], day, merged) for name in self.due.days[day]]


class WriteMonths(OverlappedDoFn):
    """Month and bucket to a file in each dataset of months that lacks it."""

    def __init__(self, context: RunContext, due: Due) -> None:
        super().__init__(context.threads)
        self.context, self.due = context, due

    def work(self, element: tuple[int, int]) -> Sequence[Any]:
        """Sum one month of a bucket."""
        run, (month, bucket) = open_run(self.context), element
        merged, last = None, None
        for day in range(month, _last_day_of(month) + 1):
            cell = Cell(day, bucket)
            grids = read_grids(run, cell)
            if grids is None:
                continue
            day_sums = sum_day(grids, find_points(run, cell, grids.ids, silent=False), run.calendar)
            merged, last = merge_days([day_sums] if merged is None else [merged, day_sums]), cell
            PROGRESS.advance("readings summed", len(grids.status))
        if merged is None or last is None:
            return []
        ids = merged["metering_point_id"].combine_chunks().unique().sort()
        rows = Rows(view_months(merged, find_points(run, last, ids, silent=False), month))
        return list(
            _write_months(run, [run.plan.datasets[name] for name in self.due.months[month]], month, bucket, rows)
        )


class CommitPublished(beam.DoFn):
    """The last step: all that is published, at once."""

    def __init__(self, context: RunContext, rules: CommitRules) -> None:
        self.context, self.rules = context, rules

    def process(self, element: str, areas: Sequence[DataFile], months: Sequence[DataFile]) -> Iterable[str]:
        """Commit; the run's id comes out when it is done."""
        outcome = RunOutcome([], [], [], [], [], [], published=(*areas, *months))
        commit_run(open_run(self.context), outcome, self.rules)
        yield element


def _write_areas(run: OpenRun, dataset: Dataset, day: int, merged: pa.Table) -> DataFile:
    assert dataset.disclosure
    rows = Rows(protect_areas(merged, day, run.calendar, dataset.disclosure))
    path = run.new_data_path(dataset, label_of_day(day))
    return write_data_file(derive(dataset, rows, _no_subkeys), dataset, path, run.footer(dataset, _SOURCE))


def _write_months(run: OpenRun, datasets: Iterable[Dataset], month: int, bucket: int, rows: Rows) -> Iterator[DataFile]:
    first = to_date(month)
    for dataset in datasets:
        path = run.new_data_path(dataset, label_of_month(month, bucket))
        blocks = derive(dataset, rows, run.subkeys(dataset, first))
        yield write_data_file(blocks, dataset, path, run.footer(dataset, _SOURCE, first))


def _hash_sites(ids: pa.Array) -> npt.NDArray[np.int32]:
    return bucket_of(ids, _SITE_HASHES)


@lru_cache(maxsize=1)
def _list_spread_sites(context: RunContext) -> npt.NDArray[np.int32]:
    """List the hashes of sites that have points in several buckets, once a process."""
    run = open_run(context)
    sites = (run.reference.points(bucket)["site_id"] for bucket in range(run.lake.settings.bucket_count))
    hashes = np.sort(np.concatenate([np.unique(_hash_sites(ids.combine_chunks())) for ids in sites]))
    return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def _no_subkeys(entity: str) -> bytes:
    raise AssertionError(f"a sum has no pseudonym, not even of a {entity}")
