"""Who used what: moves in the middle of the readings, and sites that both use and produce."""

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from whole_job import ingest, make_keys, query

from schemas.flags import Flag
from schemas.reference import CONTRACTS_SCHEMA, CUSTOMERS_SCHEMA, SITES_SCHEMA

HELSINKI = ZoneInfo("Europe/Helsinki")
USING, PRODUCING = "643006966022791278", "643003825107340356"
OLD, NEW = "C-1", "C-2"
CHANGES = {"spring": date(2026, 3, 29), "autumn": date(2026, 10, 25)}


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), HELSINKI).astimezone(UTC)


def write_reference(folder, moved: date) -> None:
    """One site, a point that uses and one that produces; its tenants change on a day."""
    site = {"site_id": "SITE-1", "postal_code": "00100", "fuse_a": 25}
    sites = [
        {**site, "metering_point_id": point, "direction": direction}
        for point, direction in ((USING, "consumption"), (PRODUCING, "production"))
    ]
    periods = {OLD: (date(2025, 1, 1), moved), NEW: (moved, None)}
    contracts = [
        {
            "contract_id": f"{customer}-{point[-3:]}",
            "metering_point_id": point,
            "customer_id": customer,
            "valid_from": valid_from,
            "valid_to": valid_to,
            # The old tenant signed last, a prolongation: on a day that both held it would be the old one's.
            "signed_at": midnight(moved) - timedelta(days=30 if customer == OLD else 60),
        }
        for customer, (valid_from, valid_to) in periods.items()
        for point in (USING, PRODUCING)
    ]
    customers = [
        {"customer_id": customer, "kind": "person", "information_restriction": False} for customer in (OLD, NEW)
    ]
    folder.mkdir()
    for name, rows, schema in (
        ("sites", sites, SITES_SCHEMA),
        ("contracts", contracts, CONTRACTS_SCHEMA),
        ("customers", customers, CUSTOMERS_SCHEMA),
    ):
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{name}.parquet")


def write_readings(path, first: date, last: date, resolution_s: int) -> dict[tuple[str, datetime], int]:
    """Write one unbroken series a point over whole local days, every value another; (point, start) to energy."""
    steps = int((midnight(last + timedelta(days=1)) - midnight(first)).total_seconds()) // resolution_s
    starts = [midnight(first) + timedelta(seconds=step * resolution_s) for step in range(steps)]
    readings = {
        (point, start): (step + 1) * factor
        for point, factor in ((USING, 1_000), (PRODUCING, 7_000_000))
        for step, start in enumerate(starts)
    }
    stamp = pa.timestamp("us", "UTC")
    table = pa.table(
        {
            "metering_point_id": [point for point, _ in readings],
            "start": pa.array([start for _, start in readings], stamp),
            "resolution_s": pa.array([resolution_s] * len(readings), pa.int32()),
            "registered_at": pa.array([datetime(2026, 12, 1, tzinfo=UTC)] * len(readings), stamp),
            "energy": pa.array(list(readings.values()), pa.int64()),
            "status": ["OK"] * len(readings),
        }
    )
    pq.write_table(table, path)
    return readings


@pytest.fixture(scope="module", params=[(season, days) for season in CHANGES for days in (0, 1)], ids=str)
def moved(request, tmp_path_factory):
    """A lake in which the tenants changed on the day of a clock change, or on the day after."""
    season, days = request.param
    folder = tmp_path_factory.mktemp("moved")
    day = CHANGES[season] + timedelta(days=days)
    write_reference(folder / "reference", day)
    resolution_s = 900 if days else 3600
    readings = write_readings(
        folder / "readings.parquet", day - timedelta(days=2), day + timedelta(days=2), resolution_s
    )
    ingest(folder / "lake", [folder / "readings.parquet"], make_keys(folder), reference=folder / "reference")
    return folder / "lake", day, readings


def test_no_reading_of_the_old_tenant_is_the_new_ones(moved):
    lake, day, readings = moved
    rows = query(lake, "operational.readings", "SELECT metering_point_id, start, customer_id, energy FROM t")
    assert len(rows) == len(readings)
    for point, start, customer, energy in rows:
        assert customer == (OLD if start < midnight(day) else NEW)
        assert int(energy * 1_000_000) == readings[point, start.astimezone(UTC)]
    edges = query(
        lake, "operational.readings", "SELECT customer_id, min(start), max(start) FROM t GROUP BY 1 ORDER BY 1"
    )
    assert edges[0][2] < midnight(day) == edges[1][1]
    overlapping = int(Flag.OVERLAPPING_CONTRACTS)
    assert query(lake, "operational.readings", f"SELECT count(*) FROM t WHERE flags & {overlapping} != 0") == [(0,)]


def test_no_pseudonym_of_the_new_tenant_has_a_reading_of_the_old(moved):
    lake, day, readings = moved
    times = query(
        lake, "analytics.readings", "SELECT customer, min(start), max(start), count(*) FROM t GROUP BY 1 ORDER BY 2"
    )
    assert len(times) == 2
    assert times[0][2] < midnight(day) == times[1][1]
    assert times[0][3] + times[1][3] == len(readings)


def test_a_day_is_billed_to_who_held_it_and_never_adds_up_directions(moved):
    lake, day, readings = moved
    right = defaultdict(int)
    for (point, start), energy in readings.items():
        right[point, start.astimezone(HELSINKI).date()] += energy
    rows = query(
        lake,
        "operational.billing_daily",
        "SELECT metering_point_id, local_date, direction, customer_id, energy, expected_minutes, present_minutes FROM t",
    )
    assert {(point, local_date): int(energy * 1_000_000) for point, local_date, _, _, energy, *_ in rows} == right
    assert len(rows) == len(right)
    for point, local_date, direction, customer, _, expected, present in rows:
        assert direction == ("consumption" if point == USING else "production")
        assert customer == (OLD if local_date < day else NEW)
        minutes = (midnight(local_date + timedelta(days=1)) - midnight(local_date)).total_seconds() // 60
        assert expected == present == minutes


def test_days_of_a_site_under_pseudonyms_keep_directions_apart(moved):
    lake, _, readings = moved
    right = defaultdict(int)
    for (point, start), energy in readings.items():
        right["consumption" if point == USING else "production", start.astimezone(HELSINKI).date()] += energy
    rows = query(lake, "analytics.daily", "SELECT metering_point, site, direction, local_date, energy FROM t")
    assert {(direction, local_date): int(energy * 1_000_000) for *_, direction, local_date, energy in rows} == right
    assert len(rows) == len(right)
    assert len({site for _, site, *_ in rows}) == 1
    assert len({point for point, *_ in rows}) == 2
