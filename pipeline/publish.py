"""Publishing: sums over areas by hour, and months of points, of days that no longer change; each published once.

They are no part of a night's run: a value that is published before and after a correction tells the difference, which
may be one site's. So a day is published when the policy says that it is old enough, and then stands. Months with ids,
on the operational side, are published to nobody: they are made again when a cell of theirs has changed, and then what
goes by them is derived again.
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
from pipeline.entities import list_stale_buckets
from pipeline.ingest import build_ingest
from pipeline.kept_months import is_kept_in_step, last_day_of, month_lags, name_month
from pipeline.labels import first_day_in, label_of_day, label_of_month, month_in
from pipeline.lake import Lake, open_lake
from pipeline.overlap import OverlappedDoFn, OverlappedGroupsDoFn
from pipeline.parquet import DataFile, write_data_file
from pipeline.policy_file import load_policy
from pipeline.progress import PROGRESS
from pipeline.runners import Engine, run_pipeline
from pipeline.stores import Place
from transforms.area_sums import merge_areas, protect_areas, sum_areas
from transforms.buckets import bucket_of
from transforms.calendar import local_day, to_date, to_day
from transforms.derive import derive
from transforms.limits import NO_LIMITS
from transforms.load_features import list_used
from transforms.months import merge_days, sum_day, view_months
from transforms.pieces import Cell
from transforms.plan import Dataset, Plan
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
        months: first days of months with a bucket, the same for datasets of months.
    """

    days: dict[int, tuple[str, ...]]
    months: dict[tuple[int, int], tuple[str, ...]]


def run_publish(request: PublishRequest) -> dict[str, Any] | None:
    """Publish what is due; then bring the target groups that go by months in step, with a commit of their own.

    Whoever dies in between leaves the second to the next publication, or to the next ingestion.

    Returns:
        The record of the run that published (``pipeline.commit``); None where nothing was due.

    Raises:
        MeterveilError: whatever went wrong, in one line; nothing was committed.
    """
    lake = open_lake(request.lake)
    policy = own_policy(lake)
    plan = load_policy(policy)
    record = _publish_due(lake, policy, plan, request)
    if list_used(plan.target_groups):
        _regroup(lake, policy, plan, request)
    return record


def _publish_due(lake: Lake, policy: Place, plan: Plan, request: PublishRequest) -> dict[str, Any] | None:
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


def _regroup(lake: Lake, policy: Place, plan: Plan, request: PublishRequest) -> None:
    """Derive the target groups again, if months that they go by have changed: an ingestion that reads nothing."""
    now = datetime.now(UTC)
    with begin_run(lake, policy, plan, request.run, "publish", now) as context:
        if not list_stale_buckets(open_run(context)):
            return
        pipeline = Engine().make_pipeline()
        rules = CommitRules("publish", now.isoformat(), NO_LIMITS)
        build_ingest(pipeline, [], context, rules, skip_bad_files=False, force=False, ends_run=False)
        run_pipeline(pipeline)


def list_due(run: OpenRun, request: PublishRequest) -> Due:
    """List the days and whole months that are old enough, and which datasets lack them."""
    today = local_day(begin_of_run(run.context.run_id), run.lake.settings.time_zone)
    until = today - run.plan.publish_after_days if request.until is None else min(to_day(request.until), today - 1)
    since = None if request.since is None else to_day(request.since)
    days = sorted({cell_of(label).local_date for label in run.current[READINGS]})
    days = [day for day in days if day <= until and (since is None or day >= since)]
    areas, of_months = run.datasets(_AREAS), run.datasets(_MONTHS)
    published = {dataset.name: {month_in(label) for label in run.current[dataset.name]} for dataset in of_months}
    kept = (published[dataset.name] for dataset in of_months if is_kept_in_step(dataset))
    months = sorted({first_day_in(day) for day in days}.union(*kept))  # of one that was erased there are no days
    whole = [month for month in months if last_day_of(month) <= until and (since is None or month >= since)]

    def is_due(dataset: Dataset, month: int, bucket: int) -> bool:
        if run.is_beyond(dataset.name, last_day_of(month)):
            return False
        if not is_kept_in_step(dataset):
            return request.again or month not in published[dataset.name]
        file = run.current[dataset.name].get(label_of_month(month, bucket))
        if file and run.is_beyond(READINGS, month):  # what it was made from is not there any more
            return False
        return request.again or month_lags(file, name_month(run.current[READINGS], month, bucket))

    due_days = {
        day: tuple(
            one.name
            for one in areas
            if not run.is_beyond(one.name, day) and (request.again or label_of_day(day) not in run.current[one.name])
        )
        for day in days
    }
    due_months = {
        (month, bucket): tuple(one.name for one in of_months if is_due(one, month, bucket))
        for month in whole
        for bucket in range(run.lake.settings.bucket_count)
    }
    return Due(
        {day: names for day, names in due_days.items() if names},
        {of: names for of, names in due_months.items() if names},
    )


def build_publish(pipeline: beam.Pipeline, context: RunContext, due: Due, rules: CommitRules) -> None:
    """Wire the job: cells to sums by area, by day to protected tables; buckets to months; one commit."""
    labels = sorted(map(cell_of, open_run(context).current[READINGS]))
    cells = [tuple(cell) for cell in labels if cell.local_date in due.days]
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
        | "Months" >> beam.Create(sorted(due.months), reshuffle=False)
        | "SpreadMonths" >> beam.Reshuffle()
        | "WriteMonths" >> beam.ParDo(WriteMonths(context, due)).with_output_types(DataFile)
    )
    _ = (
        pipeline
        | "Once" >> beam.Create([context.run_id]).with_output_types(str)
        | "Commit"
        >> beam.ParDo(CommitPublished(context, rules), AsList(areas), AsList(of_months)).with_output_types(str)
    )


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
        datasets = [run.plan.datasets[name] for name in self.due.months[month, bucket]]
        merged, last = None, None
        for day in range(month, last_day_of(month) + 1):
            cell = Cell(day, bucket)
            grids = read_grids(run, cell)
            if grids is None:
                continue
            day_sums = sum_day(grids, find_points(run, cell, grids.ids, silent=False), run.calendar)
            merged, last = merge_days([day_sums] if merged is None else [merged, day_sums]), cell
            PROGRESS.advance("readings summed", len(grids.status))
        if merged is None or last is None:
            return [_write_nothing(run, one, month, bucket) for one in datasets if is_kept_in_step(one)]
        ids = merged["metering_point_id"].combine_chunks().unique().sort()
        rows = Rows(view_months(merged, find_points(run, last, ids, silent=False), month))
        return list(_write_months(run, datasets, month, bucket, rows))


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
        blocks = derive(dataset, rows, run.subkeys(dataset, first))
        yield _write_month(run, dataset, month, bucket, blocks)


def _write_nothing(run: OpenRun, dataset: Dataset, month: int, bucket: int) -> DataFile:
    """Write a month without rows: all that it had was erased, or there is nothing in this bucket."""
    nothing = pa.table({column.name: pa.nulls(0, column.type) for column in dataset.columns})
    return _write_month(run, dataset, month, bucket, [nothing])


def _write_month(run: OpenRun, dataset: Dataset, month: int, bucket: int, blocks: Iterable[pa.Table]) -> DataFile:
    kept = is_kept_in_step(dataset)
    source = name_month(run.current[READINGS], month, bucket) if kept else _SOURCE
    path = run.new_data_path(dataset, label_of_month(month, bucket))
    return write_data_file(blocks, dataset, path, run.footer(dataset, source, to_date(month)))


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
