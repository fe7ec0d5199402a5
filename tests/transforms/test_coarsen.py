from collections import defaultdict
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.series import ACTIVE_ENERGY
from schemas.status import STATUS_WORDS
from transforms.calendar import US_PER_S, local_calendar, to_day
from transforms.coarsen import sum_days
from transforms.grid import ABSENT, CellGrids

ZONE = ZoneInfo("Europe/Helsinki")
CALENDAR = local_calendar("Europe/Helsinki")
DAYS = [date(2026, 3, 29), date(2026, 6, 1), date(2026, 10, 25)]
DAY, HEAT = 86_400, "district_heat"
#: Points of the cell among all points of the day: between them two that are silent.
PLACE = np.array([0, 1, 3, 5])
ALL = 6


@st.composite
def cells(draw) -> CellGrids:
    """Draw merged grids: per point and product one resolution an hour, or a daily value alone."""
    day = to_day(draw(st.sampled_from(DAYS)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    greatest = draw(st.sampled_from([3, 10**6, 99_999_999_999_999]))
    hours = CALENDAR.slots_of(day, 3600)
    of_hours = {}
    for product in (ACTIVE_ENERGY, HEAT):
        of_hour = random.choice([900, 3600, 0], (len(PLACE), hours))
        of_hour[random.random(len(PLACE)) < 0.3] = DAY
        for resolution in (900, 3600, DAY):
            if (of_hour == resolution).any():
                of_hours[product, resolution] = of_hour == resolution
    points = {key: np.flatnonzero(chosen.any(axis=1)) for key, chosen in of_hours.items()}
    ids = pa.array([f"P{number}" for number in range(len(PLACE))])
    cell = CellGrids.empty(day, ids, points, np.zeros(1, np.int64), CALENDAR)
    for key, grid in cell.grids.items():
        slot_hour = np.arange(grid.energy.shape[1]) * min(key[1], 3600) // 3600
        present = of_hours[key][grid.points][:, slot_hour]
        grid.status[:] = np.where(present, random.choice([0, 0, 1, 3, 5, 5, 6], present.shape), ABSENT)
        energy = random.integers(-greatest, greatest, present.shape)
        grid.energy[:] = np.where(grid.status > 0, energy, 0)
    return cell


def sum_slowly(cell: CellGrids, contracted: list[bool]) -> list[dict]:
    """Sum reading by reading."""
    start = int(CALENDAR.start_of(np.array([cell.local_date]))[0]) // US_PER_S
    length = int(CALENDAR.seconds_of(np.array([cell.local_date]))[0])
    readings = defaultdict(list)
    for (product, resolution), grid in cell.grids.items():
        for row, slot in np.argwhere(grid.status != ABSENT).tolist():
            hour = datetime.fromtimestamp(start + slot * resolution, ZONE).hour
            seconds = length if resolution == DAY else resolution
            value = (int(grid.energy[row, slot]), int(grid.status[row, slot]), seconds, hour >= 22 or hour < 7)
            readings[int(PLACE[grid.points[row]]), product].append(value)
    for point, has in enumerate(contracted):
        if has:
            readings.setdefault((point, ACTIVE_ENERGY), [])
    rows = []
    for (point, product), found in sorted(readings.items()):
        valued = [(energy, status, seconds, night) for energy, status, seconds, night in found if status > 0]
        minutes, energy = sum(value[2] for value in valued) // 60, sum(value[0] for value in valued)
        powers = [energy * 3600 // seconds for energy, _, seconds, _ in valued]
        weakest = min((status for _, status, _, _ in valued), default=0)
        whole = any(seconds == length for _, _, seconds, _ in valued)
        rows.append(
            {
                "point": point,
                "product": product,
                "energy": energy if valued else None,
                "expected_minutes": length // 60,
                "present_minutes": minutes,
                "status": STATUS_WORDS[min(weakest, 1) if minutes < length // 60 else weakest],
                "peak_kw": max(powers, default=None),
                "base_kw": min(powers, default=None),
                "night_share": sum(value[0] for value in valued if value[3]) / energy
                if valued and not whole and energy > 0
                else None,
                "load_factor": energy * 60 / minutes / max(powers) if valued and max(powers) > 0 else None,
            }
        )
    return rows


@given(cells(), st.lists(st.booleans(), min_size=ALL, max_size=ALL))
def test_sums_of_a_grid_are_sums_of_its_readings(cell, contracted):
    point, rows = sum_days(cell, PLACE, np.array(contracted), CALENDAR)
    found = pa.table({"point": pa.array(point), **rows.columns}).to_pylist()
    expected = sum_slowly(cell, contracted)
    assert len(found) == len(expected)
    for row, right in zip(found, expected, strict=True):
        for name in ("night_share", "load_factor"):
            share, right_share = row.pop(name), right.pop(name)
            assert (share is None) == (right_share is None)
            assert share is None or share == pytest.approx(right_share, abs=6e-5, rel=1e-9)
        assert row == right


def test_a_silent_point_under_contract_has_a_day_without_energy():
    cell = CellGrids.empty(to_day(DAYS[0]), pa.array([], pa.string()), {}, np.zeros(0, np.int64), CALENDAR)
    point, rows = sum_days(cell, np.zeros(0, np.int64), np.array([False, True]), CALENDAR)
    assert point.tolist() == [1]
    [row] = pa.table(dict(rows.columns)).to_pylist()
    assert row["energy"] is None
    assert (row["status"], row["expected_minutes"], row["present_minutes"]) == ("MISSING", 23 * 60, 0)


def test_a_day_of_missing_values_is_missing_and_not_zero():
    points = {(ACTIVE_ENERGY, 3600): np.array([0])}
    cell = CellGrids.empty(to_day(DAYS[1]), pa.array(["P0"]), points, np.zeros(1, np.int64), CALENDAR)
    cell.status[:] = 0
    _, rows = sum_days(cell, np.array([0]), np.array([False]), CALENDAR)
    [row] = pa.table(dict(rows.columns)).to_pylist()
    assert (row["energy"], row["peak_kw"], row["status"]) == (None, None, "MISSING")
