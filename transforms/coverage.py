"""Which stretches of time a stream of readings covers, as the union of its series: gaps and repetitions follow."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.series import DAY_S
from transforms.calendar import US_PER_S, LocalCalendar
from transforms.pieces import as_int64
from transforms.series import encode_text, series_offsets

#: Seconds since 1970 that no calendar reaches: keeps the stretches of different streams apart on one axis.
_FAR_S = 1 << 33
_HALF_DAY_US = DAY_S // 2 * US_PER_S


@dataclass(frozen=True, slots=True)
class Coverage:
    """Stretches without a gap, one an element, sorted by stream (point, product, resolution) and start.

    Attributes:
        point: dictionary<int32, string>.
        product: dictionary<int32, string>.
        resolution_s: int64, seconds.
        start: int64, seconds since 1970 UTC; for daily values of their local date.
        end: int64, exclusive.
    """

    point: pa.DictionaryArray
    product: pa.DictionaryArray
    resolution_s: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    @property
    def readings(self) -> NDArray[np.int64]:
        """How many readings each stretch has room for."""
        counts: NDArray[np.int64] = (self.end - self.start) // self.resolution_s
        return counts

    @property
    def gaps(self) -> NDArray[np.int64]:
        """How many readings are missing before each stretch, since the one before it of its stream; else 0."""
        missing = np.zeros(len(self.start), np.int64)
        missing[1:] = (self.start[1:] - self.end[:-1]) // self.resolution_s[1:]
        missing[self.firsts] = 0
        return missing

    @property
    def firsts(self) -> NDArray[np.int64]:
        """Where the stretches of each stream begin."""
        if not len(self.start):
            return np.zeros(0, np.int64)
        keys = (self.point.indices.to_numpy(), self.product.indices.to_numpy(), self.resolution_s)
        changes = np.logical_or.reduce([np.diff(key, prepend=key[0] - 1) != 0 for key in keys])
        return np.flatnonzero(changes)


def cover(batch: pa.RecordBatch, calendar: LocalCalendar) -> Coverage:
    """Give what a series batch covers.

    Args:
        batch: series batch, validated: every start is on the grid.
        calendar: local days, of which a daily value is one.
    """
    resolution_s = batch.column("resolution_s").to_numpy().astype(np.int64)
    start = as_int64(batch.column("start"))
    dates = calendar.day_of(start + _HALF_DAY_US) * DAY_S
    begins = np.where(resolution_s == DAY_S, dates, start // US_PER_S)
    ends = begins + np.diff(series_offsets(batch)) * resolution_s
    points, products = (encode_text(batch.column(name)) for name in ("metering_point_id", "product"))
    return _unite(Coverage(points, products, resolution_s, begins, ends))


def add_coverage(one: Coverage, other: Coverage) -> Coverage:
    """Unite two coverages."""
    return _unite(
        Coverage(
            _join(one.point, other.point),
            _join(one.product, other.product),
            *(np.concatenate((getattr(one, name), getattr(other, name))) for name in ("resolution_s", "start", "end")),
        )
    )


def _join(one: pa.DictionaryArray, other: pa.DictionaryArray) -> pa.DictionaryArray:
    return pa.chunked_array([one, other]).unify_dictionaries().combine_chunks()


def _unite(parts: Coverage) -> Coverage:
    keys = (parts.point.indices.to_numpy(), parts.product.indices.to_numpy(), parts.resolution_s)
    order = np.lexsort((parts.start, *keys[::-1]))
    if not len(order):
        return parts
    rank = np.cumsum(np.logical_or.reduce([np.diff(key[order], prepend=key[order[0]]) != 0 for key in keys]))
    # One axis for all streams: the farthest end so far never reaches into the next stream.
    begins = parts.start[order] + rank * _FAR_S
    reach = np.maximum.accumulate(parts.end[order] + rank * _FAR_S)
    first = np.flatnonzero(np.concatenate(([True], begins[1:] > reach[:-1])))
    lead = order[first]
    taken = pa.array(lead)
    ends = np.maximum.reduceat(parts.end[order], first)
    return Coverage(
        parts.point.take(taken), parts.product.take(taken), parts.resolution_s[lead], parts.start[lead], ends
    )
