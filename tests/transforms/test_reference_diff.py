"""The difference of two references, beside a look at every point on every day."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reference import CONTRACTS_SCHEMA, POINTS_SCHEMA
from transforms.occupancy import join_occupancy
from transforms.reference_diff import compare_references

POINTS = ["P1", "P2", "P3"]
DAY_0 = date(2026, 3, 28)
DAYS = range(8)
WHAT_IS_JOINED = ("known", "withheld", "overlapping", "site_id", "direction", "customer_id", "contract_id")


def number(day: int) -> int:
    return (DAY_0 - date(1970, 1, 1)).days + day


def site(
    point: str,
    site: str = "S1",
    direction: str = "consumption",
    heating: str | None = None,
    *,
    withheld: bool = False,
) -> dict:
    return {
        "metering_point_id": point, "site_id": site, "direction": direction, "heating": heating, "withheld": withheld,
    }  # fmt: skip


def contract(
    point: str, first: int, end: int | None, who: str = "C1", signed: int = 0, name: str = "K1", tariff: str = "spot"
) -> dict:
    return {
        "contract_id": name,
        "metering_point_id": point,
        "customer_id": who,
        "tariff": tariff,
        "valid_from": DAY_0 + timedelta(first),
        "valid_to": None if end is None else DAY_0 + timedelta(end),
        "signed_at": datetime(2026, 1, 1, signed, tzinfo=UTC),
    }


def reference(sites: list[dict], contracts: list[dict]) -> tuple[pa.Table, pa.Table]:
    return (
        pa.Table.from_pylist(sites, POINTS_SCHEMA).sort_by("metering_point_id"),
        pa.Table.from_pylist(contracts, CONTRACTS_SCHEMA).sort_by(
            [("metering_point_id", "ascending"), ("valid_from", "ascending")]
        ),
    )


sites = st.lists(
    st.builds(site, st.sampled_from(POINTS), st.sampled_from(["S1", "S2"]), st.sampled_from(["consumption", "production"]),
              withheld=st.booleans()),
    max_size=3,
    unique_by=lambda row: row["metering_point_id"],
)  # fmt: skip
contracts = st.lists(
    st.builds(
        lambda point, first, days, *rest: contract(point, first, None if days is None else first + days, *rest),
        st.sampled_from(POINTS),
        st.integers(-2, 7),
        st.none() | st.integers(1, 9),
        st.sampled_from(["C1", "C2"]),
        st.integers(0, 2),
        st.sampled_from(["K1", "K2"]),
    ),
    max_size=5,
)
references = st.builds(reference, sites, contracts)


def say(of: tuple[pa.Table, pa.Table], point: str, day: int) -> tuple[list, Counter]:
    """What a reference says of a point on a day, told row by row."""
    at = DAY_0 + timedelta(day)
    known = [
        (row["site_id"], row["direction"], row["withheld"])
        for row in of[0].to_pylist()
        if row["metering_point_id"] == point
    ]
    covering = Counter(
        (row["contract_id"], row["customer_id"], row["signed_at"])
        for row in of[1].to_pylist()
        if row["metering_point_id"] == point
        and row["valid_from"] <= at
        and (row["valid_to"] is None or at < row["valid_to"])
    )
    return known, covering


@given(references, references)
def test_a_point_changes_on_just_the_days_on_which_something_else_is_said_of_it(old, new):
    changes = compare_references(old, new)
    for day in DAYS:
        expected = {point for point in POINTS if say(old, point, day) != say(new, point, day)}
        assert set(changes.on(number(day)).to_pylist()) == expected, day


@given(references, references)
def test_what_does_not_change_is_joined_alike(old, new):
    changes = compare_references(old, new)
    for day in DAYS:
        same = pa.array(sorted(set(POINTS) - set(changes.on(number(day)).to_pylist())), pa.string())
        before, after = (join_occupancy(same, number(day), *of) for of in (old, new))
        for name in WHAT_IS_JOINED:
            assert list(getattr(before, name)) == list(getattr(after, name)), name


@pytest.mark.parametrize(
    ("old", "new", "days"),
    [
        ([("P1", 0, None)], [("P1", 0, 5)], {5, 6, 7}),  # ended
        ([("P1", 0, 5)], [("P1", 0, None)], {5, 6, 7}),  # prolonged
        ([("P1", 4, None)], [("P1", 2, None)], {2, 3}),  # corrected backwards
        ([("P1", 0, 4), ("P1", 4, None, "C2", 0, "K2")], [("P1", 0, 2), ("P1", 2, None, "C2", 0, "K2")], {2, 3}),
        ([], [("P1", 3, 4)], {3}),
        ([("P1", 0, None)], [("P1", 0, 3), ("P1", 3, None)], set()),  # written in two rows
        ([("P1", 0, None)], [("P1", 0, 3), ("P1", 5, None)], {3, 4}),
        ([("P1", 0, None)], [("P1", 0, None, "C2")], set(DAYS)),
        ([("P1", 0, None)], [("P1", 0, None, "C1", 1)], set(DAYS)),  # signed at another time: it may now win
        ([("P1", 0, None)], [("P1", 0, None, "C1", 0, "K1", "fixed")], set()),  # a tariff touches no day
    ],
)
def test_contracts_change_known_days(old, new, days):
    rows = [site("P1")]
    changes = compare_references(
        reference(rows, [contract(*row) for row in old]), reference(rows, [contract(*row) for row in new])
    )
    assert {day for day in DAYS if len(changes.on(number(day)))} == days


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ([], [site("P1")], True),
        ([site("P1")], [], True),
        ([site("P1")], [site("P1", "S2")], True),
        ([site("P1")], [site("P1", "S1", "production")], True),
        ([site("P1")], [site("P1", heating="district")], False),
    ],
)
def test_points_change_on_all_days_or_on_none(old, new, changed):
    changes = compare_references(reference(old, []), reference(new, []))
    for day in (-200_000, 0, 20_000, 1_000_000):
        assert changes.on(day).to_pylist() == (["P1"] if changed else [])
