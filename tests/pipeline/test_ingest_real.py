"""Real feeds through the whole job: what is known of them from counting their lines by other means."""

import csv
import random
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pytest
from whole_job import CELL_TABLES, MWH, assert_same_rows, ingest, large, make_keys, paths_of, query

from pipeline.launch import IngestRequest, describe_ingest
from pipeline.sources.base import ReadOptions

SHARED = Path(__file__).parents[3] / "shared" / "data"
OCTOPUS, DATAHUB = SHARED / "octopus_2017", SHARED / "datahub_csv"
OCTOPUS_MAPPING = str(files("schemas").joinpath("mappings", "octopus_2017.yaml"))
SOME_DAYS_LATER = datetime(2017, 11, 20, tzinfo=UTC)
#: A metering point of test ranges, for the customer's own exports, which name none.
POINT = "643006966022791278"

needs_octopus = pytest.mark.skipif(not OCTOPUS.is_dir(), reason="needs the real feed shared/data/octopus_2017")
needs_datahub = pytest.mark.skipif(not DATAHUB.is_dir(), reason="needs the real feed shared/data/datahub_csv")


def read_octopus(paths: Iterable[Path]) -> dict[tuple[str, datetime], int]:
    """Read (point, start) to milliwatt-hours with the csv module and decimals."""
    readings = {}
    for path in paths:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                key = (row["meter_identifier"].upper(), datetime.fromisoformat(row["interval_start"]))
                readings[key] = int(round(Decimal(row["kWh_per_half_hour"]), 6) * 1_000_000)
    return readings


def ingest_octopus(lake: Path, paths, keys, registered_at=SOME_DAYS_LATER):
    zone = {} if lake.exists() else {"time_zone": "Europe/London", "buckets": 2}
    return ingest(lake, paths, keys, mapping=OCTOPUS_MAPPING, registered_at=registered_at.isoformat(), **zone)


def readings_of(lake: Path) -> dict[tuple[str, datetime], int]:
    rows = query(lake, "operational.readings", "SELECT metering_point_id, start, energy FROM t")
    return {(point, start.astimezone(UTC)): int(energy * 1_000_000) for point, start, energy in rows}


def total_of(lake: Path) -> tuple[int, int]:
    [total] = query(lake, "operational.readings", f"SELECT count(*), {MWH} FROM t")
    return total


@pytest.fixture(scope="module")
def octopus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("octopus")
    keys = make_keys(folder)
    record = ingest_octopus(folder / "lake", [OCTOPUS / "*.csv"], keys)
    return folder / "lake", keys, record


@needs_octopus
def test_octopus_in_one_run(octopus):
    lake, _, record = octopus
    assert total_of(lake) == (62_818, 17_544_998_000)
    assert readings_of(lake) == read_octopus(OCTOPUS.glob("*.csv"))
    counts = record["totals"]["counts"]
    with_repeats = sum(sum(1 for _ in path.open()) - 1 for path in OCTOPUS.glob("*.csv"))
    assert counts["delivered"] == with_repeats
    assert counts.get("superseded:identical", 0) == with_repeats - 62_818
    slots = query(
        lake, "operational.readings", "SELECT DISTINCT resolution_s, status, customer_id, flags & 64 != 0 FROM t"
    )
    assert slots == [(1800, "OK", None, True)]


@needs_octopus
def test_octopus_in_groups_of_files_in_another_order(tmp_path, octopus):
    whole, keys, _ = octopus
    paths = sorted(OCTOPUS.glob("*.csv"))
    shuffled = random.Random(3).sample(paths, len(paths))
    for group in range(3):
        ingest_octopus(tmp_path / "lake", shuffled[group::3], keys)
    assert_same_rows(tmp_path / "lake", whole, CELL_TABLES)


@large
@needs_octopus
def test_octopus_file_by_file_in_another_order(tmp_path, octopus):
    whole, keys, _ = octopus
    paths = sorted(OCTOPUS.glob("*.csv"))
    for path in random.Random(5).sample(paths, len(paths)):
        ingest_octopus(tmp_path / "lake", [path], keys)
    assert_same_rows(tmp_path / "lake", whole, CELL_TABLES)


@needs_octopus
def test_octopus_twice_over_changes_nothing(tmp_path, octopus):
    _, keys, _ = octopus
    lake, paths = tmp_path / "lake", sorted(OCTOPUS.glob("2017-11-0[67] *.csv"))
    ingest_octopus(lake, paths, keys)
    before = {table: paths_of(lake, table) for table in CELL_TABLES}
    again = ingest_octopus(lake, paths, keys)["totals"]["counts"]
    assert again["superseded:identical"] == again["delivered"]
    # Old news after new: registered a day before what is there.
    older = ingest_octopus(lake, paths, keys, SOME_DAYS_LATER - timedelta(days=1))["totals"]["counts"]
    assert older["superseded:older"] + older.get("superseded:identical", 0) == older["delivered"]
    assert {table: paths_of(lake, table) for table in CELL_TABLES} == before
    assert readings_of(lake) == read_octopus(paths)


@needs_octopus
def test_planted_corrections_win_whenever_they_come(tmp_path, octopus):
    """Of two days every hundredth reading comes again with other values: once registered later, once earlier."""
    _, keys, _ = octopus
    first = sorted(OCTOPUS.glob("2017-11-0[67] *.csv"))
    right = read_octopus(first)
    chosen = sorted(right)[::100]
    corrections, outdated = tmp_path / "corrections.csv", tmp_path / "outdated.csv"
    for path, extra in ((corrections, 1_000), (outdated, 5_000)):
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["meter_identifier", "interval_start", "interval_end", "kWh_per_half_hour"])
            for point, start in chosen:
                value = Decimal(right[point, start] + extra) / 1_000_000
                writer.writerow([point.lower(), start, start + timedelta(minutes=30), value])
    deliveries = [(first, 20), ([corrections], 21), ([outdated], 19)]
    for lake, order in (("one", (0, 1, 2)), ("other", (2, 1, 0))):
        for paths, day in (deliveries[place] for place in order):
            ingest_octopus(tmp_path / lake, paths, keys, datetime(2017, 11, day, tzinfo=UTC))
    assert readings_of(tmp_path / "one") == right | {key: right[key] + 1_000 for key in chosen}
    assert_same_rows(tmp_path / "one", tmp_path / "other", CELL_TABLES)


def ingest_datahub(folder: Path, path: Path) -> Path:
    lake = folder / "lake"
    ingest(lake, [path], make_keys(folder), metering_point=POINT, registered_at="2026-01-01T00:00:00Z", buckets=2)
    return lake


def assert_clock_change(lake: Path) -> None:
    """On 2022-03-27 the clock skips an hour."""
    [(slots,)] = query(lake, "operational.readings", "SELECT count(*) FROM t WHERE local_date = '2022-03-27'")
    assert slots == 23
    whole = "SELECT expected_minutes, present_minutes FROM t WHERE local_date = '2022-03-27'"
    assert query(lake, "analytics.daily", whole) == [(23 * 60, 23 * 60)]


@large
@needs_datahub
def test_most_of_a_year_of_hours(tmp_path):
    lake = ingest_datahub(tmp_path, DATAHUB / "consumption.csv")
    assert total_of(lake) == (6_909, 6_566_010_000)
    assert_clock_change(lake)
    assert query(lake, "analytics.daily", f"SELECT {MWH} FROM t") == [(6_566_010_000,)]


@needs_datahub
def test_the_hours_around_a_clock_change(tmp_path):
    head, *lines = (DATAHUB / "consumption.csv").read_text("utf-8").splitlines()
    path = tmp_path / "consumption.csv"
    path.write_text("\n".join([head, *(line for line in lines if ";2022-03-2" in line)]))
    lake = ingest_datahub(tmp_path, path)
    assert_clock_change(lake)
    options = ReadOptions(metering_point=POINT, registered_at="2026-01-01T00:00:00Z")
    whole = describe_ingest(
        IngestRequest([str(DATAHUB / "consumption.csv")], lake, tmp_path / "keyset.json", "", read=options)
    )
    assert (whole["readings"], whole["quarantined"]) == (6_909, {})


@needs_datahub
def test_a_day_of_quarter_hours(tmp_path):
    lake = ingest_datahub(tmp_path, DATAHUB / "quarter-consumption-test.csv")
    assert total_of(lake) == (96, 31_060_000)
    rows = query(lake, "operational.readings", "SELECT DISTINCT local_date, resolution_s FROM t")
    assert rows == [(date(2025, 10, 1), 900)]


@needs_datahub
def test_five_readings_too_many_are_those_of_the_next_day(tmp_path):
    lake = ingest_datahub(tmp_path, DATAHUB / "extra-15min-error.csv")
    assert total_of(lake) == (101, 36_390_000)
    days = dict(query(lake, "operational.readings", "SELECT local_date, count(*) FROM t GROUP BY ALL"))
    assert days == {date(2023, 9, 1): 96, date(2023, 9, 2): 5}


@needs_datahub
@pytest.mark.parametrize("name", ["consumption-with-null.csv", "consumption-with-null-only.csv"])
def test_null_is_missing_and_not_zero(tmp_path, name):
    lines = (DATAHUB / name).read_text("utf-8-sig").splitlines()
    missing = sum(line.endswith(";null;MISSING") for line in lines)
    assert missing
    lake = ingest_datahub(tmp_path, DATAHUB / name)
    rows = query(
        lake, "operational.readings", "SELECT status = 'MISSING', energy IS NULL, count(*) FROM t GROUP BY 1, 2"
    )
    assert sorted(rows) == [(False, False, len(lines) - 1 - missing), (True, True, missing)]
    seen = dict(query(lake, "analytics.readings", "SELECT energy IS NULL, count(*) FROM t GROUP BY 1"))
    assert seen[True] == missing
