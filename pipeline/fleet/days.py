"""The local day of a fleet, as the columns that readings of that day can stand in."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from schemas.series import DAY_S

TIME_ZONE = ZoneInfo("Europe/Helsinki")
HOUR_S = 3600
QUARTER_S = 900
_QUARTERS = HOUR_S // QUARTER_S


@dataclass(frozen=True)
class LocalDay:
    """One local date. Its columns are its hours, then its quarter-hours, then the whole day.

    Attributes:
        date: the local date.
    """

    date: date

    @cached_property
    def start(self) -> int:
        """Local midnight that begins the day, seconds since 1970 UTC."""
        return _midnight(self.date)

    @cached_property
    def end(self) -> int:
        """Local midnight that ends the day, seconds since 1970 UTC."""
        return _midnight(self.date + timedelta(days=1))

    @cached_property
    def hours(self) -> int:
        """Length of the day: 23, 24 or 25 hours."""
        return (self.end - self.start) // HOUR_S

    @cached_property
    def number(self) -> int:
        """Days since 1970-01-01, as Arrow's date32."""
        return (self.date - date(1970, 1, 1)).days

    @cached_property
    def column_starts(self) -> npt.NDArray[np.int64]:
        """Start of each column, seconds since 1970 UTC."""
        return np.concatenate(
            [
                self.start + HOUR_S * np.arange(self.hours),
                self.start + QUARTER_S * np.arange(self.hours * _QUARTERS),
                [self.start],
            ]
        )

    @cached_property
    def column_resolutions(self) -> npt.NDArray[np.int32]:
        """Nominal length of each column in seconds."""
        counts = [self.hours, self.hours * _QUARTERS, 1]
        return np.repeat(np.array([HOUR_S, QUARTER_S, DAY_S], dtype=np.int32), counts)

    @cached_property
    def column_hours(self) -> npt.NDArray[np.int64]:
        """Hour of the day, elapsed, that each column lies in; -1 for the whole day."""
        hours = np.arange(self.hours)
        return np.concatenate([hours, np.repeat(hours, _QUARTERS), [-1]])

    @cached_property
    def clock(self) -> npt.NDArray[np.float64]:
        """Local time of each quarter-hour's start, in hours since midnight by the clock on the wall."""
        starts = [datetime.fromtimestamp(int(s), tz=TIME_ZONE) for s in self.column_starts[self.hours : -1]]
        return np.array([start.hour + start.minute / 60 for start in starts])


def _midnight(local_date: date) -> int:
    return int(datetime.combine(local_date, time(), tzinfo=TIME_ZONE).astimezone(UTC).timestamp())
