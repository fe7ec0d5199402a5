from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.series import ACTIVE_ENERGY
from transforms.calendar import US_PER_S, local_calendar, to_day
from transforms.grid import ABSENT, CellGrids
from transforms.indicators import SUMS, compare_seasons, merge_sums, sum_cell, tell_indicators, tell_solar

ZONE = ZoneInfo("Europe/Helsinki")
CALENDAR = local_calendar("Europe/Helsinki")
#: A Sunday of 23 hours, a Monday, a Saturday, a Sunday of 25 hours.
DAYS = [date(2026, 3, 29), date(2026, 6, 1), date(2026, 6, 6), date(2026, 10, 25)]
DAY, HEAT = 86_400, "district_heat"
KEYS = ("point", "product")
KWH = 1_000_000


@st.composite
def cells(draw) -> CellGrids:
    """Draw merged grids of three points: per point and product one resolution an hour, or a daily value alone."""
    day = to_day(draw(st.sampled_from(DAYS)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    hours = CALENDAR.slots_of(day, 3600)
    of_hours = {}
    for product in (ACTIVE_ENERGY, HEAT):
        of_hour = random.choice([900, 3600, 0], (3, hours))
        of_hour[random.random(3) < 0.3] = DAY
        of_hours |= {(product, resolution): of_hour == resolution for resolution in (900, 3600, DAY)}
    points = {key: np.flatnonzero(chosen.any(axis=1)) for key, chosen in of_hours.items() if chosen.any()}
    cell = CellGrids.empty(day, pa.array(["P0", "P1", "P2"]), points, np.zeros(1, np.int64), CALENDAR)
    least = draw(st.sampled_from([0, -KWH]))
    for key, grid in cell.grids.items():
        slot_hour = np.arange(grid.energy.shape[1]) * min(key[1], 3600) // 3600
        present = of_hours[key][grid.points][:, slot_hour]
        grid.status[:] = np.where(present, random.choice([ABSENT, 0, 3, 5], present.shape), ABSENT)
        grid.energy[:] = np.where(grid.status > 0, random.integers(least, 5 * KWH, present.shape), 0)
    return cell


def list_readings(cell: CellGrids) -> dict[tuple[int, str], list[tuple[datetime, int, int]]]:
    """List start, seconds and energy of every value, by point and product."""
    start = int(CALENDAR.start_of(np.array([cell.local_date]))[0]) // US_PER_S
    length = int(CALENDAR.seconds_of(np.array([cell.local_date]))[0])
    found: dict = {}
    for (product, resolution), grid in cell.grids.items():
        for row, slot in np.argwhere(grid.status > 0).tolist():
            seconds = length if resolution == DAY else resolution
            at = datetime.fromtimestamp(start + slot * seconds, ZONE)
            energy = int(grid.energy[row, slot])
            found.setdefault((int(grid.points[row]), product), []).append((at, seconds, energy, resolution == DAY))
    return found


def mean_power(readings) -> float | None:
    seconds = sum(one[1] for one in readings)
    return sum(one[2] for one in readings) / seconds if seconds else None


def ratio(some, others) -> float | None:
    one, other = mean_power(some), mean_power(others)
    return None if one is None or other is None or sum(each[2] for each in others) <= 0 else one / other


def tell_slowly(readings) -> dict[str, float | None]:
    """The indicators of one series, from the definitions, reading by reading."""
    timed = [one for one in readings if not one[3]]
    powers = [one[2] * 3600 // one[1] for one in timed]
    energy = sum(one[2] for one in timed)
    hours = sum(one[1] for one in timed) / 3600
    of_days: dict[date, list[int]] = {}
    for one, power in zip(timed, powers, strict=True):
        of_days.setdefault(one[0].date(), []).append(power)
    peak = max(powers, default=None)
    rising = peak is not None and peak > 0
    at = [(one, one[0].hour) for one in timed]
    night = sum(one[2] for one, hour in at if hour >= 22 or hour < 7)
    weekend = [one for one in readings if one[0].weekday() >= 5]
    others = [one for one in readings if one[0].weekday() < 5]
    return {
        "energy": sum(one[2] for one in readings),
        "peak_kw": peak,
        "base_kw": sum(map(min, of_days.values())) // len(of_days) if of_days else None,
        "load_factor": energy / hours / peak if rising else None,
        "utilisation_hours": energy / peak if rising else None,
        "night_share": night / energy if energy > 0 else None,
        "weekend_ratio": ratio(weekend, others),
        "midday_ratio": ratio(
            [one for one, hour in at if 10 <= hour < 15], [one for one, hour in at if 6 <= hour < 9 or 17 <= hour < 21]
        ),
    }


@given(drawn=st.lists(cells(), min_size=1, max_size=4), split=st.integers(0, 4), random=st.randoms())
def test_as_told_reading_by_reading_in_any_order_and_split(drawn, split, random):
    drawn = list({cell.local_date: cell for cell in drawn}.values())
    parts = [sum_cell(cell, CALENDAR) for cell in drawn]
    random.shuffle(parts)
    halves = [pa.concat_tables(half) for half in (parts[:split], parts[split:]) if half]
    merged = merge_sums(pa.concat_tables([merge_sums(half, KEYS) for half in halves]), KEYS)
    told = {name: values.to_pylist() for name, values in tell_indicators(merged).items()}

    readings: dict = {}
    for cell in drawn:
        for key, found in list_readings(cell).items():
            readings.setdefault(key, []).extend(found)
    assert list(zip(*(merged[key].to_pylist() for key in KEYS), strict=True)) == sorted(readings)
    for row, key in enumerate(sorted(readings)):
        for name, value in tell_slowly(readings[key]).items():
            found = told[name][row]
            assert (found is None) == (value is None), name
            if value is not None:
                assert found == (pytest.approx(value, abs=6e-3, rel=1e-9) if isinstance(value, float) else value), name


def make_day(day: date, power_w) -> CellGrids:
    """A day of quarters of an hour with a power, W, at each local hour."""
    number = to_day(day)
    key = (ACTIVE_ENERGY, 900)
    cell = CellGrids.empty(number, pa.array(["P"]), {key: np.array([0])}, np.zeros(1, np.int64), CALENDAR)
    cell.grids[key].status[:] = 5
    cell.grids[key].energy[0] = [power_w(hour) * 250 for hour in CALENDAR.hours_of(number, 900)]
    return cell


def tell(*days: CellGrids) -> dict[str, float | None]:
    merged = merge_sums(pa.concat_tables([sum_cell(day, CALENDAR) for day in days]), KEYS)
    return {name: values[0].as_py() for name, values in tell_indicators(merged).items()}


def test_a_constant_load_is_all_base_and_runs_all_hours():
    days = [make_day(date(2026, 6, 1) + timedelta(days=number), lambda hour: 500) for number in range(30)]  # noqa: ARG005
    told = tell(*days)
    assert told == {
        "energy": 360 * KWH, "peak_kw": KWH // 2, "base_kw": KWH // 2, "load_factor": 1.0, "utilisation_hours": 720.0,
        "night_share": 0.375, "weekend_ratio": 1.0, "midday_ratio": 1.0,
    }  # fmt: skip


def test_load_factor_times_hours_is_the_utilisation_time():
    told = tell(make_day(date(2026, 6, 1), lambda hour: 2000 if hour == 18 else 200))
    assert told["utilisation_hours"] == pytest.approx(told["load_factor"] * 24, abs=0.01)
    assert told["utilisation_hours"] == pytest.approx((2000 + 23 * 200) / 2000)


def test_a_day_that_came_as_one_value_tells_energy_alone():
    key = (ACTIVE_ENERGY, DAY)
    day = CellGrids.empty(to_day(DAYS[1]), pa.array(["P"]), {key: np.array([0])}, np.zeros(1, np.int64), CALENDAR)
    day.grids[key].status[:], day.grids[key].energy[:] = 5, 9 * KWH
    told = tell(day)
    assert told.pop("energy") == 9 * KWH
    assert set(told.values()) == {None}


def test_nothing_gives_nothing():
    empty = CellGrids.empty(to_day(DAYS[1]), pa.array([], pa.string()), {}, np.zeros(0, np.int64), CALENDAR)
    found = sum_cell(empty, CALENDAR)
    assert found.column_names == [*KEYS, *SUMS]
    assert merge_sums(found, KEYS).num_rows == 0


def test_seasons_are_compared_by_mean_power_and_need_half_a_season():
    half = 45 * 1440
    rows = [
        ("heated", 1, 300 * KWH, half), ("heated", 7, 100 * KWH, half), ("heated", 4, 999 * KWH, half),
        ("even", 12, 100 * KWH, half), ("even", 8, 200 * KWH, 2 * half),
        ("short", 1, 300 * KWH, half - 1), ("short", 7, 100 * KWH, half),
    ]  # fmt: skip
    names = ("site", "month", "energy", "minutes")
    months = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    found = compare_seasons(months, ["site"])
    assert found.to_pylist() == [
        {"site": "even", "winter_ratio": 1.0},
        {"site": "heated", "winter_ratio": 3.0},
        {"site": "short", "winter_ratio": None},
    ]


def test_panels_show_by_what_they_produce_or_by_a_dip_under_the_sun():
    dip = tell(make_day(date(2026, 6, 1), lambda hour: 100 if 10 <= hour < 15 else 600))["midday_ratio"]
    assert dip == pytest.approx(1 / 6, abs=1e-4)
    ratios = pa.array([dip, dip, dip, None, 0.9])
    found = tell_solar(pa.array([False, True, False, None, False]), ratios, pa.array([6, 6, 12, 6, 6]))
    assert found.to_pylist() == ["midday_dip", "production", None, None, None]
