"""Months: sums of the days of points under a contract, with the load indicators, as rows of the view ``months``."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.views import MONTHS
from transforms.calendar import LocalCalendar
from transforms.decimals import as_decimal
from transforms.derive import Points
from transforms.grid import CellGrids
from transforms.indicators import SUMS, merge_sums, sum_cell, tell_indicators

#: A point has a row of a month for each contract that it was under.
_KEYS = ("metering_point_id", "product", "contract_id", "customer_id", "tariff")
_OF_CONTRACT = ("contract_id", "customer_id", "tariff")


def sum_day(cell: CellGrids, points: Points, calendar: LocalCalendar) -> pa.Table:
    """Sum a cell to days: ``metering_point_id``, ``product``, what contract it was, and the sums of indicators."""
    sums = sum_cell(cell, calendar)
    at = pa.array(points.place[sums["point"].to_numpy()])
    keys = {"metering_point_id": points.ids.take(at), "product": sums["product"]}
    keys |= {name: points.attribute(name).take(at) for name in _OF_CONTRACT}
    return pa.table({**keys, **{name: sums[name] for name in SUMS}})


def merge_days(days: Sequence[pa.Table]) -> pa.Table:
    """Merge days, or what was merged before, in any order; at least one."""
    return merge_sums(pa.concat_tables(days), _KEYS)


def view_months(merged: pa.Table, points: Points, first_day: int) -> dict[str, pa.Array]:
    """Make the view ``months`` of a bucket.

    Args:
        merged: of ``merge_days``.
        points: sites of its points, as they are on the last day that was merged.
        first_day: of the month, days since 1970-01-01.

    Returns:
        Columns of ``schemas.views.MONTHS``.
    """
    at = pc.index_in(merged["metering_point_id"].combine_chunks(), points.ids)
    columns = {name: merged[name].combine_chunks() for name in _KEYS}
    columns |= tell_indicators(merged)
    for name, source in (("expected_minutes", "expected_minutes"), ("present_minutes", "minutes")):
        columns[name] = merged[source].combine_chunks().cast(pa.int32())
    columns["month"] = pa.array(np.full(len(merged), first_day, np.int32)).view(pa.date32())
    columns["contracted"] = columns["contract_id"].is_valid()
    for name, field in MONTHS.items():
        if name not in columns:
            columns[name] = points.shown(name).take(at)
        elif pa.types.is_decimal(field.type):
            columns[name] = as_decimal(columns[name], field.type)
    return {name: columns[name] for name in MONTHS}
