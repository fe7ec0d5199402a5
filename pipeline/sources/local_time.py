"""Local times without an offset to UTC, the hour that occurs twice included."""

from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.sources.deliver import Mask

_UTC = pa.timestamp("us", "UTC")
_DAY_US = 86_400_000_000


class Resolved(NamedTuple):
    """Local times in UTC.

    Attributes:
        instant: timestamp[us, UTC]; null where the local time is.
        ambiguous: times that occur twice, with nothing that tells which.
        impossible: times that the clock skips in spring.
    """

    instant: pa.Array
    ambiguous: Mask
    impossible: Mask


def resolve_local(local: pa.Array, zone: ZoneInfo, groups: NDArray[np.int64]) -> Resolved:
    """Resolve local times to UTC.

    The hour that occurs twice in autumn is resolved by order: where a group shows all its times of that hour twice,
    each pass ascending, the first pass is summer time and the second winter time.

    Args:
        local: timestamp[us].
        zone: their time zone.
        groups: int64, of each time: what it must be in order within (point, product, resolution, registration).
    """
    encoded = local.dictionary_encode()  # the same times come for every point
    distinct = encoded.dictionary
    early, late = (
        pc.assume_timezone(distinct, zone.key, ambiguous=side, nonexistent=side).cast(_UTC)
        for side in ("earliest", "latest")
    )
    doubtful = pc.not_equal(early, late)
    nothing: Mask = np.zeros(len(local), dtype=bool)
    if not pc.any(doubtful).as_py():
        return Resolved(early.take(encoded.indices), nothing, nothing)
    # A time that exists comes back as itself; one that is skipped does not.
    skipped = pc.and_(doubtful, pc.not_equal(pc.local_timestamp(early.cast(pa.timestamp("us", zone.key))), distinct))
    early, late, doubtful, skipped = (column.take(encoded.indices) for column in (early, late, doubtful, skipped))
    differs, impossible = (_as_mask(column) for column in (doubtful, skipped))
    twice = np.flatnonzero(differs & ~impossible)
    if twice.size == 0:
        return Resolved(early, nothing, impossible)
    times = local.fill_null(0).view(pa.int64()).to_numpy()[twice]
    second, known = _tell_passes(times, groups[twice])
    is_late, ambiguous = nothing.copy(), nothing.copy()
    is_late[twice], ambiguous[twice] = second, ~known
    return Resolved(pc.if_else(pa.array(is_late), late, early), ambiguous, impossible)


def _tell_passes(times: NDArray[np.int64], groups: NDArray[np.int64]) -> tuple[Mask, Mask]:
    """Tell which times belong to the second pass through the hour, and which of them can be told at all."""
    days = times // _DAY_US
    order = np.lexsort((days, groups))  # stable: the order of the file within a group and day
    changes = (np.diff(groups[order]) != 0) | (np.diff(days[order]) != 0)
    first = np.flatnonzero(np.concatenate(([True], changes)))
    counts = np.diff(np.append(first, len(order)))
    rank = np.arange(len(order)) - np.repeat(first, counts)
    half = np.repeat(counts // 2, counts)
    second = rank >= half
    sorted_times = times[order]
    twin = np.arange(len(order)) + np.where(second, -half, half)
    fits = (np.repeat(counts, counts) % 2 == 0) & (sorted_times[np.minimum(twin, len(order) - 1)] == sorted_times)
    # Ascending within each pass: every time but the first of its pass is later than the one before.
    rises = np.concatenate(([True], np.diff(sorted_times) > 0))
    fits &= rises | (rank == 0) | (rank == half)
    known_runs = np.logical_and.reduceat(fits, first)
    passes, known = np.zeros(len(order), dtype=bool), np.zeros(len(order), dtype=bool)
    passes[order], known[order] = second, np.repeat(known_runs, counts)
    return passes & known, known


def _as_mask(column: pa.Array) -> Mask:
    mask: Mask = column.fill_null(False).to_numpy(zero_copy_only=False)
    return mask
