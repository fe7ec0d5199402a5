"""Registers in a snapshot: a generated population comes out as its truth says, in any order and with any key."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from register_feeds import AT, CODE, SAMPLES, write_feeds

from pipeline.errors import MeterveilError
from pipeline.fleet.options import FleetOptions
from pipeline.fleet.reference import build_fleet
from pipeline.fleet.register import write_reference
from pipeline.fleet.registers import TRUTH_FILE, write_registers
from pipeline.fleet.writers import load_avro_schema
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.reference import Snapshot, build_snapshot
from pipeline.registers import ResolveRules
from schemas.registers import REGISTERS
from transforms.customers import join_address

RULES = ResolveRules(load_policy(DEFAULT_POLICY).resolution)
BUCKETS = 4
#: Points with 50,000 customers.
POINTS = 53_000


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Snapshot]:
    folder = tmp_path_factory.mktemp("population")
    options = FleetOptions(points=POINTS, faults=frozenset(), feeds=frozenset(REGISTERS))
    told = write_registers(write_reference(build_fleet(options), folder / "reference"), folder)
    return folder, told, build_snapshot(folder / "reference", folder / "snapshots", BUCKETS, RULES)


def read_all(snapshot: Snapshot, kind: str) -> pa.Table:
    opened = (
        [snapshot.facts(kind, bucket) for bucket in range(BUCKETS)]
        if kind in REGISTERS
        else [getattr(snapshot, kind)(bucket) for bucket in range(BUCKETS)]
    )
    return pa.concat_tables(opened)


def list_customers(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    return {row["customer_id"]: row for row in read_all(snapshot, "customers").to_pylist()}


def test_everybody_comes_out_as_the_truth_says(population) -> None:
    folder, _, snapshot = population
    truth = pq.read_table(folder / TRUTH_FILE)
    truth = truth.append_column(
        "postal_address", join_address(truth["street_address"], truth["postal_code"], truth["city"])
    )
    found = list_customers(snapshot)
    assert len(found) == truth.num_rows > 50_000
    names = ("name", "phone", "email", "postal_address", "language", "deceased_on", "information_restriction")
    wrong = dict.fromkeys(names, 0)
    for row in truth.to_pylist():
        for name in names:
            wrong[name] += found[row["customer_id"]][name] != row[name]
    assert wrong == dict.fromkeys(names, 0)


def test_bans_objections_and_defaults_are_those_of_the_truth(population) -> None:
    folder, _, snapshot = population
    truth = pq.read_table(folder / TRUTH_FILE)

    def having(register: str, column: str, value: str) -> set[str]:
        rows = read_all(snapshot, register)
        return set(rows.filter(pc.equal(rows[column], value))["customer_id"].to_pylist())

    def told(column: str) -> set[str]:
        return set(truth.filter(truth[column])["customer_id"].to_pylist())

    assert having("marketing_ban", "channel", "telephone") == told("banned_by_telephone")
    assert having("marketing_ban", "channel", "post") == told("banned_by_post")
    assert having("consent", "action", "objected") == told("objected")
    owing = truth.filter(truth["defaults"].is_valid())
    credit = read_all(snapshot, "credit_register")
    assert dict(zip(credit["customer_id"].to_pylist(), credit["defaults"].to_pylist(), strict=True)) == dict(
        zip(owing["customer_id"].to_pylist(), owing["defaults"].to_pylist(), strict=True)
    )
    assert min(map(len, (told("banned_by_telephone"), told("objected"), owing))) > 1000


def test_rows_of_every_register_are_accounted_for(population) -> None:
    folder, told, snapshot = population
    manifest = json.loads((folder / "snapshots" / snapshot.version / "manifest.json").read_text())
    for name, expected in told.items():
        counts = manifest["registers"][name]
        assert counts["rows"] == expected["rows"]
        assert counts.get("nobody", 0) == expected.get("nobody", 0), name
        assert counts.get("ambiguous", 0) == expected.get("ambiguous", 0), name
        done = sum(counts.get(part, 0) for part in ("matched", "ambiguous", "nobody"))
        assert done + sum(counts["set aside"].values()) == counts["rows"]
    assert manifest["conflicts"]["phone: source_order"] > 100
    assert manifest["conflicts"]["postal_address: older"] > 100


def build(folder: Path, feeds: dict[str, list[dict[str, Any]]], **options: Any) -> Snapshot:
    return build_snapshot(write_feeds(folder / "in", feeds, **options), folder / "lake", BUCKETS, RULES)


def all_rows(snapshot: Snapshot) -> dict[str, list[dict[str, Any]]]:
    kinds = ("customers", "provenance", *(name for name, register in REGISTERS.items() if register.facts))
    return {kind: read_all(snapshot, kind).to_pylist() for kind in kinds}


@pytest.mark.parametrize("suffix", [".csv", ".avro"])
def test_every_register_says_the_same_in_every_format(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    plain = all_rows(build(tmp_path / "one", SAMPLES))
    assert all_rows(build(tmp_path / "two", SAMPLES, suffix=suffix)) == plain
    found = {row["customer_id"]: row for row in plain["customers"]}
    assert (found["C1"]["phone"], found["C1"]["deceased_on"], found["C1"]["language"]) == ("050 1", AT.date(), "sv")
    assert found["C1"]["information_restriction"]
    assert found["C2"]["email"] == "ä@b"
    assert found["C3"]["name"] == "Firma Oy"
    assert plain["payment"][0]["amount_cents"] == 1 << 40
    assert all(plain.values())


def test_avro_schemas_are_those_of_arrow() -> None:
    types = {"string": pa.string(), "int": pa.int32(), "long": pa.int64(), "boolean": pa.bool_()}
    logical = {"date": pa.date32(), "timestamp-micros": pa.timestamp("us", tz="UTC")}
    for name, register in REGISTERS.items():
        for written, field in zip(load_avro_schema(name)["fields"], register.schema, strict=True):
            of = written["type"][1] if isinstance(written["type"], list) else written["type"]
            made = logical[of["logicalType"]] if isinstance(of, dict) else types[of]
            assert (written["name"], made, isinstance(written["type"], list)) == (
                field.name,
                field.type,
                field.nullable,
            )
            assert written["doc"]


def test_bad_rows_of_others_are_set_aside_by_reason(tmp_path: Path) -> None:
    good = {"identity_code": CODE, "language": "sv"}
    feeds = {
        "population_register": [
            good,
            {**good, "identity_code": "010190-900A"},
            {**good, "source": ""},
            {**good, "received_at": None, "source": None},
            {"language": "sv"},
        ],
        "marketing_ban": [{"phone": "0401234567", "channel": "pigeon", "list_version": AT.date()}],
    }
    snapshot = build(tmp_path, feeds)
    told = json.loads((tmp_path / "lake" / snapshot.version / "manifest.json").read_text())["registers"]
    assert told["population_register"] == {
        "rows": 5,
        "matched": 1,
        "ambiguous": 0,
        "nobody": 0,
        "set aside": {"no source": 2, "identity_code malformed": 1, "no key": 1},
    }
    assert told["marketing_ban"]["set aside"] == {"channel none of telephone, post": 1}
    assert CODE not in json.dumps(told)
    assert snapshot.registers() == told


@pytest.mark.parametrize(
    ("feed", "fault", "message"),
    [
        ("consent", {"action": "shrugged"}, "action none of given, withdrawn, objected: 1 rows"),
        ("payment", {"customer_id": None}, "no customer_id: 1 rows"),
    ],
)
def test_bad_rows_of_our_own_systems_are_refused(tmp_path: Path, feed: str, fault: Any, message: str) -> None:
    with pytest.raises(MeterveilError, match=message):
        build(tmp_path, {feed: [{**SAMPLES[feed][0], **fault}, *SAMPLES[feed]]})


def test_whoever_is_no_customer_becomes_none(tmp_path: Path) -> None:
    feeds = {name: [{**row} for row in rows] for name, rows in SAMPLES.items()}
    stranger = [{"customer_id": "C9", "kind": "person", "name": "Lumi"}]
    snapshot = build(tmp_path, feeds, customers=stranger)
    rows = all_rows(snapshot)
    assert [row["customer_id"] for row in rows.pop("customers")] == ["C9"]
    assert not any(rows.values())
    told = json.loads((tmp_path / "lake" / snapshot.version / "manifest.json").read_text())["registers"]
    assert {name: (counts["nobody"], counts["matched"]) for name, counts in told.items()} == dict.fromkeys(told, (1, 0))


def test_order_repetition_and_key_change_nothing(tmp_path: Path) -> None:
    feeds = {name: [*rows, {**rows[0], "source": "T"}] for name, rows in SAMPLES.items()}
    once = build_snapshot(write_feeds(tmp_path / "once", feeds), tmp_path / "one", BUCKETS, RULES)
    again = {name: [rows[1], rows[0], rows[1]] for name, rows in reversed(feeds.items())}
    other = ResolveRules(RULES.order, bytes(range(32)))
    twice = build_snapshot(write_feeds(tmp_path / "twice", again), tmp_path / "two", BUCKETS, other)
    assert all_rows(twice) == all_rows(once)


def test_another_order_of_sources_is_another_version(tmp_path: Path) -> None:
    source = write_feeds(tmp_path / "in", SAMPLES)
    first = build_snapshot(source, tmp_path / "lake", BUCKETS, RULES)
    assert build_snapshot(source, tmp_path / "lake", BUCKETS, RULES) == first
    silent = build_snapshot(source, tmp_path / "lake", BUCKETS)
    assert silent.version != first.version
    found = {row["customer_id"]: row for row in all_rows(silent)["customers"]}
    assert (found["C1"]["phone"], found["C1"]["deceased_on"]) == (None, None)
    assert found["C1"]["information_restriction"]  # protections are always heard


def test_damage_to_what_registers_said_is_found(tmp_path: Path) -> None:
    snapshot = build(tmp_path, SAMPLES)
    folder = tmp_path / "lake" / snapshot.version
    for name in ("provenance-00000.arrow", "consent-00001.arrow"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-20])
    assert snapshot.find_damage() == ["consent-00001.arrow", "provenance-00000.arrow"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_identity_codes_are_in_the_customers_view_and_nowhere_else(tmp_path: Path) -> None:
    rows = all_rows(build(tmp_path, SAMPLES))
    assert CODE in str(rows.pop("customers"))
    assert CODE not in str(rows)
