"""Verifying what was published: each day and month once, nothing shown of too few sites, nothing of what is not.

And whether months that are kept in step, and target groups that go by them, lag behind their cells until ``publish``.
"""

from collections.abc import Container, Mapping
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.cells import READINGS
from pipeline.entities import file_lags, periods_lag
from pipeline.findings import Check, Findings
from pipeline.horizons import read_horizons
from pipeline.kept_months import is_kept_in_step, month_lags, name_month
from pipeline.labels import bucket_in_month, month_in
from pipeline.lake import Lake
from pipeline.load import Load
from pipeline.parquet import read_marks
from pipeline.stores import columnar
from pipeline.table_state import CurrentFile
from pipeline.verify_tables import TableFiles
from schemas.views import VIEW_KINDS
from transforms.calendar import local_day
from transforms.plan import Dataset, Plan

#: What a suppressed cell must not have.
_OF_CELL = ("sites", "energy", "mean")


def check_published(plan: Plan, findings: Findings, tables: Mapping[str, TableFiles], intact: Container[str]) -> None:
    """Check the datasets of sums and of months.

    Args:
        plan: the lake's policy.
        findings: where to tell.
        tables: tables that can be read.
        intact: paths of the files that hold.
    """
    check = findings["published"]
    for dataset in plan.datasets.values():
        if VIEW_KINDS[dataset.view] not in {"month", "aggregate"} or dataset.name not in tables:
            continue
        seen: set[str] = set()
        for file in tables[dataset.name].current:
            check.looked_at += 1
            if file.label in seen:
                check.find(file.path, "another file holds the same: it is published twice")
            seen.add(file.label)
            if dataset.disclosure and file.path in intact:
                _check_cells(check, plan, dataset, file)


def check_kept(
    lake: Lake, plan: Plan, findings: Findings, tables: Mapping[str, TableFiles], intact: Container[str]
) -> None:
    """Note what lags behind: months with ids and target groups by other cells or months, sites without this year.

    Args:
        lake: the lake.
        plan: its policy.
        findings: where to tell.
        tables: tables that can be read.
        intact: paths of the files that hold.
    """
    check, horizons = findings["published"], read_horizons(lake)
    current = {name: {file.label: file for file in table.current} for name, table in tables.items()}
    cells, today = current.get(READINGS, {}), local_day(datetime.now(UTC), lake.settings.time_zone)
    load = Load(plan, current, lake.settings.bucket_count, threads=1)
    for dataset in plan.datasets.values():
        if is_kept_in_step(dataset):
            for label, file in current.get(dataset.name, {}).items():
                month = month_in(label)
                has_cells = month >= horizons.get(READINGS, month)
                source = name_month(cells, month, bucket_in_month(label))
                if has_cells and file.path in intact and month_lags(file, source):
                    check.note(file.path, "its cells have changed since; publish makes it again")
        elif dataset.view in {"marketing", "sites"}:
            for file in current.get(dataset.name, {}).values():
                if file.path in intact:
                    _note_lag(check, dataset, file, load, today)


def _note_lag(check: Check, dataset: Dataset, file: CurrentFile, load: Load, today: int) -> None:
    """Note what lags behind something else than the reference."""
    if dataset.view == "sites" and periods_lag(file, today):
        check.note(file.path, "a year has begun that it has no rows of; the next run derives it")
    elif dataset.view == "marketing" and file_lags(file, load):
        check.note(file.path, "target groups go by other months than there are; the next run derives them")


def _check_cells(check: Check, plan: Plan, dataset: Dataset, file: CurrentFile) -> None:
    """Check what a file shows, if it was published by today's policy."""
    marks = read_marks(file.path)
    names = {column.source: column.name for column in dataset.columns}
    if marks.get("meterveil.policy") != plan.digest or not {"sites", "suppressed"} <= names.keys():
        return
    assert dataset.disclosure
    columns = [names[source] for source in ("suppressed", *_OF_CELL) if source in names]
    rows = pa.Table.from_batches(pq.ParquetFile(columnar(file.path)).iter_batches(columns=columns))
    hidden = rows[names["suppressed"]].is_valid()
    if pc.any(pc.less(rows[names["sites"]], dataset.disclosure.minimum)).as_py():
        check.find(file.path, "it shows a sum of fewer sites than the policy asks for")
    if any(pc.any(pc.equal(rows[name].is_valid(), hidden)).as_py() for name in columns[1:]):
        check.find(file.path, "it shows a cell that is suppressed, or suppresses one without a reason")
