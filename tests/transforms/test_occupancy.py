"""The occupancy join, beside a search of every contract for every point and day."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reference import CONTRACTS_SCHEMA, POINTS_SCHEMA
from transforms.occupancy import contracted_points, join_occupancy

Row = Mapping[str, Any]

_POINTS = ["P1", "P2", "P3", "P4"]
_DAY_0 = date(2026, 3, 28)
_EPOCH = date(1970, 1, 1)
_SIGNED = datetime(2026, 1, 1, tzinfo=UTC)
_SITE_ATTRIBUTES = (
    "site_id",
    "direction",
    "postal_code",
    "municipality",
    "building_type",
    "heating",
    "fuse_a",
    "grid_area",
)


def _day(number: int) -> date:
    return _DAY_0 + timedelta(number)


def _number(day: date) -> int:
    return (day - _EPOCH).days


def _table(rows: Sequence[Row], schema: pa.Schema, *order: str) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema).sort_by([(name, "ascending") for name in order])


def _sites(rows: Sequence[Row]) -> pa.Table:
    return _table(rows, POINTS_SCHEMA, "metering_point_id")


def _contracts(rows: Sequence[Row]) -> pa.Table:
    return _table(rows, CONTRACTS_SCHEMA, "metering_point_id", "valid_from")


def _site(point: str, **attributes: object) -> Row:
    return {"metering_point_id": point, "site_id": f"S-{point}", "direction": "production", **attributes}


def _contract(
    contract: str, point: str, first: int, end: int | None, signed: int = 0, tariff: str | None = "spot"
) -> Row:
    return {
        "contract_id": contract,
        "metering_point_id": point,
        "customer_id": f"C-{contract}",
        "tariff": tariff,
        "valid_from": _day(first),
        "valid_to": None if end is None else _day(end),
        "signed_at": _SIGNED + timedelta(hours=signed),
    }


_sites_drawn = st.lists(
    st.builds(
        _site,
        st.sampled_from(_POINTS),
        postal_code=st.sampled_from(["00100", None]),
        fuse_a=st.sampled_from([25, None]),
        heating=st.sampled_from(["district", None]),
    ),
    unique_by=lambda row: row["metering_point_id"],
)
_contracts_drawn = st.lists(
    st.builds(
        lambda contract, point, first, length, signed, tariff: _contract(
            contract, point, first, None if length is None else first + length, signed, tariff
        ),
        st.sampled_from("KLMNOPQRST"),
        st.sampled_from(_POINTS),
        st.integers(0, 6),
        st.one_of(st.none(), st.integers(1, 4)),
        st.integers(0, 2),
        st.sampled_from(["spot", None]),
    ),
    unique_by=lambda row: row["contract_id"],
    max_size=10,
)
_ids_drawn = st.sets(st.sampled_from([*_POINTS, "P0", "P5"])).map(sorted)
_day_drawn = st.integers(-1, 11).map(_day)


def _covering(contracts: Sequence[Row], day: date) -> list[Row]:
    return [row for row in contracts if row["valid_from"] <= day and (row["valid_to"] is None or day < row["valid_to"])]


@given(_ids_drawn, _day_drawn, _sites_drawn, _contracts_drawn)
def test_agrees_with_a_search_of_every_contract(
    ids: list[str], day: date, sites: list[Row], contracts: list[Row]
) -> None:
    found = join_occupancy(pa.array(ids, pa.string()), _number(day), _sites(sites), _contracts(contracts))
    for place, point in enumerate(ids):
        site = next((row for row in sites if row["metering_point_id"] == point), None)
        holders = [row for row in _covering(contracts, day) if row["metering_point_id"] == point]
        holder: Row = max(holders, key=lambda row: (row["signed_at"], row["contract_id"]), default={})
        assert found.known[place] == (site is not None)
        assert found.overlapping[place] == (len(holders) > 1)
        for name in ("customer_id", "contract_id", "tariff"):
            assert getattr(found, name)[place].as_py() == holder.get(name)
        expected = site or {"site_id": point, "direction": "consumption"}
        for name in _SITE_ATTRIBUTES:
            assert getattr(found, name)[place].as_py() == expected.get(name)


@given(_day_drawn, _contracts_drawn)
def test_contracted_points_are_those_with_a_covering_contract(day: date, contracts: list[Row]) -> None:
    expected = sorted({row["metering_point_id"] for row in _covering(contracts, day)})
    assert contracted_points(_number(day), _contracts(contracts)).to_pylist() == expected


@given(_contracts_drawn.filter(bool), _sites_drawn, _day_drawn, st.randoms(use_true_random=False))
def test_the_order_of_the_reference_does_not_matter(
    contracts: list[Row], sites: list[Row], day: date, random: Any
) -> None:
    shuffled = random.sample(contracts, len(contracts))
    ids = pa.array(_POINTS)
    one = join_occupancy(ids, _number(day), _sites(sites), pa.Table.from_pylist(contracts, schema=CONTRACTS_SCHEMA))
    two = join_occupancy(ids, _number(day), _sites(sites), pa.Table.from_pylist(shuffled, schema=CONTRACTS_SCHEMA))
    assert one.contract_id == two.contract_id
    assert one.overlapping.tolist() == two.overlapping.tolist()


@pytest.mark.parametrize(
    ("day", "customer"), [(1, None), (2, "C-OLD"), (4, "C-OLD"), (5, "C-NEW"), (6, "C-NEW"), (7, None)]
)
def test_a_move_changes_the_customer_at_the_first_day_of_the_new_contract(day: int, customer: str | None) -> None:
    contracts = _contracts([_contract("OLD", "P1", 2, 5), _contract("NEW", "P1", 5, 7, 1)])
    found = join_occupancy(pa.array(["P1"]), _number(_day(day)), _sites([_site("P1")]), contracts)
    assert found.customer_id.to_pylist() == [customer]
    assert not found.overlapping.any()


@pytest.mark.parametrize(("signed", "winner"), [((0, 1), "L"), ((1, 0), "K"), ((0, 0), "L")])
def test_of_two_contracts_the_later_signed_counts_and_then_the_greater_id(signed: tuple[int, int], winner: str) -> None:
    contracts = _contracts([_contract("K", "P1", 0, None, signed[0]), _contract("L", "P1", 1, 9, signed[1])])
    found = join_occupancy(pa.array(["P1"]), _number(_day(3)), _sites([_site("P1")]), contracts)
    assert found.contract_id.to_pylist() == [winner]
    assert found.overlapping.tolist() == [True]


def test_a_contract_counts_at_a_point_that_the_sites_lack() -> None:
    contracts = _contracts([_contract("K", "P1", 0, None)])
    found = join_occupancy(pa.array(["P1", "P2"]), _number(_day(0)), _sites([]), contracts)
    assert found.known.tolist() == [False, False]
    assert found.site_id.to_pylist() == ["P1", "P2"]
    assert found.customer_id.to_pylist() == ["C-K", None]


def test_without_reference_nothing_is_known() -> None:
    found = join_occupancy(pa.array(["P1"]), 0, POINTS_SCHEMA.empty_table(), CONTRACTS_SCHEMA.empty_table())
    assert not found.known.any()
    assert found.contract_id.null_count == 1
    assert contracted_points(0, CONTRACTS_SCHEMA.empty_table()).to_pylist() == []
