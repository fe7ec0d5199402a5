"""Pseudonyms of whole tables, computed again with the standard library, and what the order of rows gives away."""

import hashlib
import hmac
import uuid
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from whole_job import paths_of, query

from pipeline.keys import SECRET_ACCESS, open_keyset


def pseudonym(secret: bytes, domain: str, entity: str, epoch: str, canonical_id: str) -> uuid.UUID:
    """HKDF-SHA-256 (RFC 5869) to a subkey, HMAC-SHA-256 under it, the version and variant of RFC 9562."""
    extracted = hmac.digest(b"meterveil/v1", secret, "sha256")
    subkey = hmac.digest(extracted, f"{domain}|{entity}|{epoch}".encode() + b"\x01", "sha256")
    tag = bytearray(hmac.new(subkey, canonical_id.encode(), hashlib.sha256).digest()[:16])
    tag[6] = 0x80 | tag[6] & 0x0F
    tag[8] = 0x80 | tag[8] & 0x3F
    return uuid.UUID(bytes=bytes(tag))


@pytest.fixture(scope="module")
def secret(fleet_run) -> bytes:
    return open_keyset(fleet_run.keys["keyset"], fleet_run.keys["kek"]).primary.secret.reveal(SECRET_ACCESS)


@pytest.fixture(scope="module")
def site_of(fleet_run) -> dict[str, str]:
    """The site of every point of the reference; whatever it does not know is its own."""
    rows = pq.read_table(fleet_run.folder / "reference" / "sites.parquet").to_pylist()
    return {row["metering_point_id"]: row["site_id"] for row in rows}


def test_the_independent_computation_gives_the_known_answers():
    secret = bytes(range(32))
    for domain, entity, epoch, canonical_id, known in (
        ("load-research", "metering_point", "2026", "643006966022791278", "e4790e2f-9701-8f8f-96fc-7ae319b2e17c"),
        ("product-development", "metering_point", "", "643006966022791278", "f965ec5b-a9c6-86f9-a3e9-05896ffc9d7a"),
        ("load-research", "customer", "2026", "C-1001", "6c2badec-7386-8f9f-8d2e-9dc276f1a31e"),
    ):
        assert str(pseudonym(secret, domain, entity, epoch, canonical_id)) == known


def test_every_row_of_readings_is_an_operational_one_under_pseudonyms_of_the_year(fleet_run, secret, site_of):
    def named(entity: str, canonical_id: str | None) -> uuid.UUID | None:
        key = (entity, canonical_id)
        if canonical_id is not None and key not in known:
            known[key] = pseudonym(secret, "load-research", entity, "2026", canonical_id)
        return known.get(key)

    known: dict = {}
    operational = query(
        fleet_run.lake,
        "operational.readings",
        "SELECT metering_point_id, customer_id, product, direction, resolution_s, local_date, start, energy, status FROM t",
    )
    expected = Counter(
        (
            named("metering_point", point),
            named("usage_site", site_of.get(point, point)),
            named("customer", customer),
            *rest,
        )
        for point, customer, *rest in operational
    )
    assert len({row[5] for row in operational}) == 3
    columns = "metering_point, site, customer, product, direction, resolution_s, local_date, start, energy, status"
    assert Counter(query(fleet_run.lake, "analytics.readings", f"SELECT {columns} FROM t")) == expected


def test_days_have_pseudonyms_of_their_own_domain_that_stay(fleet_run, secret, site_of):
    sums = "SELECT metering_point_id, product, direction, local_date, sum(energy) FROM t GROUP BY ALL"
    operational = query(fleet_run.lake, "operational.readings", sums)
    expected = Counter(
        (
            pseudonym(secret, "product-development", "metering_point", "", point),
            pseudonym(secret, "product-development", "usage_site", "", site_of.get(point, point)),
            *rest,
        )
        for point, *rest in operational
    )
    columns = "metering_point, site, product, direction, local_date, energy"
    daily = Counter(query(fleet_run.lake, "analytics.daily", f"SELECT {columns} FROM t"))
    assert expected <= daily
    # The others are contracted points of which nothing came that day.
    assert all(energy is None for *_, energy in (daily - expected).elements())


def points_in_order(path: str, column: str) -> list:
    """List the points of a file in the order in which it first names them."""
    values = pq.read_table(path, columns=[column], partitioning=None)[column]
    return list(dict.fromkeys(values.to_pylist()))


def by_cell(lake: Path, table: str) -> dict[tuple[str, str], str]:
    paths = (Path(path) for path in paths_of(lake, table))
    return {(path.parent.name, path.name.partition("-")[0]): str(path) for path in paths}


def as_uuid(value) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(bytes=value)


def test_rows_do_not_join_by_position(fleet_run, secret):
    """The n-th point of one table's file and the n-th of the other's are one point no more often than by chance."""
    tables = {
        "operational.readings": ("metering_point_id", None),
        "analytics.readings": ("metering_point", ("load-research", "2026")),
        "analytics.daily": ("metering_point", ("product-development", "")),
    }
    every = "SELECT DISTINCT metering_point_id FROM t"
    tables_of_points = ("operational.readings", "operational.billing_daily")
    ids = {point for table in tables_of_points for (point,) in query(fleet_run.lake, table, every)}
    order = {}
    for table, (column, domain) in tables.items():
        back = (
            {pseudonym(secret, domain[0], "metering_point", domain[1], point): point for point in ids} if domain else {}
        )
        for cell, path in by_cell(fleet_run.lake, table).items():
            points = points_in_order(path, column)
            order[table, cell] = [back[as_uuid(point)] for point in points] if domain else points
    cells = by_cell(fleet_run.lake, "analytics.readings")
    assert len(cells) == 12
    for one, other in (
        ("operational.readings", "analytics.readings"),
        ("operational.readings", "analytics.daily"),
        ("analytics.readings", "analytics.daily"),
    ):
        # In a random order one point a cell is expected to stand where it stood; twelve cells: 12, give or take 3.5.
        matches = sum(
            first == second
            for cell in cells
            for first, second in zip(order[one, cell], order[other, cell], strict=False)
        )
        assert matches < 12 + 6 * 3.5, (one, other)


def test_files_of_analytics_are_sorted_by_their_own_pseudonym_then_start(fleet_run):
    for table, columns in (
        ("analytics.readings", ["metering_point", "start"]),
        ("analytics.daily", ["metering_point"]),
    ):
        for path in paths_of(fleet_run.lake, table):
            rows = pq.read_table(path, columns=columns, partitioning=None).to_pylist()
            keys = [(as_uuid(row["metering_point"]).bytes, *list(row.values())[1:]) for row in rows]
            assert keys == sorted(keys)


def test_a_day_of_one_point_has_one_pseudonym_across_days(fleet_run):
    """Without epochs the pseudonym stays; a point with all three days shows it."""
    days = query(
        fleet_run.lake, "analytics.daily", "SELECT metering_point, count(DISTINCT local_date) FROM t GROUP BY 1"
    )
    assert max(count for _, count in days) == 3
    first = min(day for (day,) in query(fleet_run.lake, "analytics.daily", "SELECT DISTINCT local_date FROM t"))
    assert query(
        fleet_run.lake, "analytics.daily", f"SELECT max(local_date) = '{first + timedelta(days=2)}' FROM t"
    ) == [(True,)]
