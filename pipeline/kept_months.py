"""Months that are kept in step with their cells: those with ids, on the operational side, published to nobody."""

import hashlib
from collections.abc import Mapping

from pipeline.cells import label_of, name_source
from pipeline.labels import first_day_in
from pipeline.parquet import read_marks
from pipeline.table_state import CurrentFile
from transforms.pieces import Cell
from transforms.plan import Dataset


def is_kept_in_step(dataset: Dataset) -> bool:
    """Tell whether months of a dataset are made again when their cells change; others are published once, and stand."""
    return dataset.view == "months" and dataset.zone == "operational"


def name_month(cells: Mapping[str, CurrentFile], month: int, bucket: int) -> str:
    """Name what a month of a bucket derives from: the SHA-256, hex, of the names of its cells' files.

    Args:
        cells: current files of ``operational.readings``, by label.
        month: its first day, days since 1970-01-01.
        bucket: of metering points.
    """
    found = (cells.get(label_of(Cell(day, bucket))) for day in range(month, last_day_of(month) + 1))
    return hashlib.sha256("".join(name_source(file.path) for file in found if file).encode()).hexdigest()


def month_lags(file: CurrentFile | None, source: str) -> bool:
    """Tell whether a month is not there, or derives from other files than its cells have by now (``name_month``)."""
    if file is None:
        return True
    return read_marks(file.path).get("meterveil.source") != source


def last_day_of(month: int) -> int:
    """Give the last day of the month that begins with a day."""
    return first_day_in(month + 31) - 1
