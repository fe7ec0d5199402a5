"""Is a local day complete: of the points under contract, how many are silent, and how many minutes are missing."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.series import ACTIVE_ENERGY
from transforms.calendar import to_date


@dataclass(frozen=True, slots=True)
class DayCount:
    """What a local day has of the active energy of its points under contract; exact.

    Attributes:
        local_date: days since 1970-01-01.
        points: points under contract that day.
        silent_points: those of them without a single value.
        expected_minutes: minutes that the points' days have.
        missing_minutes: those of them without a value.
    """

    local_date: int
    points: int = 0
    silent_points: int = 0
    expected_minutes: int = 0
    missing_minutes: int = 0

    @property
    def date(self) -> date:
        """The local date."""
        return to_date(self.local_date)

    @property
    def missing_share(self) -> float:
        """The share of the minutes that is missing; 0 where none is expected."""
        return self.missing_minutes / self.expected_minutes if self.expected_minutes else 0.0

    def __add__(self, other: "DayCount") -> "DayCount":
        return DayCount(
            self.local_date,
            self.points + other.points,
            self.silent_points + other.silent_points,
            self.expected_minutes + other.expected_minutes,
            self.missing_minutes + other.missing_minutes,
        )


def count_rows(local_date: int, rows: pa.Table) -> DayCount:
    """Count the rows of a cell in a daily dataset of contracted points.

    Args:
        local_date: the cell's, days since 1970-01-01.
        rows: ``product``, ``expected_minutes`` and ``present_minutes``.
    """
    active = rows.filter(pc.equal(rows["product"], ACTIVE_ENERGY))
    expected, present = (active[name].to_numpy().astype(np.int64) for name in ("expected_minutes", "present_minutes"))
    minutes = int(expected.sum())
    return DayCount(local_date, len(active), int((present == 0).sum()), minutes, minutes - int(present.sum()))


def count_silent(local_date: int, points: int, minutes: int) -> DayCount:
    """Count points of which nothing came, of a day of so many minutes."""
    return DayCount(local_date, points, points, points * minutes, points * minutes)
