"""Local days of a time zone: where each begins in UTC, how long it is, which slots it has."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from schemas.series import DAY_S

US_PER_S = 1_000_000
_EPOCH = date(1970, 1, 1)
#: Days that a calendar knows. Readings outside are off the grid: no smart meter is older, none reports from there.
FIRST_DAY, LAST_DAY = date(1980, 1, 1), date(2080, 1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class LocalCalendar:
    """The local days of one time zone, from ``FIRST_DAY`` to ``LAST_DAY``.

    Attributes:
        time_zone: IANA name.
        first: number of the first day, in days since 1970-01-01.
        starts: int64 microseconds since 1970 UTC at which each local day begins, one more than there are days.
    """

    time_zone: str
    first: int
    starts: npt.NDArray[np.int64]

    def covers(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Tell which instants (int64 µs, UTC) lie within the calendar."""
        within: npt.NDArray[np.bool_] = (times >= self.starts[0]) & (times < self.starts[-1])
        return within

    def day_of(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Find the local day of each instant: int64 days since 1970-01-01. Instants outside get the nearest day."""
        found = np.searchsorted(self.starts, times, side="right") - 1
        return np.clip(found, 0, len(self.starts) - 2) + self.first

    def start_of(self, days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Give the instant (int64 µs, UTC) at which each local day begins."""
        return self.starts[days - self.first]

    def seconds_of(self, days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Give the length of each local day in seconds: 82,800, 86,400 or 90,000 in Europe."""
        at = days - self.first
        return (self.starts[at + 1] - self.starts[at]) // US_PER_S

    def slots_of(self, day: int, resolution_s: int) -> int:
        """Count the slots of a local day at a resolution: 92, 96 or 100 quarter-hours; one for a daily value."""
        if resolution_s == DAY_S:
            return 1
        return -(-int(self.seconds_of(np.array([day]))[0]) // resolution_s)

    def night_slots(self, day: int, resolution_s: int) -> npt.NDArray[np.bool_]:
        """Tell which slots of a local day begin between 22 and 07 local time: bool, one per slot."""
        hours = self.hours_of(day, resolution_s)
        return (hours >= 22) | (hours < 7)

    def hours_of(self, day: int, resolution_s: int) -> npt.NDArray[np.int64]:
        """Give the local hour, 0 to 23, in which each slot of a local day begins."""
        slots = self.slots_of(day, resolution_s)
        zone = ZoneInfo(self.time_zone)
        first = datetime.fromtimestamp(int(self.starts[day - self.first]) // US_PER_S, UTC)
        hours = [(first + timedelta(seconds=slot * resolution_s)).astimezone(zone).hour for slot in range(slots)]
        return np.array(hours, np.int64)


@cache
def local_calendar(time_zone: str) -> LocalCalendar:
    """Build the calendar of a time zone, once a process.

    A day begins at local midnight; where the clock skips midnight, at the first instant after the gap; where midnight
    occurs twice, at the earlier one.

    Raises:
        zoneinfo.ZoneInfoNotFoundError: the zone is unknown.
    """
    zone = ZoneInfo(time_zone)
    count = (LAST_DAY - FIRST_DAY).days + 1
    starts = np.empty(count, dtype=np.int64)
    for index in range(count):
        day = FIRST_DAY + timedelta(days=index)
        midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
        instant = midnight.astimezone(UTC)
        if instant.astimezone(zone).time() != midnight.time():
            instant = _first_instant_of(day, zone)  # the clock skips midnight
        starts[index] = int(instant.timestamp()) * US_PER_S
    return LocalCalendar(time_zone, (FIRST_DAY - _EPOCH).days, starts)


def _first_instant_of(day: date, zone: ZoneInfo) -> datetime:
    """Find, to the second, the first instant whose local date is ``day``, by halving."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=zone).astimezone(UTC)
    low, high = int(noon.timestamp()) - 2 * DAY_S, int(noon.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).date() < day:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)


def to_date(day: int) -> date:
    """Turn days since 1970-01-01 into a date."""
    return _EPOCH + timedelta(days=day)


def to_day(local_date: date) -> int:
    """Turn a date into days since 1970-01-01."""
    return (local_date - _EPOCH).days


def local_day(moment: datetime, time_zone: str) -> int:
    """Give the local date of a moment, in days since 1970-01-01."""
    return to_day(moment.astimezone(ZoneInfo(time_zone)).date())
