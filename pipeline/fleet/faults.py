"""Plants faults into a block of metering points on one local day."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import MeterveilError
from pipeline.fleet.days import LocalDay
from pipeline.fleet.deliveries import ROW, Rows, Wave, code_reason
from pipeline.fleet.draws import draw_below
from pipeline.fleet.load import fuse_limit
from pipeline.fleet.options import CELL_FAULTS, FleetOptions
from schemas.reasons import Reason
from schemas.series import DAY_S
from schemas.status import Status

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Cells (a point on a day) that each fault is planted on: this share, and at least so many.
_CELL_SHARE, _CELL_LEAST = 0.002, 4
#: A clock that is set a year ahead.
_AHEAD_S = 366 * DAY_S
_BESIDE_THE_GRID_S = 7 * 60
_REPEATED, _JUNK = 1, 2


@dataclass(frozen=True, eq=False)
class Block:
    """The readings of a block of points on a day, while faults are planted; arrays are ``[point, column of the day]``.

    Attributes:
        day: the local day.
        points: indices in the fleet, ``[point]``, ascending.
        fuse_a: main fuses in ampere, ``[point]``.
        energy: milliwatt-hours of every column, delivered or not.
        status: codes of ``schemas.status``.
        kept: whether the column is delivered in the first wave as it is.
        planted: what is delivered besides, by wave.
    """

    day: LocalDay
    points: Ints
    fuse_a: Ints
    energy: Ints
    status: npt.NDArray[np.int8]
    kept: Bools
    planted: dict[Wave, list[Rows]] = field(default_factory=lambda: defaultdict(list))

    def list_rows(self, kept: Bools, chosen: Ints | slice = slice(None)) -> Rows:
        """List the readings of a mask over the chosen points (all by default) as rows, by point and column."""
        rows = np.zeros(np.count_nonzero(kept), dtype=ROW)
        rows["point"] = np.repeat(self.points[chosen], np.count_nonzero(kept, axis=1))
        rows["start"] = np.broadcast_to(self.day.column_starts, kept.shape)[kept]
        rows["resolution"] = np.broadcast_to(self.day.column_resolutions, kept.shape)[kept]
        rows["energy"] = self.energy[chosen][kept]
        rows["status"] = self.status[chosen][kept]
        return rows


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a block that one fault is planted on.

    Attributes:
        chosen: rows of the block, ``[cell]``.
        window: the columns of the day that the fault touches, ``[cell, column]``.
        variant: a random number that chooses between the forms of the fault, ``[cell]``.
    """

    chosen: Ints
    window: Bools
    variant: Ints

    def delivered(self, block: Block) -> Bools:
        """Tell which columns in the window are delivered, ``[cell, column]``."""
        return self.window & block.kept[self.chosen]


def choose_cells(options: FleetOptions) -> dict[str, Ints]:
    """Choose disjoint cells for every fault: ascending numbers, day × points + point.

    Raises:
        MeterveilError: too few metering points and days for the faults asked for.
    """
    cells = options.points * options.days
    asked = [name for name in CELL_FAULTS if name in options.faults]
    each = max(_CELL_LEAST, round(cells * _CELL_SHARE))
    if cells < each * len(asked):
        raise MeterveilError(
            "too few metering points and days for the faults asked for",
            where="points",
            remedy=f"ask for {each * len(asked)} points × days at least, or for fewer faults",
        )
    chosen = np.random.default_rng([options.seed, 2]).choice(cells, each * len(asked), replace=False)
    parts = dict(zip(asked, np.sort(chosen.reshape(len(asked), each), axis=1), strict=True))
    return {name: parts[name] for name in asked if name in options.planted}


def plant_fault(name: str, seed: int, block: Block, chosen: Ints) -> None:
    """Plant one of ``CELL_FAULTS`` on the chosen rows of a block, which no other fault touches."""
    spread, plant = _FAULTS[name]
    drawn = [draw_below(2**31, seed, f"{name} {what} {block.day.date}", block.points[chosen]) for what in "abc"]
    window = _open_window(spread, block.day, drawn[0], drawn[1])
    plant(block, Cells(chosen, window, drawn[2]))


@dataclass(frozen=True, slots=True)
class _Spread:
    """Where in the day a fault lies, and how many hours it lasts at least and at most."""

    where: Literal["head", "inside", "tail", "day"]
    least: int = 1
    most: int = 3


def _open_window(spread: _Spread, day: LocalDay, for_length: Ints, for_start: Ints) -> Bools:
    length = spread.least + for_length % (spread.most - spread.least + 1)
    match spread.where:
        case "head":
            first = np.zeros_like(length)
        case "tail":
            first = day.hours - length
        case "inside":
            first = 1 + for_start % (day.hours - length - 1)
        case "day":
            first, length = np.zeros_like(length), np.full_like(length, day.hours)
    hours = day.column_hours
    return np.asarray((hours >= first[:, None]) & (hours < (first + length)[:, None]))


def _remove(block: Block, cells: Cells) -> None:
    block.kept[cells.chosen] &= ~cells.window


def _move(wave: Wave) -> Callable[[Block, Cells], None]:
    def plant(block: Block, cells: Cells) -> None:
        block.planted[wave].append(block.list_rows(cells.delivered(block), cells.chosen))
        _remove(block, cells)

    return plant


def _repeat(wave: Wave) -> Callable[[Block, Cells], None]:
    def plant(block: Block, cells: Cells) -> None:
        rows = block.list_rows(cells.delivered(block), cells.chosen)
        rows["layer"] = _REPEATED
        block.planted[wave].append(rows)

    return plant


def _correct(wave: Wave, status: Status) -> Callable[[Block, Cells], None]:
    def plant(block: Block, cells: Cells) -> None:
        rows = block.list_rows(cells.delivered(block), cells.chosen)
        rows["energy"] += 1000 + rows["energy"] // 3000 * 1000
        rows["status"] = status
        block.planted[wave].append(rows)

    return plant


def _conflict(block: Block, cells: Cells) -> None:
    """More or less energy, or weaker and more, in another file or (every fourth) in the same one."""
    kept = cells.delivered(block)
    rows = block.list_rows(kept, cells.chosen)
    form = np.repeat(cells.variant % 4, np.count_nonzero(kept, axis=1))
    rows["energy"] += np.where(form == 1, -1000, 1000)
    rows["status"] = np.where(form == 2, Status.ESTIMATED, Status.OK)
    rows["layer"] = np.where(form == 3, _REPEATED, 0)
    block.planted[Wave.FIRST].append(rows[form == 3])
    block.planted[Wave.AGAIN].append(rows[form != 3])


def _deliver_other_resolution(block: Block, cells: Cells) -> None:
    _deliver_rivals(block, cells, cells.window & ~block.kept[cells.chosen])


def _deliver_daily_value(block: Block, cells: Cells) -> None:
    whole_day = np.zeros_like(cells.window)
    whole_day[:, -1] = True
    _deliver_rivals(block, cells, whole_day)


def _deliver_rivals(block: Block, cells: Cells, rivals: Bools) -> None:
    """Register before, together with or after the values that it stands beside."""
    for form, wave in enumerate((Wave.EARLY, Wave.AGAIN, Wave.LATE)):
        these = cells.variant % 3 == form
        block.planted[wave].append(block.list_rows(rivals[these], cells.chosen[these]))


def _alter(change: Callable[[Block, Cells, Ints], Ints]) -> Callable[[Block, Cells], None]:
    """Alter the energy of the window in place: ``change`` gets it as ``[cell, column]`` and gives it back."""

    def plant(block: Block, cells: Cells) -> None:
        before = block.energy[cells.chosen]
        block.energy[cells.chosen] = np.where(cells.window, change(block, cells, before), before)

    return plant


def _mark(status: Status) -> Callable[[Block, Cells], None]:
    def plant(block: Block, cells: Cells) -> None:
        block.status[cells.chosen] = np.where(cells.window, np.int8(status), block.status[cells.chosen])
        if status is Status.MISSING:
            block.energy[cells.chosen] = np.where(cells.window, 0, block.energy[cells.chosen])

    return plant


def _negate(_block: Block, _cells: Cells, energy: Ints) -> Ints:
    return -energy - 1000


def _exceed_fuse(block: Block, cells: Cells, energy: Ints) -> Ints:
    return _find_limits(block, cells) + energy + 1000


def _flatten(_block: Block, cells: Cells, energy: Ints) -> Ints:
    level = 50_000 + cells.variant % 200 * 1000
    return np.broadcast_to(level[:, None], energy.shape)


def _spike(block: Block, cells: Cells, energy: Ints) -> Ints:
    """One delivered value near what the fuse carries, far above the rest of the day."""
    peak = _find_limits(block, cells) * 19 // 20
    return np.where(_find_first(cells.delivered(block)), peak, energy // 4 // 1000 * 1000)


def _make_stale(block: Block, cells: Cells, energy: Ints) -> Ints:
    delivered = cells.delivered(block)
    made_up = np.where(delivered, energy, 0).sum(axis=1, keepdims=True)
    return np.where(_find_first(delivered[:, ::-1])[:, ::-1], made_up, 0)


def _find_limits(block: Block, cells: Cells) -> Ints:
    return fuse_limit(block.fuse_a[cells.chosen][:, None], block.day.column_resolutions)


def _find_first(mask: Bools) -> Bools:
    """Keep the first true column of each cell only."""
    return np.asarray(mask & (np.cumsum(mask, axis=1) == 1))


def _spoil(reason: Reason, *, shift_s: int = 0) -> Callable[[Block, Cells], None]:
    """Take readings out of the block and deliver them spoiled, in the same file and place."""

    def plant(block: Block, cells: Cells) -> None:
        rows = block.list_rows(cells.delivered(block), cells.chosen)
        rows["spoiled"] = code_reason(reason)
        rows["start"] += shift_s
        block.planted[Wave.FIRST].append(rows)
        _remove(block, cells)

    return plant


def _add_junk(block: Block, cells: Cells) -> None:
    rows = block.list_rows(_find_first(cells.delivered(block)), cells.chosen)
    rows["spoiled"] = code_reason(Reason.UNREADABLE_ROW)
    rows["layer"] = _JUNK
    block.planted[Wave.FIRST].append(rows)


_DAY = _Spread("day")
_SHORT = _Spread("inside", 1, 2)
_HOURS = _Spread("inside", 2, 5)
_HALF_DAY = _Spread("inside", 10, 14)

_FAULTS: dict[str, tuple[_Spread, Callable[[Block, Cells], None]]] = {
    "gap_head": (_Spread("head", 1, 4), _remove),
    "gap_tail": (_Spread("tail", 1, 4), _remove),
    "gap_inside": (_HOURS, _remove),
    "day_absent": (_DAY, _remove),
    "late": (_HOURS, _move(Wave.LATE)),
    "redelivery": (_HOURS, _repeat(Wave.LATE)),
    "duplicate_same_file": (_HOURS, _repeat(Wave.FIRST)),
    "duplicate_other_file": (_HOURS, _repeat(Wave.AGAIN)),
    "late_older": (_HOURS, _correct(Wave.EARLY, Status.ESTIMATED)),
    "correction": (_HOURS, _correct(Wave.CORRECTION, Status.REVISED)),
    "conflict": (_HOURS, _conflict),
    "two_resolutions": (_HOURS, _deliver_other_resolution),
    "daily_value": (_DAY, _deliver_daily_value),
    "missing": (_HOURS, _mark(Status.MISSING)),
    "estimated": (_HOURS, _mark(Status.ESTIMATED)),
    "negative": (_SHORT, _alter(_negate)),
    "above_fuse": (_SHORT, _alter(_exceed_fuse)),
    "flat": (_HALF_DAY, _alter(_flatten)),
    "spike": (_HALF_DAY, _alter(_spike)),
    "stale_then_double": (_HOURS, _alter(_make_stale)),
    "bad_energy": (_SHORT, _spoil(Reason.BAD_ENERGY)),
    "unknown_status": (_SHORT, _spoil(Reason.UNKNOWN_STATUS)),
    "off_grid": (_SHORT, _spoil(Reason.OFF_GRID, shift_s=_BESIDE_THE_GRID_S)),
    "future": (_SHORT, _spoil(Reason.FUTURE, shift_s=_AHEAD_S)),
    "mangled_identifier": (_SHORT, _spoil(Reason.MANGLED_IDENTIFIER)),
    "junk_row": (_SHORT, _add_junk),
}
