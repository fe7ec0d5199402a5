"""Registers of a district heating network, by mapping."""

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yaml
from source_cases import read_file

import schemas
from pipeline.errors import MeterveilError
from pipeline.sources.base import ReadOptions
from pipeline.sources.mapping import load_mapping
from pipeline.sources.registry import plan_file
from schemas.flags import Flag
from schemas.status import Status
from transforms.checks import check_grid
from transforms.grid import DayGrid

HELSINKI = ZoneInfo("Europe/Helsinki")
BASE = {
    "columns": {"metering_point_id": "place", "read_at": "time", "register": "kwh"},
    "product": "district_heat",
    "resolution": "PT1H",
    "unit": "kWh",
    "status": "OK",
    "time_zone": "Europe/Helsinki",
    "delimiter": ";",
    "decimal_sign": ",",
    "register": {"digits": 6, "most": 500},
}
HEADER = "place;time;kwh"


def write_mapping(folder, changes=None, columns=None):
    content = {key: value for key, value in {**BASE, **(changes or {})}.items() if value is not None}
    content["columns"] = {k: v for k, v in {**content["columns"], **(columns or {})}.items() if v is not None}
    path = folder / "heat.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return str(path)


def read(folder, lines, changes=None, columns=None, header=HEADER):
    path = folder / "f.csv"
    path.write_text("\n".join([header, *lines]) + "\n", "utf-8")
    options = ReadOptions(registered_at="2027-01-01T00:00:00Z", mapping=write_mapping(folder, changes, columns))
    good, rejected = read_file(path, options)
    return (
        [(point, hour(start), energy, Status(status).name) for point, _, start, _, _, energy, status in good],
        [(row["row"], row["reason"]) for row in rejected],
    )


def hour(start):
    return dt.datetime.fromtimestamp(start / 1e6, dt.UTC).strftime("%d %H")


def hourly(first, values, point="H1"):
    times = [(first + dt.timedelta(hours=n)).astimezone(HELSINKI) for n in range(len(values))]
    return [f"{point};{time:%Y-%m-%d %H:%M};{value}" for time, value in zip(times, values, strict=True)]


NOON = dt.datetime(2026, 1, 5, 10, tzinfo=dt.UTC)


def test_energy_is_the_difference_of_reads(tmp_path):
    good, rejected = read(tmp_path, hourly(NOON, ["100,5", "101", "101", "103,000001"]))
    assert good == [("H1", "05 10", 500_000, "OK"), ("H1", "05 11", 0, "OK"), ("H1", "05 12", 2_000_001, "OK")]
    assert rejected == []


def test_the_product_is_that_of_the_mapping(tmp_path):
    path = tmp_path / "f.csv"
    path.write_text("\n".join([HEADER, *hourly(NOON, [1, 2]), ""]), "utf-8")
    good, _ = read_file(path, ReadOptions(registered_at="2027-01-01T00:00:00Z", mapping=write_mapping(tmp_path)))
    assert [(reading[1], reading[3]) for reading in good] == [("district_heat", 3600)]


def test_a_register_that_is_full_begins_at_0(tmp_path):
    good, rejected = read(tmp_path, hourly(NOON, ["999998,5", "999999,999999", "3"]))
    assert ([reading[2] for reading in good], rejected) == ([1_499_999, 3_000_001], [])


@pytest.mark.parametrize(
    ("values", "energies", "broken"),
    [
        ([50_000, 50_010, 0, 4], [10, 4], [4]),  # a new meter that the feed says nothing of
        ([999_990, 999_995, 600, 604], [5, 4], [4]),  # a fall near the end that is more than an hour can have
        ([50_000, 50_010, 50_009, 50_011], [10, 2], [4]),
        ([50_000, 50_501, 50_502], [1], [3]),
        ([50_000, 50_500, 50_502], [500, 2], []),
    ],
)
def test_a_fall_or_a_leap_is_set_aside_and_never_energy(tmp_path, values, energies, broken):
    good, rejected = read(tmp_path, hourly(NOON, values))
    assert [reading[2] for reading in good] == [energy * 1_000_000 for energy in energies]
    assert rejected == [(row, "register_break") for row in broken]


def test_a_meter_that_the_feed_names(tmp_path):
    lines = [f"{line};{meter}" for line, meter in zip(hourly(NOON, [10, 12, 13, 15]), "AABB", strict=True)]
    good, rejected = read(tmp_path, lines, columns={"meter": "device"}, header=f"{HEADER};device")
    assert [reading[1:3] for reading in good] == [("05 10", 2_000_000), ("05 12", 2_000_000)]
    assert rejected == [(4, "register_break")]


def test_over_a_gap_nothing_is_said(tmp_path):
    lines = hourly(NOON, [10, 12, 13, 15, 18])
    good, rejected = read(tmp_path, [*lines[:2], *lines[3:]])
    assert [reading[1:3] for reading in good] == [("05 10", 2_000_000), ("05 13", 3_000_000)]
    assert rejected == [(4, "register_break")]


@pytest.mark.parametrize("value", ["x", "", "1000000", "-1", "1.5"])
def test_a_read_that_is_none_leaves_a_gap(tmp_path, value):
    good, rejected = read(tmp_path, hourly(NOON, [10, 12, value, 15, 18]))
    assert [reading[1:3] for reading in good] == [("05 10", 2_000_000), ("05 13", 3_000_000)]
    assert rejected == [(4, "bad_energy"), (5, "register_break")]


def test_an_interval_has_the_weaker_status_of_its_reads(tmp_path):
    lines = [f"{line};{word}" for line, word in zip(hourly(NOON, [1, 2, 3, 4, "", 6, 7, 8]), "AEAANAXA", strict=True)]
    changes = {"status": None, "status_words": {"A": "OK", "E": "ESTIMATED", "N": "MISSING"}}
    good, rejected = read(tmp_path, lines, changes, {"status": "s"}, f"{HEADER};s")
    assert [reading[1::2] for reading in good] == [("05 10", "ESTIMATED"), ("05 11", "ESTIMATED"), ("05 12", "OK")]
    assert rejected == [(7, "register_break"), (8, "unknown_status"), (9, "register_break")]


@pytest.mark.parametrize(
    "first", [dt.datetime(2026, 10, 24, 20, tzinfo=dt.UTC), dt.datetime(2026, 3, 28, 20, tzinfo=dt.UTC)]
)
def test_both_changes_of_the_clock(tmp_path, first):
    lines = [line for point in ("H1", "H2") for line in hourly(first, range(100, 130), point)]
    good, rejected = read(tmp_path, lines)
    assert rejected == []
    hours = [(first + dt.timedelta(hours=n)).strftime("%d %H") for n in range(29)]
    assert good == [(point, when, 1_000_000, "OK") for point in ("H1", "H2") for when in hours]


def test_daily_reads_at_local_midnight(tmp_path):
    days = [f"H1;2026-{day} 00:00;{value}" for day, value in [("03-28", 10), ("03-29", 20), ("03-30", 30)]]
    good, rejected = read(tmp_path, days, {"resolution": "P1D"})
    assert ([reading[1:3] for reading in good], rejected) == ([("27 22", 10_000_000), ("28 22", 10_000_000)], [])


@pytest.mark.parametrize(("unit", "milliwatt_hours"), [("Wh", 2_500), ("kWh", 2_500_000), ("MWh", 2_500_000_000)])
def test_units(tmp_path, unit, milliwatt_hours):
    good, _ = read(tmp_path, hourly(NOON, ["999001", "999003,5"]), {"unit": unit})
    assert [reading[2] for reading in good] == [milliwatt_hours]


def test_files_with_one_read_in_common_are_as_one_file(tmp_path):
    lines = hourly(NOON, range(100, 140, 4))
    whole, _ = read(tmp_path, lines)
    parts = [read(tmp_path, part)[0] for part in (lines[6:], lines[:4], lines[3:7])]
    assert sorted(reading for part in parts for reading in part) == whole


def test_the_order_of_lines_is_of_no_consequence(tmp_path):
    lines = [line for point in ("H1", "H2") for line in hourly(NOON, [1, 3, 6, 10], point)]
    assert read(tmp_path, lines[::-1]) == read(tmp_path, lines) == read(tmp_path, lines[::2] + lines[1::2])


def test_the_newer_registration_of_two_reads_counts(tmp_path):
    path = tmp_path / "f.csv"
    lines = [f"{line};2026-01-0{day}T00:00:00Z" for line, day in zip(hourly(NOON, [1, 2, 3]), (7, 6, 8), strict=True)]
    path.write_text("\n".join([f"{HEADER};r", *lines, ""]), "utf-8")
    good, _ = read_file(path, ReadOptions(mapping=write_mapping(tmp_path, columns={"registered_at": "r"})))
    assert [hour(reading[4]) for reading in good] == ["07 00", "08 00"]


def test_a_file_is_one_part(tmp_path):
    mapping = write_mapping(tmp_path, {"time_zone": None})
    path = tmp_path / "f.csv"
    path.write_text("\n".join([HEADER, *(f"H1;2026-01-05T{n:02}:00:00Z;{n}" for n in range(24)), ""]), "utf-8")
    assert len(plan_file(str(path), ReadOptions(registered_at="2027-01-01T00:00:00Z", mapping=mapping))) == 1


@pytest.mark.parametrize(("is_heat", "flagged"), [(True, 0), (False, Flag.SPIKE | Flag.STALE_THEN_DOUBLE)])
def test_zeros_of_summer_are_no_fault(is_heat, flagged):
    # Nothing but warm water in the evening.
    energy = np.array([[0] * 20 + [12_000_000, 3_000_000, 0, 0]])
    grid = DayGrid(np.zeros(1, np.int64), energy, np.full((1, 24), Status.OK, np.int8), np.zeros((1, 24), np.int32))
    found = check_grid(grid, 3600, np.array([100], np.int32), is_heat=is_heat)
    assert (0 if found is None else found.max()) == flagged
    assert check_grid(grid, 3600, np.array([1], np.int32), is_heat=True) is None  # a fuse carries no heat


@pytest.mark.parametrize(
    ("changes", "columns", "problem"),
    [
        ({}, {"register": None}, "no register"),
        ({}, {"read_at": None}, "no read_at"),
        ({}, {"energy": "kwh"}, "columns names energy"),
        ({}, {"start": "time"}, "columns names start"),
        ({"resolution": None}, {}, "how far apart reads are"),
        ({"register": {"digits": 6}}, {}, "most missing; expected digits"),
        ({"register": {"digits": 2, "most": 100}}, {}, "more than a register of so many digits"),
        ({"register": None}, {"energy": "kwh", "start": "time"}, "say in register how it counts"),
        ({"register": None}, {}, "names no energy"),
        ({}, {"product": "what"}, "name the product once"),
    ],
)
def test_a_faulty_mapping_is_refused_with_the_reason(tmp_path, changes, columns, problem):
    with pytest.raises(MeterveilError, match=problem):
        load_mapping(write_mapping(tmp_path, changes, columns))


def test_the_example_of_a_mapping_reads_a_file(tmp_path):
    path = tmp_path / "f.csv"
    lines = [f"{line};M1;80;40" for line in hourly(NOON, ["1,5", "2", "4"])]
    path.write_text("\n".join(["place;time;energy;meter;supply;return", *lines, ""]), "utf-8")
    mapping = str(Path(schemas.__file__).parent / "mappings" / "district_heat.yaml")
    good, rejected = read_file(path, ReadOptions(registered_at="2027-01-01T00:00:00Z", mapping=mapping))
    assert ([reading[5] for reading in good], rejected) == ([500_000, 2_000_000], [])
