"""The customers view, beside a join by loops."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reference import CONTRACTS_SCHEMA, RESOLVED_SCHEMA, SITES_SCHEMA
from transforms.customers import CUSTOMERS_VIEW_SCHEMA, join_address, join_customers, place_contracts

Row = Mapping[str, Any]

_SITES: list[Row] = [
    {
        "metering_point_id": "P1",
        "site_id": "S1",
        "direction": "consumption",
        "street_address": "Katu 1",
        "city": "Turku",
    },
    {"metering_point_id": "P2", "site_id": "S1", "direction": "production"},
]


def _customer(customer: str) -> Row:
    return {
        "customer_id": customer,
        "kind": "person",
        "name": f"Name of {customer}",
        "street_address": "Tie 2",
        "postal_code": "00100",
        "city": "Helsinki",
        "information_restriction": customer == "C2",
    }


def _contract(contract: str, customer: str, point: str) -> Row:
    return {
        "contract_id": contract,
        "metering_point_id": point,
        "customer_id": customer,
        "tariff": "spot",
        "valid_from": date(2026, 1, 1),
        "signed_at": datetime(2025, 12, 1, tzinfo=UTC),
    }


def _join(customers: list[Row], contracts: list[Row]) -> pa.Table:
    points = pa.Table.from_pylist(_SITES, schema=SITES_SCHEMA)
    placed = place_contracts(pa.Table.from_pylist(contracts, schema=CONTRACTS_SCHEMA), points)
    return join_customers(pa.Table.from_pylist(customers, schema=RESOLVED_SCHEMA), placed)


@given(
    st.sets(st.sampled_from(["C1", "C2", "C3"])).map(sorted),
    st.lists(
        st.builds(
            _contract,
            st.sampled_from("KLMNO"),
            st.sampled_from(["C1", "C2", "C4"]),
            st.sampled_from(["P1", "P2", "P3"]),
        ),
        unique_by=lambda row: row["contract_id"],
    ),
)
def test_agrees_with_a_join_by_loops(customers: list[str], contracts: list[Row]) -> None:
    site_of = {row["metering_point_id"]: row["site_id"] for row in _SITES}
    expected = []
    for customer in customers:
        own = [row for row in contracts if row["customer_id"] == customer]
        expected += [(customer, row["contract_id"], site_of.get(row["metering_point_id"])) for row in own] or [
            (customer, None, None)
        ]
    rows = _join([_customer(customer) for customer in customers], contracts)
    assert rows.schema == CUSTOMERS_VIEW_SCHEMA
    rows.validate(full=True)
    assert (
        list(zip(*(rows[name].to_pylist() for name in ("customer_id", "contract_id", "site_id")), strict=True))
        == expected
    )


def test_a_row_holds_the_customer_the_contract_and_the_site() -> None:
    (row,) = _join([_customer("C2")], [_contract("K", "C2", "P1")]).to_pylist()
    assert row == {
        "customer_id": "C2",
        "kind": "person",
        "name": "Name of C2",
        "identity_code": None,
        "business_id": None,
        "phone": None,
        "email": None,
        "postal_address": "Tie 2, 00100 Helsinki",
        "language": None,
        "information_restriction": True,
        "deceased_on": None,
        "metering_point_id": "P1",
        "site_id": "S1",
        "site_address": "Katu 1, Turku",
        "contract_id": "K",
        "tariff": "spot",
        "valid_from": date(2026, 1, 1),
        "valid_to": None,
        "building_type": None,
        "heating": None,
        "fuse_a": None,
    }


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (("Katu 1", "00100", "Helsinki"), "Katu 1, 00100 Helsinki"),
        (("Katu 1", None, "Helsinki"), "Katu 1, Helsinki"),
        (("Katu 1", None, None), "Katu 1"),
        ((None, "00100", None), "00100"),
        ((None, None, None), None),
    ],
)
def test_an_address_leaves_out_what_is_missing(parts: tuple[str | None, ...], line: str | None) -> None:
    street, postal_code, city = (pa.array([part], pa.string()) for part in parts)
    assert join_address(street, postal_code, city).to_pylist() == [line]
