"""Datasets that keep every field of their view, through which rows of quarantine and of logs can be read back."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.context import OpenRun
from pipeline.parquet import DataFile, write_data_file
from pipeline.stores import columnar
from schemas.views import VIEWS
from transforms.plan import Dataset, Keep, Plan


def find_whole(plan: Plan, view: str) -> Dataset | None:
    """Find a dataset that keeps every field of a view."""
    for dataset in plan.datasets.values():
        kept = {column.source for column in dataset.columns if isinstance(column.rule, Keep)}
        if dataset.view == view and not dataset.where and kept >= VIEWS[view].keys():
            return dataset
    return None


def read_rows(dataset: Dataset, path: str) -> pa.Table:
    """Read a data file, its columns by the names of the view's fields."""
    rows = pq.read_table(columnar(path), columns=[column.name for column in dataset.columns], partitioning=None)
    return rows.rename_columns([column.source for column in dataset.columns])


def write_rows(run: OpenRun, dataset: Dataset, label: str, rows: pa.Table) -> DataFile:
    """Write a data file of a dataset: what its label names, an input or a run.

    Args:
        run: the open run.
        dataset: the dataset.
        label: of the file.
        rows: with the fields of the view.
    """
    columns = {column.name: rows[column.source].cast(column.type) for column in dataset.columns}
    path = run.new_data_path(dataset, label)
    return write_data_file([pa.table(columns)], dataset, path, run.footer(dataset, label))
