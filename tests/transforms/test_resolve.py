"""Resolving: what wins is what an oracle of loops says; order and repetition of rows never count."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reference import CUSTOMERS_SCHEMA
from schemas.registers import ATTRIBUTES, REGISTERS, SPEAKERS
from transforms.resolve import Resolution, resolve_customers

Row = Mapping[str, Any]
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
ORDER = {
    "name": ("population_register", "customers", "authority"),
    "phone": ("customers", "campaign", "telephone_directory"),
    "postal_address": ("population_register", "customers", "campaign"),
    "deceased_on": ("population_register",),
    "information_restriction": ("customers", "authority"),  # the population register is not even heard
}
FEEDS = ("population_register", "campaign", "telephone_directory", "authority")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "deceased_on": st.sampled_from([None, date(2026, 1, 2), date(2026, 1, 3)]),
    "information_restriction": st.sampled_from([None, True, False]),
}
WORDS = st.sampled_from([None, "A", "B", "C"])


def customer(number: int, **other: object) -> Row:
    return {"customer_id": f"C{number}", "kind": "person", "information_restriction": False, **other}


def said(number: int, day: int, **other: object) -> Row:
    return {"customer_id": f"C{number}", "source": "S", "received_at": EPOCH + timedelta(days=day), **other}


def resolve(
    customers: Sequence[Row], rows: Mapping[str, Sequence[Row]], order: Mapping[str, Sequence[str]] = ORDER
) -> Resolution:
    tables = {feed: pa.Table.from_pylist(list(of), schema=_nullable(REGISTERS[feed].kept)) for feed, of in rows.items()}
    return resolve_customers(pa.Table.from_pylist(list(customers), schema=CUSTOMERS_SCHEMA), tables, order)


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[list[Row], dict[str, list[Row]]]:
    customers = [
        customer(
            number, name=draw(WORDS), phone=draw(WORDS), city=draw(WORDS), information_restriction=draw(st.booleans())
        )
        for number in range(3)
    ]
    rows: dict[str, list[Row]] = {feed: [] for feed in FEEDS}
    for feed in draw(st.lists(st.sampled_from(FEEDS), max_size=12)):
        columns = [name for attribute in REGISTERS[feed].attributes for name in ATTRIBUTES[attribute]]
        values = {name: draw(VALUES.get(name, WORDS)) for name in columns}
        row = said(draw(st.integers(0, 3)), draw(st.integers(0, 2)), **values)
        rows[feed].append({**row, "source": draw(st.sampled_from(["S", "T"]))})
    return customers, rows


def _spell(row: Row, attribute: str) -> str | None:
    if attribute == "postal_address":
        postal = " ".join(filter(None, (row.get("postal_code"), row.get("city"))))
        return ", ".join(filter(None, (row.get("street_address"), postal))) or None
    value = row.get(attribute)
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _oracle(customers: Sequence[Row], rows: Mapping[str, Sequence[Row]], number: int, attribute: str) -> str | None:
    """Resolve one attribute of one customer by loops."""
    own = next(row for row in customers if row["customer_id"] == f"C{number}")
    statements = [("customers", "customers", EPOCH - timedelta(days=9999), _spell(own, attribute))]
    for feed, of in rows.items():
        if attribute in REGISTERS[feed].attributes:
            statements += [
                (feed, row["source"], row["received_at"], _spell(row, attribute))
                for row in of
                if row["customer_id"] == f"C{number}"
            ]
    statements = [statement for statement in statements if statement[3] is not None]
    order = ORDER.get(attribute, ("customers",))
    if attribute == "information_restriction":
        latest = {}
        for feed, source, at, value in statements:
            latest[feed, source] = max(latest.get((feed, source), (at, value)), (at, value))  # "true" > "false"
        return str("true" in {value for _, value in latest.values()}).lower()
    for feed in order:
        heard = [statement for statement in statements if statement[0] == feed]
        if heard:
            newest = max(at for _, _, at, _ in heard)
            return min(value for _, _, at, value in heard if at == newest)
    return None


@given(_worlds())
def test_agrees_with_an_oracle_of_loops(world: tuple[list[Row], dict[str, list[Row]]]) -> None:
    customers, rows = world
    resolved = resolve(customers, rows).customers.to_pylist()
    for number, row in enumerate(resolved):
        for attribute in ATTRIBUTES:
            assert _spell(row, attribute) == _oracle(customers, rows, number, attribute), attribute


@given(_worlds(), st.randoms(use_true_random=False))
def test_order_and_repetition_of_rows_never_count(
    world: tuple[list[Row], dict[str, list[Row]]], shuffler: random.Random
) -> None:
    customers, rows = world
    once = resolve(customers, rows)
    shuffled = {}
    for feed in shuffler.sample(sorted(rows), len(rows)):
        twice = [*rows[feed], *rows[feed]]
        shuffled[feed] = shuffler.sample(twice, len(twice))
    again = resolve(customers, shuffled)
    assert again.customers.equals(once.customers)
    assert again.provenance.equals(once.provenance)


@given(_worlds())
def test_every_statement_is_told_once_and_at_most_one_wins(world: tuple[list[Row], dict[str, list[Row]]]) -> None:
    customers, rows = world
    resolution = resolve(customers, rows)
    told = [tuple(row.values())[:-1] for row in resolution.provenance.to_pylist()]
    assert len(told) == len(set(told))
    expected = {
        (row["customer_id"], attribute, text, feed, row["source"], row["received_at"])
        for feed, of in rows.items()
        for row in of
        if row["customer_id"] != "C3"  # nobody
        for attribute in REGISTERS[feed].attributes
        if (text := _spell(row, attribute)) is not None
    }
    assert {key for key in told if key[3] != "customers"} == expected
    winners = [row for row in resolution.provenance.to_pylist() if row["outcome"] == "won"]
    assert len({(row["customer_id"], row["attribute"]) for row in winners}) == len(winners)
    values = {row["customer_id"]: row for row in resolution.customers.to_pylist()}
    assert all(_spell(values[row["customer_id"]], row["attribute"]) == row["value"] for row in winners)


@given(_worlds(), st.randoms(use_true_random=False))
def test_another_order_of_sources_changes_winners_only(
    world: tuple[list[Row], dict[str, list[Row]]], shuffler: random.Random
) -> None:
    customers, rows = world
    other = {attribute: shuffler.sample(feeds, len(feeds)) for attribute, feeds in SPEAKERS.items()}
    statements = [
        sorted((tuple(row.values())[:-1] for row in resolve(customers, rows, order).provenance.to_pylist()), key=str)
        for order in (ORDER, other)
    ]
    assert statements[0] == statements[1]


def test_a_customer_with_five_sources_has_a_winner_and_losers_with_reasons() -> None:
    order = {"phone": ("customers", "campaign", "telephone_directory", "authority")}
    resolution = resolve(
        [customer(1, phone=None, name="Aino")],
        {
            "campaign": [said(1, 1, phone="1"), said(1, 2, phone="2"), said(1, 2, phone="3")],
            "telephone_directory": [said(1, 9, phone="2")],
            "authority": [said(1, 9, phone="4")],
            "company": [said(1, 9, phone="5")],
            "public_source": [said(2, 9, phone="6")],
        },
        order,
    )
    assert resolution.customers["phone"].to_pylist() == ["2"]
    assert [(row["value"], row["feed"], row["outcome"]) for row in resolution.provenance.to_pylist()] == [
        ("2", "campaign", "won"),
        ("3", "campaign", "tie"),
        ("1", "campaign", "older"),
        ("2", "telephone_directory", "agrees"),
        ("4", "authority", "source_order"),
        ("5", "company", "unlisted"),
    ]


def test_a_newer_statement_of_the_same_source_wins() -> None:
    for days, expected in (((1, 2), "B"), ((2, 1), "A")):
        rows = [said(1, day, name=name) for day, name in zip(days, "AB", strict=True)]
        assert resolve([customer(1)], {"population_register": rows}).customers["name"].to_pylist() == [expected]


def test_an_address_is_never_mixed() -> None:
    own = customer(1, street_address="Katu 1", postal_code="00100", city="HELSINKI")
    row = resolve([own], {"population_register": [said(1, 1, street_address="Tie 2", city="OULU")]}).customers
    assert row.select(["street_address", "postal_code", "city"]).to_pylist() == [
        {"street_address": "Tie 2", "postal_code": None, "city": "OULU"}
    ]


@pytest.mark.parametrize(
    ("own", "said_on", "restricted"),
    [
        (False, [(1, True)], True),
        (False, [(1, True), (2, False)], False),
        (False, [(2, False), (2, True)], True),  # at the same time the protection counts
        (True, [(1, True), (2, False)], True),
        (True, [], True),
    ],
)
def test_a_restriction_holds_until_every_source_has_lifted_it(
    *, own: bool, said_on: list[tuple[int, bool]], restricted: bool
) -> None:
    rows = [said(1, day, information_restriction=value) for day, value in said_on]
    resolution = resolve([customer(1, information_restriction=own)], {"population_register": rows})
    assert resolution.customers["information_restriction"].to_pylist() == [restricted]
