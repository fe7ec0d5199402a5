"""Validation of canonical series: whatever a reading itself shows to be wrong goes to quarantine with a reason."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.reasons import Reason
from schemas.series import MAX_ENERGY
from schemas.status import Status
from transforms.calendar import US_PER_S, LocalCalendar
from transforms.pieces import Pieces, as_int64, locate
from transforms.series import drop_readings, reject_readings


def validate(batch: pa.RecordBatch, calendar: LocalCalendar) -> tuple[pa.RecordBatch, Pieces, list[pa.RecordBatch]]:
    """Set aside the readings of a series batch that break a rule by themselves.

    Args:
        batch: series batch.
        calendar: local days of the lake; a start must be a whole number of steps after local midnight.

    Returns:
        The readings that remain, their pieces, and a rejected batch per rule that was broken, in order of precedence.
    """
    pieces = locate(batch, calendar)
    broken = {
        reason: mask for reason, mask in _broken(batch, pieces, calendar).items() if mask is not None and mask.any()
    }
    if not broken:
        return batch, pieces, []
    offsets = batch.column("energy").offsets.to_numpy().astype(np.int64)
    seen = np.zeros(offsets[-1] - offsets[0], dtype=bool)
    rejected = []
    for reason, mask in broken.items():
        flat = np.flatnonzero(mask & ~seen)
        seen |= mask
        series = np.searchsorted(offsets, flat, side="right") - 1
        rejected.append(reject_readings(batch, series, flat - offsets[series], reason))
    rest = drop_readings(batch, seen)
    return rest, locate(rest, calendar), rejected


def _broken(
    batch: pa.RecordBatch, pieces: Pieces, calendar: LocalCalendar
) -> dict[Reason, npt.NDArray[np.bool_] | None]:
    """Find the flat readings that break each rule: a mask, or None where a cheap look shows that none does."""
    energy = batch.column("energy").flatten().to_numpy()
    status = batch.column("status").flatten().to_numpy()
    if not len(energy):
        return {}
    out_of_range = energy.min() < -MAX_ENERGY or energy.max() > MAX_ENERGY
    unknown = status.min() < Status.MISSING or status.max() > Status.REVISED
    off_grid = np.repeat(~pieces.on_grid, np.diff(pieces.offset)) if not pieces.on_grid.all() else None
    return {
        Reason.BAD_ENERGY: (energy < -MAX_ENERGY) | (energy > MAX_ENERGY) if out_of_range else None,
        Reason.UNKNOWN_STATUS: (status < Status.MISSING) | (status > Status.REVISED) if unknown else None,
        Reason.OFF_GRID: off_grid,
        Reason.FUTURE: _after_registration(batch, pieces, calendar),
    }


def _after_registration(batch: pa.RecordBatch, pieces: Pieces, calendar: LocalCalendar) -> npt.NDArray[np.bool_] | None:
    """Find readings whose interval starts after they were registered."""
    counts = np.diff(pieces.offset)
    step = batch.column("resolution_s").to_numpy().astype(np.int64)[pieces.series] * US_PER_S
    begins = calendar.start_of(pieces.day) + pieces.slot * step
    registered = as_int64(batch.column("registered_at"))[pieces.series]
    late = begins + (counts - 1) * step > registered
    if not late.any():
        return None
    allowed = np.where(late, np.maximum(0, (registered - begins) // step + 1), counts)
    nth = np.arange(counts.sum()) - np.repeat(pieces.offset[:-1] - pieces.offset[0], counts)
    after: npt.NDArray[np.bool_] = nth >= np.repeat(allowed, counts)
    return after
