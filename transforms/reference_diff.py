"""What two versions of the reference say differently: which metering points, on which local days."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

#: What a covering contract means for a point; two contracts that agree in all of it are one.
_CONTRACT = ("metering_point_id", "contract_id", "customer_id", "signed_at")
_POINT = ("metering_point_id", "site_id", "direction", "withheld")
#: Days that no calendar reaches: a span with them has no beginning, or no end.
_FIRST, _LAST = -(1 << 31), (1 << 31) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """Spans of local days on which the reference says something else of a metering point; a point may have several.

    Attributes:
        ids: string, metering points.
        begin: int64, first day of each span, in days since 1970-01-01.
        end: int64, first day after it.
    """

    ids: pa.Array
    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]

    def on(self, local_date: int) -> pa.Array:
        """List the points that change on a day, some perhaps twice."""
        return self.ids.filter(pa.array((self.begin <= local_date) & (local_date < self.end)))


def compare_references(old: tuple[pa.Table, pa.Table], new: tuple[pa.Table, pa.Table]) -> Changes:
    """Find where two versions of a bucket's reference differ in what is joined to readings.

    A point changes on the days on which it is not under the very same contracts, of the same customers and signatures;
    and on all days if it becomes known or unknown, or its site or direction changes, or whether its place is withheld.
    Other attributes of points, and tariffs, make no change.

    Args:
        old: rows of ``POINTS_SCHEMA`` and of ``CONTRACTS_SCHEMA`` (``schemas.reference``).
        new: the same, of the other version.
    """
    points = pc.unique(_difference([_weigh(old[0], _POINT, -1), _weigh(new[0], _POINT, 1)])["metering_point_id"])
    spans = _compare_contracts(old[1], new[1])
    return Changes(
        pa.concat_arrays([points, spans.ids]),
        np.concatenate([np.full(len(points), _FIRST), spans.begin]),
        np.concatenate([np.full(len(points), _LAST), spans.end]),
    )


def _compare_contracts(old: pa.Table, new: pa.Table) -> Changes:
    """Find the days on which contracts begin to cover a point, or no longer do.

    Every contract is two events: on its first day it weighs something, on the first day after that is taken back. What
    both versions have cancels out. Added up in the order of days, the weight that is left is not zero just where the
    versions differ; it is zero behind a contract's last event, so contracts can be added up in one go.
    """
    events = _difference(
        [
            _weigh(rows, _CONTRACT, sign * weight).append_column("day", _as_days(rows[name]))
            for rows, weight in ((old, -1), (new, 1))
            for name, sign in (("valid_from", 1), ("valid_to", -1))
        ]
    ).sort_by([(name, "ascending") for name in (*_CONTRACT, "day")])
    day = events["day"].to_numpy().astype(np.int64)
    at = np.flatnonzero(np.cumsum(events["weight"].to_numpy()))
    return Changes(events["metering_point_id"].combine_chunks().take(pa.array(at)), day[at], day[at + 1])


def _weigh(rows: pa.Table, columns: tuple[str, ...], weight: int) -> pa.Table:
    return rows.select(list(columns)).append_column("weight", pa.array(np.full(len(rows), weight)))


def _difference(parts: list[pa.Table]) -> pa.Table:
    """Add up the weights of rows that are otherwise alike, and keep what does not cancel out."""
    rows = pa.concat_tables(parts)
    names = [name for name in rows.column_names if name != "weight"]
    sums = rows.group_by(names, use_threads=False).aggregate([("weight", "sum")]).rename_columns([*names, "weight"])
    return sums.filter(pc.not_equal(sums["weight"], 0))


def _as_days(dates: pa.ChunkedArray) -> pa.ChunkedArray:
    return dates.cast(pa.int32()).fill_null(_LAST)
