"""Coarsening: a day grid summed to one row per metering point, product and local date, exactly."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.series import ACTIVE_ENERGY, DAY_S
from schemas.status import STATUS_WORDS, Status
from transforms.calendar import LocalCalendar
from transforms.grid import CellGrids
from transforms.rows import Rows

Ints = npt.NDArray[np.int64]
_LEAST, _GREATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(slots=True, eq=False)
class _Day:
    """Sums of one product per point of the cell, gathered over its resolutions."""

    energy: Ints
    night: Ints
    minutes: Ints
    peak: Ints
    base: Ints
    weakest: Ints
    seen: npt.NDArray[np.bool_]
    whole: npt.NDArray[np.bool_]  # has a daily value, of which no night can be told

    @classmethod
    def empty(cls, points: int) -> "_Day":
        energy, night, minutes = (np.zeros(points, np.int64) for _ in range(3))
        peak, base = np.full(points, _LEAST), np.full(points, _GREATEST)
        weakest = np.full(points, int(Status.REVISED))
        return cls(energy, night, minutes, peak, base, weakest, np.zeros(points, bool), np.zeros(points, bool))


def sum_days(
    cell: CellGrids, place: Ints, contracted: npt.NDArray[np.bool_], calendar: LocalCalendar
) -> tuple[Ints, Rows]:
    """Sum a cell to days.

    Args:
        cell: merged grids.
        place: int64 [points of the cell], where each stands among all points of the day, silent ones included.
        contracted: bool [all points]; such a point gets a row of active energy even with nothing present.
        calendar: local days of the lake.

    Returns:
        The point of each row (among all points), and rows with ``product``, ``energy`` (int64 milliwatt-hours, null
        where no value is present), ``expected_minutes``, ``present_minutes``, ``status`` (the weakest; PARTIAL where
        some values are missing), ``peak_kw`` and ``base_kw`` (int64 millionths of a kW), ``night_share`` and
        ``load_factor``; sorted by metering point and product.
    """
    expected = int(calendar.seconds_of(np.array([cell.local_date]))[0]) // 60
    days = {ACTIVE_ENERGY: _Day.empty(len(contracted))}
    days[ACTIVE_ENERGY].seen |= contracted
    for (product, resolution), grid in cell.grids.items():
        day = days.setdefault(product, _Day.empty(len(contracted)))
        at = place[grid.points]
        daily = resolution == DAY_S
        night = None if daily else calendar.night_slots(cell.local_date, resolution)
        for rows in grid.blocks():
            _add(day, at[rows], grid.energy[rows], grid.status[rows], expected * 60 if daily else resolution, night)
    products = sorted(days)
    point = np.concatenate([np.flatnonzero(days[product].seen) for product in products])
    code = np.concatenate([np.full(days[product].seen.sum(), n) for n, product in enumerate(products)])
    columns = [_columns(days[product], expected) for product in products]
    merged = {name: pa.concat_arrays([part[name] for part in columns]) for name in columns[0]}
    merged["product"] = pa.array(products).take(pa.array(code))
    order = np.lexsort((code, point))
    return point[order], Rows(merged).select(order)


def _add(
    day: _Day,
    at: Ints,
    energy: Ints,
    status: npt.NDArray[np.int8],
    seconds: int,
    night: npt.NDArray[np.bool_] | None,
) -> None:
    """Add rows of a grid. A slot has ``seconds``; ``night`` tells the night slots, None for daily values."""
    valued = status > Status.MISSING
    some, all_valued = valued.any(axis=1), bool(valued.all())
    day.seen[at] |= (status >= Status.MISSING).any(axis=1)
    day.energy[at] += energy.sum(axis=1)
    day.minutes[at] += valued.sum(axis=1) * (seconds // 60)
    if night is None:
        day.whole[at] |= some
    else:
        day.night[at] += energy[:, night].sum(axis=1)
    top = energy.max(axis=1) if all_valued else np.where(valued, energy, _LEAST).max(axis=1)
    low = energy.min(axis=1) if all_valued else np.where(valued, energy, _GREATEST).min(axis=1)
    weakest = status.min(axis=1) if all_valued else np.where(valued, status, np.int8(Status.REVISED)).min(axis=1)
    day.peak[at] = np.where(some, np.maximum(day.peak[at], top * 3600 // seconds), day.peak[at])
    day.base[at] = np.where(some, np.minimum(day.base[at], low * 3600 // seconds), day.base[at])
    day.weakest[at] = np.where(some, np.minimum(day.weakest[at], weakest), day.weakest[at])


def _columns(day: _Day, expected: int) -> dict[str, pa.Array]:
    at = np.flatnonzero(day.seen)
    minutes, energy, peak = day.minutes[at], day.energy[at], day.peak[at]
    nothing = minutes == 0
    status = np.where(minutes < expected, np.minimum(day.weakest[at], Status.PARTIAL), day.weakest[at])
    status = np.where(nothing, Status.MISSING, status).astype(np.int8)
    with np.errstate(divide="ignore", invalid="ignore"):
        night_share = day.night[at] / energy
        load_factor = energy * 60 / minutes / peak
    return {
        "energy": pa.array(energy, mask=nothing),
        "expected_minutes": pa.array(np.full(len(at), expected, np.int32)),
        "present_minutes": pa.array(minutes.astype(np.int32)),
        "status": pa.DictionaryArray.from_arrays(pa.array(status), pa.array(STATUS_WORDS)),
        "peak_kw": pa.array(peak, mask=nothing),
        "base_kw": pa.array(day.base[at], mask=nothing),
        "night_share": pa.array(np.round(night_share, 4), mask=nothing | day.whole[at] | (energy <= 0)),
        "load_factor": pa.array(np.round(load_factor, 4), mask=nothing | (peak <= 0)),
    }
