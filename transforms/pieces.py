"""Pieces: the stretches of series that lie within one local day; and frames, the pieces of one cell that travel."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.series import DAY_S
from schemas.status import Status
from transforms.buckets import bucket_of
from transforms.calendar import US_PER_S, LocalCalendar

Ints = npt.NDArray[np.int64]
#: By how much 24 hours after a midnight may miss the next one, and where days are nearest to neither.
_CLOCK_CHANGE_US = 3_600 * US_PER_S
_HALF_DAY_US = DAY_S // 2 * US_PER_S


class Cell(NamedTuple):
    """The unit of grouping, folding and rewriting: one local date and one bucket of metering points."""

    local_date: int  # days since 1970-01-01
    bucket: int


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Where each stretch of a series batch stands, one element per piece, in the order of the flat readings.

    Attributes:
        series: row of the batch.
        day: local date, days since 1970-01-01.
        slot: first slot of the day.
        offset: first flat reading; one more element than pieces, so that ``offset[i + 1] - offset[i]`` is the length.
        first: position inside its series of the piece's first reading.
        on_grid: whether the piece begins on the grid of its resolution and within the calendar.
    """

    series: Ints
    day: Ints
    slot: Ints
    offset: Ints
    first: Ints
    on_grid: npt.NDArray[np.bool_]


def locate(batch: pa.RecordBatch, calendar: LocalCalendar) -> Pieces:
    """Cut every series of a batch at the borders of local days; touches no reading.

    Args:
        batch: series batch; its list columns are not sliced.
        calendar: local days of the lake.

    A daily value (resolution 86,400 s) is one slot of one local day, whatever the day's length. Value ``n`` of a daily
    series stands ``n`` times 24 hours after its start, and belongs to the day whose midnight is at most an hour from
    there: so it does however the clock changes on the way, whether or not values before it were taken out.
    """
    lengths = list_lengths(batch.column("energy"))
    start = as_int64(batch.column("start"))
    resolution = batch.column("resolution_s").to_numpy().astype(np.int64) * US_PER_S
    daily = resolution == DAY_S * US_PER_S
    covered = calendar.covers(start) & (daily | calendar.covers(start + (lengths - 1) * resolution))
    first_day = calendar.day_of(start + np.where(daily, _HALF_DAY_US, 0))
    last_day = np.where(daily, first_day + lengths - 1, calendar.day_of(start + (lengths - 1) * resolution))
    covered &= last_day < calendar.first + len(calendar.starts) - 1
    last_day = np.where(covered, last_day, first_day)

    per_series = np.where(lengths > 0, last_day - first_day + 1, 0)
    series = np.repeat(np.arange(len(lengths)), per_series)
    nth = np.arange(len(series)) - np.repeat(np.cumsum(per_series) - per_series, per_series)
    day = first_day[series] + nth
    day_start = calendar.start_of(day)
    step = resolution[series]
    # First reading of the series that starts on this day; a daily series has one reading a day.
    # One outside the calendar is one piece, which is on no grid, on the nearest day.
    behind = np.where(covered[series], np.maximum(0, -((start[series] - day_start) // step)), 0)
    first = np.where(daily[series], nth, behind)
    since = start[series] + first * step - day_start
    slot = np.where(daily[series], 0, since // step)
    fits = np.where(daily[series], np.abs(since) <= _CLOCK_CHANGE_US, since % step == 0)
    flat = np.cumsum(lengths) - lengths
    offset = np.append(flat[series] + first, lengths.sum())
    return Pieces(series, day, slot, offset, first, covered[series] & fits)


def split_by_cell(batch: pa.RecordBatch, pieces: Pieces, bucket_count: int) -> Iterator[tuple[Cell, pa.RecordBatch]]:
    """Regroup the readings of a batch by cell.

    A frame is a record batch with a row per piece: ``metering_point_id``, ``product``, ``resolution_s``, ``slot``
    (int16), ``registered_at``, ``energy`` (list of int32 where all values fit, else of int64) and ``status`` (list of
    int8; absent where every reading of the batch is OK). Frames are slices of one gathered copy, in which the pieces
    of one product, resolution and length stand together, so that whole days can be folded as one block.
    """
    if not len(pieces.series):
        return
    bucket = bucket_of(batch.column("metering_point_id"), bucket_count)[pieces.series].astype(np.int64)
    key = pieces.day * bucket_count + bucket
    kind = batch.column("product").dictionary_encode().indices.to_numpy().astype(np.int64) << 32
    kind += batch.column("resolution_s").to_numpy()
    order = np.lexsort((np.diff(pieces.offset), kind[pieces.series], key))
    energy = batch.column("energy").flatten().to_numpy()
    if len(energy) and energy.min() >= -(2**31) and energy.max() < 2**31:
        energy = energy.astype(np.int32)
    offsets, index = _gather(pieces.offset, order)
    rows = pa.array(pieces.series[order])
    columns = {
        "metering_point_id": batch.column("metering_point_id").take(rows),
        "product": batch.column("product").take(rows),
        "resolution_s": batch.column("resolution_s").take(rows),
        "slot": pa.array(pieces.slot[order].astype(np.int16)),
        "registered_at": batch.column("registered_at").take(rows),
        "energy": _as_lists(offsets, energy, index),
    }
    status = batch.column("status").flatten().to_numpy()
    if (status != Status.OK).any():
        columns["status"] = _as_lists(offsets, status, index)
    whole = pa.RecordBatch.from_pydict(columns)
    sorted_key = key[order]
    edges = np.flatnonzero(np.diff(sorted_key, prepend=sorted_key[0] - 1))
    for begin, end in zip(edges, [*edges[1:], len(order)], strict=True):
        day, number = divmod(int(sorted_key[begin]), bucket_count)
        yield Cell(day, number), whole.slice(begin, end - begin)


def _gather(offsets: Ints, order: Ints) -> tuple[Ints, Ints | None]:
    """Find the offsets of stretches in another order, and the flat positions of their values; None as they stand."""
    lengths = np.diff(offsets)[order]
    ends = np.cumsum(lengths)
    shift = offsets[order] - (ends - lengths)
    moved = np.append(0, ends)
    if not shift.any():
        return moved, None
    index = np.repeat(shift, lengths)
    index += np.arange(len(index))
    return moved, index


def _as_lists(offsets: Ints, values: npt.NDArray[Any], index: Ints | None) -> pa.Array:
    taken = values if index is None else values.take(index)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(taken))


def list_lengths(lists: pa.Array) -> Ints:
    """Length of each list of a list array without nulls."""
    lengths: Ints = np.diff(lists.offsets.to_numpy()).astype(np.int64)
    return lengths


def as_int64(times: pa.Array) -> Ints:
    """View an Arrow timestamp array without nulls as int64 microseconds, zero-copy."""
    values: Ints = times.view(pa.int64()).to_numpy()
    return values
