from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.calendar import US_PER_S, local_calendar, to_date, to_day

ZONES = ("Europe/Helsinki", "Europe/London", "America/New_York", "Australia/Sydney", "America/Sao_Paulo")
FIRST, LAST = to_day(date(1990, 1, 1)), to_day(date(2040, 12, 31))
QUARTER, HALF, HOUR, DAY = 900, 1800, 3600, 86_400


@pytest.mark.parametrize("name", ZONES)
def test_every_day_begins_where_the_clock_says(name):
    """The first second of a day is of that date, and the second before it is not."""
    calendar, zone = local_calendar(name), ZoneInfo(name)
    days = np.arange(FIRST, LAST + 1)
    starts = calendar.start_of(days) // US_PER_S
    for day, start in zip(days.tolist(), starts.tolist(), strict=True):
        assert datetime.fromtimestamp(start, zone).date() == to_date(day)
        assert datetime.fromtimestamp(start - 1, zone).date() == to_date(day - 1)


@pytest.mark.parametrize("name", ZONES)
def test_days_follow_each_other_and_are_as_long_as_the_clock_makes_them(name):
    calendar, zone = local_calendar(name), ZoneInfo(name)
    days = np.arange(FIRST, LAST + 1)
    seconds = calendar.seconds_of(days)
    assert (np.diff(calendar.start_of(days)) == seconds[:-1] * US_PER_S).all()
    assert set(seconds.tolist()) == {82_800, 86_400, 90_000}
    assert (calendar.day_of(calendar.start_of(days)) == days).all()
    assert (calendar.day_of(calendar.start_of(days) - 1) == days - 1).all()
    for day in days[seconds != DAY].tolist():  # an hour more or less: the offset changed on that day
        start = datetime.fromtimestamp(int(calendar.start_of(np.array([day]))[0]) // US_PER_S, UTC)
        before, after = ((start + timedelta(hours=h)).astimezone(zone).utcoffset() for h in (-2, 24))
        assert before - after == timedelta(seconds=int(seconds[day - FIRST]) - DAY)


@given(st.sampled_from(ZONES), st.integers(FIRST * DAY, LAST * DAY))
def test_an_instant_is_of_the_day_that_the_clock_shows(name, second):
    calendar = local_calendar(name)
    [day] = calendar.day_of(np.array([second * US_PER_S]))
    assert to_date(int(day)) == datetime.fromtimestamp(second, ZoneInfo(name)).date()


@pytest.mark.parametrize(
    ("day", "hours", "night_hours"), [("2026-03-29", 23, 8), ("2026-10-25", 25, 10), ("2026-06-21", 24, 9)]
)
def test_slots_of_finnish_days(day, hours, night_hours):
    calendar, number = local_calendar("Europe/Helsinki"), to_day(date.fromisoformat(day))
    for resolution in (QUARTER, HALF, HOUR):
        assert calendar.slots_of(number, resolution) == hours * HOUR // resolution
        night = calendar.night_slots(number, resolution)
        assert len(night) == hours * HOUR // resolution
        assert night.sum() == night_hours * HOUR // resolution
        assert night[0]
        assert night[-1]
        assert not night[len(night) // 2]
    assert calendar.slots_of(number, DAY) == 1


def test_an_evening_clock_change_makes_no_second_midnight():
    """In Sao Paulo the clock went back from 24:00 to 23:00, and forward from 0:00 to 1:00."""
    calendar = local_calendar("America/Sao_Paulo")
    back, forward = to_day(date(2018, 2, 17)), to_day(date(2018, 11, 4))
    assert calendar.seconds_of(np.array([back, forward])).tolist() == [25 * HOUR, 23 * HOUR]
    start = int(calendar.start_of(np.array([forward]))[0]) // US_PER_S
    assert datetime.fromtimestamp(start, ZoneInfo("America/Sao_Paulo")).hour == 1


def test_what_lies_outside_is_not_covered():
    calendar = local_calendar("Europe/Helsinki")
    edges = np.array([calendar.starts[0] - 1, calendar.starts[0], calendar.starts[-1] - 1, calendar.starts[-1]])
    assert calendar.covers(edges).tolist() == [False, True, True, False]
    assert (np.diff(calendar.day_of(edges)) >= 0).all()


def test_days_and_dates_are_inverse():
    for day in (-1, 0, 1, FIRST, LAST):
        assert to_day(to_date(day)) == day
