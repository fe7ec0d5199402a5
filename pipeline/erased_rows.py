"""Rows of erased points where no fold comes by: in quarantine, and in what corrections changed.

They stay out of what is written. What is there already loses them in the commit that first knows of a tombstone.
"""

from collections.abc import Callable, Collection, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.context import OpenRun
from pipeline.parquet import DataFile
from pipeline.sources.fields import parse_instant
from pipeline.whole_rows import find_whole, read_rows, write_rows
from transforms.pieces import as_int64
from transforms.series import canonical_ids


def find_erased_rows(run: OpenRun, view: str, rows: pa.Table) -> NDArray[np.bool_]:
    """Tell which rows are of a point and a day that were erased; without a day, of a point of which any was.

    Args:
        run: the open run.
        view: ``quarantine`` or ``changes``.
        rows: of that view.
    """
    if not run.context.tombstones:
        return np.zeros(len(rows), bool)
    days, dated = _DAYS[view](run, rows)
    return run.erasures.find_rows(canonical_ids(rows["metering_point_id"].combine_chunks()), days, dated)


def rewrite_without_erased(run: OpenRun, replaced: Collection[str]) -> Iterator[DataFile]:
    """Write every current file again that has rows of erased points, without them; perhaps without any.

    Args:
        run: the run as it commits.
        replaced: labels of files that this commit replaces anyhow.
    """
    for view in _DAYS:
        if (whole := find_whole(run.plan, view)) is None:
            continue
        for label in run.current[whole.name].keys() - set(replaced):
            rows = read_rows(whole, run.current[whole.name][label].path)
            erased = find_erased_rows(run, view, rows)
            if erased.any():
                rest = rows.filter(pa.array(~erased))
                yield from (write_rows(run, dataset, label, rest) for dataset in run.datasets(view))


def _days_of_starts(run: OpenRun, rows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    start = parse_instant(rows["start"].combine_chunks())
    times = as_int64(start.fill_null(0))
    known = start.is_valid().to_numpy(zero_copy_only=False)
    return run.calendar.day_of(times), known & run.calendar.covers(times)


def _local_dates(run: OpenRun, rows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:  # noqa: ARG001 - as above
    days = rows["local_date"].combine_chunks().cast(pa.int32()).to_numpy().astype(np.int64)
    return days, np.ones(len(rows), bool)


#: Views with rows of points besides those of cells; and how the days of rows (int64 since 1970-01-01) are found, and
#: which of them are known.
_DAYS: dict[str, Callable[[OpenRun, pa.Table], tuple[NDArray[np.int64], NDArray[np.bool_]]]] = {
    "quarantine": _days_of_starts,
    "changes": _local_dates,
}
