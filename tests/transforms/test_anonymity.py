"""k-anonymity: whatever is told of a site is shared by k sites on that day, counted by code that knows no ladder."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reference import CONTRACTS_SCHEMA, POINTS_SCHEMA
from transforms.anonymity import SITE_BITS, Combinations, anonymise, generalise, list_contracted
from transforms.buckets import bucket_of
from transforms.plan import Band, Column, Keep, PostalPrefix

COLUMNS = (
    Column("heating", "heating", Keep(), pa.string(), False, ""),
    Column("fuse_band", "fuse_a", Band((25, 35)), pa.string(), False, ""),
    Column("postal_area", "postal_code", PostalPrefix(3), pa.string(), False, ""),
)
NAMES = [column.name for column in COLUMNS]
DAYS = range(100, 140)
ORDER = [("metering_point_id", "ascending"), ("valid_from", "ascending")]


def number(ids):
    return bucket_of(ids, 1 << SITE_BITS)


def make_reference(random, points, buckets):
    """Points of sites, some of them with two that may differ, and contracts: per bucket, sorted as a snapshot is."""
    sites = [f"S{random.integers(0, max(1, points * 3 // 4)):04d}" for _ in range(points)]
    of_bucket = defaultdict(lambda: ([], []))
    for n, site in enumerate(sites):
        home, contracts = of_bucket[int(random.integers(buckets))]
        point = {
            "metering_point_id": f"P{n:05d}",
            "site_id": site,
            "direction": "consumption",
            "heating": random.choice(["gas", "oil", None, "direct"]),
            "fuse_a": None if random.random() < 0.1 else int(random.choice([16, 25, 63])),
            "postal_code": random.choice(["00100", "00120", "00210", "02100", "90100", "here", None]),
            "withheld": int(site[1:]) % 8 == 3,
        }
        home.append(point)
        for c in range(random.integers(0, 3)):
            begin = int(random.integers(DAYS[0] - 20, DAYS[-1]))
            end = None if random.random() < 0.4 else begin + int(random.integers(1, 30))
            contracts.append(
                {"metering_point_id": point["metering_point_id"], "contract_id": f"K{n}-{c}", "customer_id": "C",
                 "valid_from": begin, "valid_to": end, "signed_at": 0}
            )  # fmt: skip
        if random.random() < 0.1:  # at a point that the reference does not know
            contracts.append({**contracts[-1], "metering_point_id": "Q"} if contracts else {
                "metering_point_id": "Q", "contract_id": "K", "customer_id": "C", "valid_from": 0, "valid_to": None,
                "signed_at": 0})  # fmt: skip
    return [
        (pa.Table.from_pylist(points, POINTS_SCHEMA), pa.Table.from_pylist(contracts, CONTRACTS_SCHEMA).sort_by(ORDER))
        for points, contracts in of_bucket.values()
    ]


def exact(point):
    postal, fuse = None if point["withheld"] else point["postal_code"], point["fuse_a"]
    band = None if fuse is None else "<25" if fuse < 25 else "25-34" if fuse < 35 else ">=35"
    return point["heating"], band, postal[:3] if postal and postal[0].isdigit() else None


def told_rows(reference, generalised):
    """What is told of every point, by what is exact."""
    for points, _ in reference:
        rows = [exact(point) for point in points.to_pylist()]
        columns = {name: pa.array([row[n] for row in rows], pa.string()) for n, name in enumerate(NAMES)}
        told = anonymise(columns, NAMES, generalised)
        yield from zip(
            points.to_pylist(), rows, zip(*(told[name].to_pylist() for name in NAMES), strict=True), strict=True
        )


def contracted(reference, day):
    return {
        contract["metering_point_id"]
        for _, contracts in reference
        for contract in contracts.cast(
            pa.schema(
                [
                    field if not pa.types.is_date(field.type) else field.with_type(pa.int32())
                    for field in contracts.schema
                ]
            )
        ).to_pylist()
        if contract["valid_from"] <= day and (contract["valid_to"] is None or day < contract["valid_to"])
    }


@given(st.integers(0, 2**32), st.integers(1, 120), st.integers(1, 4), st.integers(2, 6))
def test_k_sites_share_whatever_is_told_and_what_k_share_is_told_exactly(seed, points, buckets, k):
    random = np.random.default_rng(seed)
    reference = make_reference(random, points, buckets)
    combinations = Combinations.of([list_contracted(*part, COLUMNS, number) for part in reference])
    for day in random.choice(DAYS, 3):
        there = contracted(reference, day)
        sharing, told_of = defaultdict(set), {}
        for point, row, told in told_rows(reference, generalise(combinations, COLUMNS, k, int(day))):
            assert told_of.setdefault(row, told) == told
            for coarse, fine in zip(told, row, strict=True):
                assert coarse is None or (fine is not None and fine.startswith(coarse))
            if point["metering_point_id"] in there:
                sharing[told].add(point["site_id"])
        for told, sites in sharing.items():
            assert len(sites) >= k or told == (None, None, None)
        # What k sites of one point share is told as it is.
        for row, sites in single_points(reference, there).items():
            assert len(sites) < k or told_of[row] == row


def single_points(reference, there):
    """Sites under contract with one point, by what is exact."""
    points = [point for table, _ in reference for point in table.to_pylist()]
    found = defaultdict(set)
    for point in points:
        alone = sum(other["site_id"] == point["site_id"] for other in points) == 1
        if alone and point["metering_point_id"] in there:
            found[exact(point)].add(point["site_id"])
    return found


def test_the_first_column_stays_exact_the_longest():
    rows = (
        [("gas", "16", "001")] * 5 + [("gas", "16", "002")] * 2 + [("gas", "63", "002")] * 3 + [("oil", "16", "9")] * 4
    )
    points = [
        {"metering_point_id": f"P{n}", "site_id": f"S{n}", "direction": "consumption", "heating": heating,
         "fuse_a": int(fuse), "postal_code": postal + "00", "withheld": False}
        for n, (heating, fuse, postal) in enumerate(rows)
    ]  # fmt: skip
    contracts = [
        {"metering_point_id": point["metering_point_id"], "contract_id": "K", "customer_id": "C", "valid_from": 0,
         "valid_to": None, "signed_at": 0}
        for point in points
    ]  # fmt: skip
    reference = [(pa.Table.from_pylist(points, POINTS_SCHEMA), pa.Table.from_pylist(contracts, CONTRACTS_SCHEMA))]
    combinations = Combinations.of([list_contracted(*part, COLUMNS, number) for part in reference])
    told = {row: told for _, row, told in told_rows(reference, generalise(combinations, COLUMNS, 5, 0))}
    assert told == {
        ("gas", "<25", "001"): ("gas", "<25", "001"),
        ("gas", "<25", "002"): ("gas", None, None),
        ("gas", ">=35", "002"): ("gas", None, None),
        ("oil", "<25", "900"): (None, None, None),
    }
    # The day before the contracts nobody shares anything.
    nothing = {told for _, _, told in told_rows(reference, generalise(combinations, COLUMNS, 5, -1))}
    assert nothing == {(None, None, None)}


def test_a_site_counts_once_however_many_points_contracts_and_changes_it_has():
    points = [
        {
            "metering_point_id": f"P{n}",
            "site_id": f"S{n % 2}",
            "direction": "consumption",
            "heating": "gas",
            "withheld": False,
        }
        for n in range(6)
    ]
    contracts = [
        {"metering_point_id": f"P{n}", "contract_id": f"K{n}{begin}", "customer_id": "C", "valid_from": begin,
         "valid_to": begin + 10, "signed_at": 0}
        for n in range(6) for begin in (0, 5, 10)
    ]  # fmt: skip
    part = (pa.Table.from_pylist(points, POINTS_SCHEMA), pa.Table.from_pylist(contracts, CONTRACTS_SCHEMA))
    combinations = Combinations.of([list_contracted(*part, COLUMNS, number)])
    assert [combinations.count(day).tolist() for day in (-1, 0, 7, 19, 20)] == [[0], [2], [2], [2], [0]]


@pytest.mark.parametrize("parts", [1, 3])
def test_an_empty_reference_tells_nothing(parts):
    empty = (POINTS_SCHEMA.empty_table(), CONTRACTS_SCHEMA.empty_table())
    combinations = Combinations.of([list_contracted(*empty, COLUMNS, number)] * parts)
    told = generalise(combinations, COLUMNS, 5, 0).tell([pa.array(["gas"])] * 3)
    assert [column.to_pylist() for column in told] == [[None]] * 3
