"""Registers in a lake: what they change there, what they don't, and who may know why."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from history_oracle import BUCKETS, HOUR, Contract, Reference, deliver, write_readings, write_reference
from register_feeds import AT, write_register
from whole_job import CELL_TABLES, ingest, make_keys, paths_of, rows_of

from pipeline.access import User
from pipeline.cli import main
from pipeline.errors import MeterveilError
from pipeline.lake import open_lake
from pipeline.policy_file import load_policy
from pipeline.provenance import explain_customer
from pipeline.verify import verify_lake
from schemas.reference import CUSTOMERS_SCHEMA

CODES = {1: "2077474-0", 2: "1111111-1"}
PERSON = {"kind": "company", "name": "Firma Oy", "information_restriction": False}
SERVICE = User("ville", frozenset({"meterveil-customer-service"}))
REFERENCE = Reference(
    {0: ("S-0", "consumption")}, (Contract(0, -9, None, "C-1"), Contract(0, -99, -9, "C-2", name="K-2"))
)


class World:
    """A lake with a day of readings, and references with other registers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lake, self.keys = folder, folder / "lake", make_keys(folder)
        readings = write_readings(folder / "readings.parquet", list(deliver(0, 0, HOUR, 2, 2, 0, "OK", 5)))
        self.ingest({}, [readings])

    def ingest(self, registers: dict[str, list[dict[str, Any]]], readings: list[Path] | None = None) -> None:
        folder = write_reference(self.folder / f"reference-{len(list(self.folder.iterdir()))}", REFERENCE)
        people = [{"customer_id": f"C-{number}", **PERSON, "business_id": code} for number, code in CODES.items()]
        pq.write_table(pa.Table.from_pylist(people, schema=CUSTOMERS_SCHEMA), folder / "customers.parquet")
        for name, rows in registers.items():
            write_register(folder, name, rows)
        ingest(self.lake, readings or [], self.keys, reference=folder, buckets=BUCKETS)

    def served(self) -> dict[str, dict[str, Any]]:
        return {row["customer_id"]: row for row in rows_of(self.lake, "operational.customer_service").to_pylist()}

    def explain(self, customer: str, user: User = SERVICE, role: str = "customer_service") -> list[dict[str, Any]]:
        lake = open_lake(self.lake)
        return explain_customer(lake, load_policy(lake.stored_policy()), role, "customer_service", customer, user)

    def cell_files(self) -> list[str]:
        return [path for table in CELL_TABLES for path in paths_of(self.lake, table)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def of_customer(number: int, day: int = 1, **said: object) -> dict[str, Any]:
    """Say something of a customer, found by business id."""
    return {"business_id": CODES[number], "received_at": AT + timedelta(days=day), **said}


def test_what_registers_say_reaches_customers_and_touches_no_cell(world: World) -> None:
    before = world.cell_files()
    world.ingest({"company": [of_customer(1, phone="1")], "authority": [of_customer(1, phone="2")]})
    assert world.served()["C-1"]["phone"] == "2"
    world.ingest({"company": [of_customer(1, phone="1")]})
    assert world.served()["C-1"]["phone"] == "1"
    assert world.cell_files() == before
    lake = open_lake(world.lake)
    assert verify_lake(lake, load_policy(lake.stored_policy())).violations == 0


def test_a_restriction_takes_a_customer_out_and_lifting_it_brings_them_back(world: World) -> None:
    assert set(world.served()) == {"C-1", "C-2"}
    told = [of_customer(1, information_restriction=True)]
    world.ingest({"authority": told})
    assert set(world.served()) == {"C-2"}
    world.ingest({"authority": [*told, of_customer(1, 2, information_restriction=False)]})
    assert set(world.served()) == {"C-1", "C-2"}


def test_a_role_learns_why_but_no_more_than_its_datasets_show(world: World) -> None:
    world.ingest(
        {
            "company": [of_customer(1, phone="1", language="sv")],
            "authority": [of_customer(1, phone="2", deceased_on=AT.date())],
        }
    )
    rows = world.explain("c-1 ")
    assert [(row["value"], row["feed"], row["outcome"]) for row in rows if row["attribute"] == "phone"] == [
        ("2", "authority", "won"),
        ("1", "company", "source_order"),
    ]
    assert {row["attribute"] for row in rows} <= {"name", "phone", "email", "postal_address", "language"}
    assert all(row["source"] == "S" for row in rows if row["attribute"] == "phone")


def test_of_five_sources_each_attributes_winner_and_losers_are_shown(world: World) -> None:
    said = {
        "datahub_customer": [
            of_customer(1, name="Datahub Oy", phone="1"),
            of_customer(1, 5, phone="11", language="fi"),
        ],
        "authority": [of_customer(1, name="Authority Oy", phone="2", email="a@example.fi", language="sv")],
        "company": [of_customer(1, name="Company Oy", phone="3", email="c@example.fi")],
        "public_source": [of_customer(1, 9, phone="4", email="p@example.fi", language="en")],
    }
    world.ingest(said)
    shown: dict[str, list[tuple[Any, ...]]] = {}
    for row in world.explain("C-1"):
        shown.setdefault(row["attribute"], []).append((row["outcome"], row["value"], row["feed"]))
    assert shown == {
        "name": [
            ("won", "Firma Oy", "customers"),
            ("source_order", "Datahub Oy", "datahub_customer"),
            ("source_order", "Authority Oy", "authority"),
            ("source_order", "Company Oy", "company"),
        ],
        "phone": [
            ("won", "11", "datahub_customer"),
            ("older", "1", "datahub_customer"),
            ("source_order", "2", "authority"),
            ("source_order", "3", "company"),
            ("source_order", "4", "public_source"),
        ],
        "email": [
            ("won", "a@example.fi", "authority"),
            ("source_order", "c@example.fi", "company"),
            ("source_order", "p@example.fi", "public_source"),
        ],
        "language": [
            ("won", "fi", "datahub_customer"),
            ("source_order", "sv", "authority"),
            ("source_order", "en", "public_source"),
        ],
    }
    served = world.served()["C-1"]
    assert {name: rows[0][1] for name, rows in shown.items()} == {name: served[name] for name in shown}


def test_who_may_not_see_a_customer_learns_nothing(world: World) -> None:
    world.ingest({"authority": [of_customer(1, information_restriction=True)]})
    messages = set()
    for customer in ("C-1", "C-99"):
        with pytest.raises(MeterveilError, match="no such customer") as refused:
            world.explain(customer)
        messages.add(str(refused.value))
    assert len(messages) == 1
    with pytest.raises(MeterveilError, match="not granted"):
        world.explain("C-2", User("eve", frozenset()))
    log = [json.loads(line) for line in (world.lake / "operational" / "audit.jsonl").read_text().splitlines()]
    assert [entry["outcome"] for entry in log if entry["command"] == "explain-customer"] == ["failed"] * 2 + ["refused"]
    assert "C-1" not in str(log)
    assert "C-2" not in str(log)


def test_the_command_refuses_whom_the_policy_does_not_grant(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--lake", str(world.lake), "--role", "customer_service", "--purpose", "customer_service"]
    assert main(["explain-customer", *options, "C-1"]) == 1
    assert "not granted" in capsys.readouterr().err
