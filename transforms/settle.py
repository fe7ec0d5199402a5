"""The second rule of the merge: an hour that was delivered at two resolutions counts once.

A reading counts if and only if no reading of another resolution was *ever* delivered in its hour with a later
registration; of equal ones the finer resolution counts. A daily value competes with its whole day in the same way. That
is a function of the set of all deliveries, so it can't depend on their order; but losers are not kept, so survivors
remember them: ``rival`` is the latest registration of another resolution in the hour, with ``RIVAL_FINER`` where that
rival is the finer one, and ``daily_rival`` is the latest registration of a daily value of the day. The newest reading
of an hour beats every rival, so it always survives to carry them.

Two facts keep what must be remembered small. All survivors of an hour have one resolution, that of its newest reading.
And a rival older than the daily rival is forgotten: whatever it would beat, the daily rival beats too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.flags import Flag
from schemas.series import DAY_S
from transforms.grid import ABSENT, NEVER, DayGrid, Superseded

Ints = npt.NDArray[np.int64]
_HOUR_S = 3600
#: More hours than any local day has.
_HOURS = 32


@dataclass(slots=True, eq=False)
class _Contested:
    """Readings of the contested points at one resolution, long: aligned arrays and where they stand in the grid.

    Contested points are numbered from 0, so that what is kept per hour is small.
    """

    resolution: int
    at: npt.NDArray[np.intp]
    hour: Ints  # point * _HOURS + hour of the day
    point: Ints
    time: Ints
    rival: Ints
    rival_finer: npt.NDArray[np.bool_]
    daily_rival: Ints


def settle(grids: Mapping[int, DayGrid], points: int, times: Ints, superseded: Superseded) -> None:
    """Let the resolutions of one product in one cell compete, in place.

    Args:
        grids: resolution in seconds to its grid, already merged by the first rule.
        points: number of points of the cell.
        times: int64 µs, registration time by rank.
        superseded: where the losers are counted, as ``other_resolution``.
    """
    if len(grids) == 1 and all(grid.rival is None and grid.daily_rival is None for grid in grids.values()):
        return
    resolutions = np.zeros(points, np.int64)
    contested = np.zeros(points, dtype=bool)
    for grid in grids.values():
        resolutions[grid.points] += 1
        for carried in (grid.rival, grid.daily_rival):
            if carried is not None:
                contested[grid.points] |= (carried != NEVER).any(axis=1)
    contested |= resolutions > 1
    if not contested.any():
        return
    number = np.cumsum(contested) - 1
    readings = [_gather(resolution, grid, contested, number, times) for resolution, grid in sorted(grids.items())]
    hours = int(contested.sum()) * _HOURS
    daily_best, finest_best = _best_of_day(readings, int(contested.sum()))
    for part in readings:
        if part.resolution == DAY_S:
            rival, finer = np.full(len(part.at), NEVER), np.zeros(len(part.at), dtype=bool)
            daily = np.full(len(part.at), NEVER)
            counts = part.time > finest_best[part.point]
        else:
            rival, finer = _rival_of_hour(part, readings, hours)
            daily = daily_best[part.point]
            counts = (part.time > rival) | ((part.time == rival) & ~finer)
            counts &= part.time >= daily
            forgotten = rival < daily
            rival, finer = np.where(forgotten, NEVER, rival), finer & ~forgotten
        _apply(grids[part.resolution], part.at, counts, (rival, finer, daily), superseded)


def _gather(resolution: int, grid: DayGrid, contested: npt.NDArray[np.bool_], number: Ints, times: Ints) -> _Contested:
    chosen = np.flatnonzero(contested[grid.points])
    found, slot = np.nonzero(grid.status[chosen] != ABSENT)
    row = chosen[found]
    point = number[grid.points[row]]
    at = row * grid.status.shape[1] + slot
    never = np.full(len(at), NEVER)
    finer = np.zeros(len(at), bool) if grid.flags is None else (grid.flags.ravel()[at] & Flag.RIVAL_FINER) != 0
    return _Contested(
        resolution=resolution,
        at=at,
        hour=point * _HOURS + (0 if resolution == DAY_S else slot * resolution // _HOUR_S),
        point=point,
        time=times[grid.registered.ravel()[at]],
        rival=never if grid.rival is None else grid.rival.ravel()[at],
        rival_finer=finer,
        daily_rival=never if grid.daily_rival is None else grid.daily_rival.ravel()[at],
    )


def _best_of_day(readings: list[_Contested], points: int) -> tuple[Ints, Ints]:
    """Find per point the latest registration ever of a daily value, and the latest of any finer reading."""
    daily, finer = np.full(points, NEVER), np.full(points, NEVER)
    for part in readings:
        np.maximum.at(daily if part.resolution == DAY_S else finer, part.point, part.time)
        np.maximum.at(daily, part.point, part.daily_rival)
    return daily, finer


def _rival_of_hour(part: _Contested, readings: list[_Contested], hours: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Find per reading the latest registration of another resolution in its hour, and whether that is a finer one.

    What a reading of this resolution remembers holds for all readings of this resolution in its hour. What readings of
    other resolutions remember need not be looked at: they are later than what they remember.
    """
    best, finer = np.full(hours, NEVER), np.zeros(hours, dtype=bool)
    for other in readings:
        if other.resolution == DAY_S:
            continue
        if other is part:
            time, is_finer = other.rival, other.rival_finer
        else:
            time, is_finer = other.time, np.full(len(other.at), other.resolution < part.resolution)
        later = np.full(hours, NEVER)
        np.maximum.at(later, other.hour, time)
        later_finer = np.zeros(hours, dtype=bool)
        later_finer[other.hour[(time == later[other.hour]) & is_finer]] = True
        finer = np.where(later > best, later_finer, finer | (later_finer & (later == best)))
        best = np.maximum(best, later)
    return best[part.hour], finer[part.hour] & (best[part.hour] != NEVER)


def _apply(
    grid: DayGrid,
    at: npt.NDArray[np.intp],
    counts: npt.NDArray[np.bool_],
    carried: tuple[Ints, npt.NDArray[np.bool_], Ints],
    superseded: Superseded,
) -> None:
    """Take the losers out of the grid and let the survivors remember their rivals."""
    rival, finer, daily = carried
    flat_energy = grid.energy.ravel()
    lost = at[~counts]
    superseded.add("other_resolution", flat_energy[lost])
    flat_energy[lost] = 0
    grid.status.ravel()[lost] = ABSENT
    if finer.any() and grid.flags is None:
        grid.flags = np.zeros(grid.energy.shape, np.int32)
    if grid.flags is not None:
        flat_flags = grid.flags.ravel()
        flat_flags[at] &= ~np.int32(Flag.RIVAL_FINER)
        flat_flags[at[finer & counts]] |= np.int32(Flag.RIVAL_FINER)
        flat_flags[lost] = 0
    grid.rival = _remember(grid.rival, grid, at, np.where(counts, rival, NEVER))
    grid.daily_rival = _remember(grid.daily_rival, grid, at, np.where(counts, daily, NEVER))


def _remember(known: npt.NDArray[np.int64] | None, grid: DayGrid, at: npt.NDArray[np.intp], value: Ints) -> Ints | None:
    if known is None:
        if (value == NEVER).all():
            return None
        known = np.full(grid.energy.shape, NEVER)
    known.ravel()[at] = value
    return known
