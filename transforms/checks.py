"""Quality checks: flags for what looks wrong in a day of readings. They look at one local day and reject nothing."""

import numpy as np
import numpy.typing as npt

from schemas.flags import Flag
from schemas.series import DAY_S, MWH_PER_KWH
from schemas.status import Status
from transforms.grid import DayGrid

#: Hours that one value, not zero, must repeat to be flagged FLAT.
FLAT_HOURS = 8
#: Hours of zeros before one value that makes up for them: STALE_THEN_DOUBLE.
STALE_HOURS = 3
#: A SPIKE is this many times the mean of the point's other readings of that day …
SPIKE_FACTOR = 20
#: … and at least this mean power, so that a kettle in an empty house is none.
SPIKE_KW = 5
#: Flags that say nothing about heat: after hours of zeros, any warm water is a spike and makes up for them.
_NOT_OF_HEAT = Flag.ABOVE_FUSE | Flag.SPIKE | Flag.STALE_THEN_DOUBLE
#: Phase voltage; a main fuse carries three phases of it.
VOLTS, PHASES = 230, 3


def check_grid(
    grid: DayGrid, resolution_s: int, fuse_a: npt.NDArray[np.int32], *, is_heat: bool = False
) -> npt.NDArray[np.int32] | None:
    """Flag the readings of a day grid.

    Args:
        grid: one product and resolution of a cell.
        resolution_s: its resolution.
        fuse_a: int32 [points], main fuse in ampere per phase; 0 where unknown.
        is_heat: it is district heat: no fuse carries it, and hours of zeros, then warm water, are a summer's day.

    Returns:
        int32 [points, slots] of ``schemas.flags.Flag`` bits, or None where nothing was noticed.
    """
    flags = None
    for rows in grid.blocks():
        found = _check_block(grid.energy[rows], grid.status[rows], resolution_s, fuse_a[rows])
        if is_heat:
            found &= ~np.int32(_NOT_OF_HEAT)
        if found.any():
            flags = np.zeros(grid.energy.shape, np.int32) if flags is None else flags
            flags[rows] = found
    return flags


def _check_block(
    energy: npt.NDArray[np.int64], status: npt.NDArray[np.int8], resolution_s: int, fuse_a: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    flags = np.zeros(energy.shape, np.int32)
    if energy.min(initial=0) < 0:
        flags[energy < 0] |= Flag.NEGATIVE
    _flag_above_fuse(energy, resolution_s, fuse_a, flags)
    if resolution_s != DAY_S:
        _flag_spikes(energy, status, resolution_s, flags)
        _flag_runs(energy, status, resolution_s, flags)
    return flags


def _flag_above_fuse(
    energy: npt.NDArray[np.int64], resolution_s: int, fuse_a: npt.NDArray[np.int32], flags: npt.NDArray[np.int32]
) -> None:
    # ampere × volt × phases = watt; × seconds / 3.6 = milliwatt-hours
    limit = fuse_a.astype(np.int64) * (VOLTS * PHASES * resolution_s * 10) // 36
    rows = np.flatnonzero((fuse_a > 0) & (energy.max(axis=1, initial=0) > limit))
    flags[rows] |= np.where(energy[rows] > limit[rows, None], np.int32(Flag.ABOVE_FUSE), 0).astype(np.int32)


def _flag_spikes(
    energy: npt.NDArray[np.int64], status: npt.NDArray[np.int8], resolution_s: int, flags: npt.NDArray[np.int32]
) -> None:
    top = energy.max(axis=1, initial=0)
    rows = np.flatnonzero(top >= SPIKE_KW * MWH_PER_KWH * resolution_s // 3600)
    energy, top = energy[rows], top[rows]
    valued = (status[rows] > Status.MISSING).sum(axis=1)
    others = energy.sum(axis=1) - top
    # top > factor × others / (valued − 1), without a division
    spiked = (valued > 1) & (others > 0) & (top * (valued - 1) > SPIKE_FACTOR * others)
    flags[rows[spiked]] |= np.where(energy[spiked] == top[spiked, None], np.int32(Flag.SPIKE), 0).astype(np.int32)


def _flag_runs(
    energy: npt.NDArray[np.int64], status: npt.NDArray[np.int8], resolution_s: int, flags: npt.NDArray[np.int32]
) -> None:
    """Flag long runs of one value, and the value after a long run of zeros that is as large as the run is long."""
    slots_per_hour = 3600 // resolution_s
    shortest = min(FLAT_HOURS, STALE_HOURS) * slots_per_hour
    # Flat, and bytes summed as they are: a third of the time of comparing and summing row by row.
    flat = np.ascontiguousarray(energy).ravel()
    same = np.zeros(energy.shape, bool)
    np.equal(flat[1:], flat[:-1], out=same.ravel()[1:])
    same[:, 0] = False
    repeats = same.view(np.uint8).sum(axis=1, dtype=np.uint16)
    rows = np.flatnonzero(repeats >= shortest - 1)
    if not len(rows):
        return
    energy, valued = energy[rows], status[rows] > Status.MISSING
    run = _run_lengths(energy, valued)
    flat = (run >= FLAT_HOURS * slots_per_hour) & (energy != 0)
    mean = energy.sum(axis=1) // np.maximum(1, valued.sum(axis=1))
    stale = np.zeros(energy.shape, dtype=bool)
    after_zeros = (energy[:, :-1] == 0) & (run[:, :-1] >= STALE_HOURS * slots_per_hour) & (energy[:, 1:] != 0)
    stale[:, 1:] = after_zeros & (energy[:, 1:] > mean[:, None] * run[:, :-1] // 2)
    found = np.where(flat, np.int32(Flag.FLAT), 0) | np.where(stale, np.int32(Flag.STALE_THEN_DOUBLE), 0)
    flags[rows] |= found.astype(np.int32)


def _run_lengths(energy: npt.NDArray[np.int64], valued: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Length of the run of equal values that each slot is in, 0 without a value: int64 [rows, slots]."""
    rows, slots = energy.shape
    new = np.ones((rows, slots), dtype=bool)
    new[:, 1:] = (energy[:, 1:] != energy[:, :-1]) | (valued[:, 1:] != valued[:, :-1])
    number = np.cumsum(new.ravel()) - 1
    return np.where(valued, np.bincount(number)[number].reshape(rows, slots), 0)
