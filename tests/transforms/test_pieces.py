from collections import Counter
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from series_batches import DAY, Reading, Series, local_date, make_batch, midnight, place, series

from schemas.status import Status
from transforms.buckets import bucket_of
from transforms.calendar import US_PER_S, local_calendar, to_date, to_day
from transforms.fold import fold
from transforms.grid import ABSENT
from transforms.pieces import locate, split_by_cell
from transforms.series import build_series, drop_readings
from transforms.validate import validate

CALENDAR = local_calendar("Europe/Helsinki")
BUCKETS = 4


def read_frame(cell, frame: pa.RecordBatch) -> list[Reading]:
    start = midnight(to_date(cell.local_date))
    found = []
    for row in frame.to_pylist():
        statuses = row.get("status") or [int(Status.OK)] * len(row["energy"])
        for nth, (energy, status) in enumerate(zip(row["energy"], statuses, strict=True)):
            at = start + (row["slot"] + nth) * row["resolution_s"]
            registered = int(row["registered_at"].timestamp())
            found.append(
                Reading(row["metering_point_id"], row["product"], row["resolution_s"], at, registered, energy, status)
            )
    return found


def split(batch: pa.RecordBatch):
    return list(split_by_cell(batch, locate(batch, CALENDAR), BUCKETS))


@given(st.lists(series(), max_size=6))
def test_frames_hold_the_readings_of_the_batch_each_in_its_cell(many):
    batch = make_batch(many)
    frames = split(batch)
    assert locate(batch, CALENDAR).on_grid.all()
    found = [reading for cell, frame in frames for reading in read_frame(cell, frame)]
    assert Counter(found) == Counter(place(reading) for one in many for reading in one.readings())
    for cell, frame in frames:
        assert {local_date(reading.start) for reading in read_frame(cell, frame)} == {to_date(cell.local_date)}
        assert set(bucket_of(frame["metering_point_id"], BUCKETS).tolist()) == {cell.bucket}


@given(st.lists(series(), max_size=5))
def test_split_and_fold_are_inverse(many):
    """Series that don't compete, a point each, come out of the grids as they went in."""
    apart = [one._replace(point=f"{one.point}-{number}") for number, one in enumerate(many)]
    cells: dict = {}
    for cell, frame in split(make_batch(apart)):
        cells.setdefault(cell, []).append(frame)
    found = []
    for cell, frames in cells.items():
        folded, tally = fold(frames, [], cell.local_date, CALENDAR)
        assert tally.superseded.counts == {}
        start = midnight(to_date(cell.local_date))
        for (product, resolution), grid in folded.grids.items():
            for row, slot in np.argwhere(grid.status != ABSENT).tolist():
                found.append(
                    Reading(
                        folded.ids[int(grid.points[row])].as_py(),
                        product,
                        resolution,
                        start + slot * resolution,
                        int(folded.times[grid.registered[row, slot]]) // US_PER_S,
                        int(grid.energy[row, slot]),
                        int(grid.status[row, slot]),
                    )
                )
    assert Counter(found) == Counter(place(reading) for one in apart for reading in one.readings())


def test_a_series_over_the_clock_change_is_cut_at_local_midnights():
    begin = midnight(date(2026, 3, 28))
    length = (24 + 23 + 24) * 4
    one = Series("P1", 900, begin, begin + 9 * DAY, list(range(length)), [5] * length)
    cells = {cell.local_date: frame for cell, frame in split(make_batch([one]))}
    assert {to_date(day): len(frame["energy"].flatten()) for day, frame in cells.items()} == {
        date(2026, 3, 28): 96,
        date(2026, 3, 29): 92,
        date(2026, 3, 30): 96,
    }
    assert all(frame["slot"].to_pylist() == [0] for frame in cells.values())


def test_a_daily_value_is_of_the_day_whose_midnight_is_near():
    """24 hours into the day of 25 hours the next day is meant; two hours off nobody can tell."""
    start = midnight(date(2026, 10, 25))
    hours = {0: 25, -1: 25, 24: 26, 25: 26, 26: 26}
    many = [Series("P1", DAY, start + hour * 3600, start + 9 * DAY, [1], [5]) for hour in (*hours, 2, 23, 27)]
    pieces = locate(make_batch(many), CALENDAR)
    assert pieces.on_grid.tolist() == [True] * 5 + [False] * 3
    assert [to_date(day).day for day in pieces.day[:5].tolist()] == list(hours.values())


@given(st.lists(st.booleans(), min_size=4, max_size=4))
def test_daily_values_keep_their_days_when_others_are_taken_out(dropped):
    """Over a clock change: the second of these days has 23 hours, or 25."""
    for first in (date(2026, 3, 28), date(2026, 10, 24)):
        batch = make_batch([Series("P1", DAY, midnight(first), midnight(first) + 9 * DAY, [1, 2, 3, 4], [5] * 4)])
        rest = drop_readings(batch, np.array(dropped))
        found = {cell.local_date: frame["energy"].flatten().to_pylist() for cell, frame in split(rest)}
        kept = [value for value, gone in zip((1, 2, 3, 4), dropped, strict=True) if not gone]
        assert found == {to_day(first) + value - 1: [value] for value in kept}


def test_a_series_that_leaves_the_calendar_is_off_the_grid():
    start = midnight(date(2079, 12, 31))
    one = Series("P1", 3600, start, start, [1] * 48, [5] * 48)
    assert not locate(make_batch([one]), CALENDAR).on_grid.any()


def test_small_values_travel_as_32_bits_and_status_only_where_it_says_something():
    start = midnight(date(2026, 6, 1))
    for energy, status, kind in (
        ([1, 2], [5, 5], pa.int32()),
        ([1, 2**40], [5, 5], pa.int64()),
        ([1, 0], [5, 0], pa.int32()),
    ):
        [(cell, frame)] = split(make_batch([Series("P1", 3600, start, start + DAY, energy, status)]))
        assert cell.local_date == to_day(date(2026, 6, 1))
        assert frame["energy"].type.value_type == kind
        assert ("status" in frame.schema.names) == (0 in status)


@pytest.mark.parametrize(
    "start", ["1970-01-01T00:00", "1977-08-16T22:31", "1979-12-31T21:45", "2081-01-01", "2199-12-31T23:45"]
)
@pytest.mark.parametrize("resolution", [900, 3_600, 86_400])
def test_what_is_outside_the_calendar_is_on_no_grid(start, resolution):
    calendar = local_calendar("Europe/Helsinki")
    moment = int(np.datetime64(start, "us").astype(np.int64))
    batch = build_series(
        metering_point_id=pa.array(["A", "B"]),
        product=pa.array(["P", "P"]),
        start=np.array([moment, 1_774_000_800_000_000]),
        resolution_s=np.array([resolution, 900], np.int32),
        registered_at=np.array([moment, 1_900_000_000_000_000]),
        row=np.array([1, 2]),
        offsets=np.array([0, 3, 5]),
        values=(np.arange(5), np.full(5, 5, np.int8)),
    )
    pieces = locate(batch, calendar)
    assert (np.diff(pieces.offset) > 0).all()
    valid, _, rejected = validate(batch, calendar)
    assert valid.column("metering_point_id").to_pylist() == ["B"]
    assert [row["reason"] for part in rejected for row in part.to_pylist()] == ["off_grid"] * 3
