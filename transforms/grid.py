"""The day grids of a cell: its readings at one product and resolution each, as arrays of points by slots."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.flags import Flag
from transforms.calendar import LocalCalendar

Ints = npt.NDArray[np.int64]

#: Status of a slot without a reading. Weaker than any status, so that any delivery beats it.
ABSENT = np.int8(-1)
#: Slots that are worked on at a time.
BLOCK_SLOTS = 1 << 18
#: A time before any other, where an int64 time is not there.
NEVER = np.iinfo(np.int64).min


@dataclass(slots=True, eq=False)
class Superseded:
    """Readings that lost in a merge: how many, and their energy in milliwatt-hours, by kind.

    ``identical``: the same registration, status and energy again. ``older``: of two registrations the earlier.
    ``conflicting``: the same registration with other values. ``other_resolution``: an hour counts once.
    """

    counts: dict[str, int] = field(default_factory=dict)
    energies: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, energy: npt.NDArray[np.int64]) -> None:
        """Count the readings with these energies as superseded."""
        if len(energy):
            self.counts[kind] = self.counts.get(kind, 0) + len(energy)
            self.energies[kind] = self.energies.get(kind, 0) + int(energy.sum())


@dataclass(slots=True, eq=False)
class DayGrid:
    """Readings of one product and resolution in one cell; a slot without a reading has status ``ABSENT``.

    Attributes:
        points: int64 [points], the points of the cell that have this product and resolution, ascending.
        energy: int64 [points, slots], milliwatt-hours, 0 under MISSING and ABSENT.
        status: int8 [points, slots].
        registered: int32 [points, slots], rank of the registration time among the cell's times.
        flags: int32 [points, slots], the flags that are state of the merge; None while there are none.
        rival: int64 [points, slots], µs of ``rival_registered_at`` or ``NEVER``; None while there are none.
        daily_rival: the same for ``daily_rival_registered_at``.
    """

    points: Ints
    energy: npt.NDArray[np.int64]
    status: npt.NDArray[np.int8]
    registered: npt.NDArray[np.int32]
    flags: npt.NDArray[np.int32] | None = None
    rival: npt.NDArray[np.int64] | None = None
    daily_rival: npt.NDArray[np.int64] | None = None

    @classmethod
    def empty(cls, points: Ints, slots: int) -> "DayGrid":
        """Make a grid in which every slot is absent."""
        shape = (len(points), slots)
        return cls(points, np.zeros(shape, np.int64), np.full(shape, ABSENT), np.zeros(shape, np.int32))

    def blocks(self) -> Iterator[slice]:
        """Cut the rows into stretches whose slots, and what is computed of them, stay in the processor's cache."""
        rows = max(1, BLOCK_SLOTS // self.status.shape[1])
        return (slice(begin, begin + rows) for begin in range(0, max(1, len(self.points)), rows))

    def merge(
        self,
        at: npt.NDArray[np.intp],
        energy: npt.NDArray[np.int64],
        status: npt.NDArray[np.int8],
        registered: npt.NDArray[np.int32],
        superseded: Superseded,
    ) -> None:
        """Let deliveries compete with what the slots hold: the latest registration wins.

        Of equal registrations the stronger status wins, then the greater energy, and the slot is flagged
        ``CONFLICTING_DUPLICATE``. The rule depends on the deliveries alone, not on their order.

        Args:
            at: the slots, each at most once: flat indices.
            energy, status, registered: the deliveries, aligned with ``at``.
            superseded: where the losers are counted.
        """
        flat_energy, flat_status, flat_registered = self.energy.ravel(), self.status.ravel(), self.registered.ravel()
        old_energy, old_status, old_registered = flat_energy[at], flat_status[at], flat_registered[at]
        held = old_status != ABSENT
        same_time = held & (registered == old_registered)
        identical = same_time & (status == old_status) & (energy == old_energy)
        conflict = same_time & ~identical
        wins = ~held | (registered > old_registered)
        wins |= conflict & ((status > old_status) | ((status == old_status) & (energy > old_energy)))
        loser = np.where(wins, old_energy, energy)
        superseded.add("identical", energy[identical])
        superseded.add("conflicting", loser[conflict])
        superseded.add("older", loser[held & ~same_time])
        won = at[wins]
        flat_energy[won], flat_status[won], flat_registered[won] = energy[wins], status[wins], registered[wins]
        if self.flags is None and conflict.any():
            self.flags = np.zeros(self.energy.shape, np.int32)
        if self.flags is not None:
            flat_flags = self.flags.ravel()
            # A later registration leaves an earlier conflict behind; what the rival is, it does not change.
            flat_flags[at[wins & ~conflict]] &= ~np.int32(Flag.CONFLICTING_DUPLICATE)
            flat_flags[at[conflict]] |= np.int32(Flag.CONFLICTING_DUPLICATE)


@dataclass(frozen=True, slots=True, eq=False)
class CellGrids:
    """The readings of one cell.

    Attributes:
        local_date: days since 1970-01-01.
        ids: sorted distinct metering points (string): the rows of every grid.
        grids: (product, resolution in seconds) to the grid.
        places: where each grid begins in the flat arrays.
        times: sorted distinct int64 µs, registration time by rank.
        energy, status, registered: flat; the grids, one after the other, are views of them.
    """

    local_date: int
    ids: pa.Array
    grids: dict[tuple[str, int], DayGrid]
    places: dict[tuple[str, int], int]
    times: Ints
    energy: Ints
    status: npt.NDArray[np.int8]
    registered: npt.NDArray[np.int32]

    @classmethod
    def empty(
        cls,
        local_date: int,
        ids: pa.Array,
        points: Mapping[tuple[str, int], Ints],
        times: Ints,
        calendar: LocalCalendar,
    ) -> "CellGrids":
        """Make an empty grid for every product and resolution; ``points`` has the rows of each, ascending."""
        slots = {key: calendar.slots_of(local_date, key[1]) for key in points}
        ends = np.cumsum([len(points[key]) * slots[key] for key in points], dtype=np.int64).tolist()
        places = dict(zip(points, [0, *ends], strict=False))
        count = ends[-1] if ends else 0
        flat = np.zeros(count, np.int64), np.full(count, ABSENT), np.zeros(count, np.int32)

        def view(key: tuple[str, int]) -> DayGrid:
            shape = (len(points[key]), slots[key])
            stretch = slice(places[key], places[key] + shape[0] * shape[1])
            energy, status, registered = (array[stretch].reshape(shape) for array in flat)
            return DayGrid(points[key], energy, status, registered)

        return cls(local_date, ids, {key: view(key) for key in points}, places, times, *flat)
