"""Verification finds nothing in a lake that is whole, and every kind of damage where it was done, once."""

import json
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from lent_lake import keep_copy, lend, verify
from privacy_support import make_fleet, run

from pipeline.context import RUNS, newest_reference
from pipeline.findings import Findings
from pipeline.iceberg import current_files
from pipeline.lake import open_lake
from pipeline.policy_file import load_policy
from pipeline.verify import verify_lake
from pipeline.verify_cells import CellChecks
from pipeline.verify_tables import TableFiles

FLIPS = 2000 if os.environ.get("METERVEIL_TEST_LARGE") else 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A lake that two runs made, and a copy of its files."""
    made = make_fleet(tmp_path_factory.mktemp("verify"))
    half = made.readings[: len(made.readings) // 2]
    assert made.ingest(*half, buckets=2).code == 0
    assert made.ingest().code == 0
    return keep_copy(made)


@pytest.fixture
def lake(whole):
    """That lake; what a test damages is mended after it."""
    with lend(whole) as lake:
        yield lake


def found(findings: Findings) -> list[tuple[str, str]]:
    """Checks that found something, and where."""
    places = [(check.name, place) for check in findings for place, _, breaks in check.places if breaks]
    assert len(places) == findings.violations
    return places


def noted(findings: Findings) -> list[tuple[str, str]]:
    return [(check.name, place) for check in findings for place, _, breaks in check.places if not breaks]


def shown(lake, path) -> str:
    return str(Path(path).relative_to(lake.root))


def flip(path: Path, at: int, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= bit
    path.write_bytes(content)


def files(lake, pattern: str) -> list[Path]:
    return sorted(path for path in lake.root.glob(pattern) if path.is_file())


def data_file(lake, table: str) -> Path:
    return Path(min(file.path for file in current_files(lake.table(table))))


def test_a_whole_lake_is_clean_and_stays_as_it_is(whole):
    before = {path: path.stat().st_mtime_ns for path in whole.lake.rglob("*")}
    done = run("verify", "--lake", whole.lake, "--json")
    assert (done.code, done.err) == (0, "")
    said = json.loads(done.out)
    assert said["violations"] == 0
    assert [check for check in said["checks"] if check["violations"] or check["notes"] or check["places"]] == []
    looked = {check["check"]: check["looked_at"] for check in said["checks"]}
    # Two days, two buckets, five derived tables; two runs.
    assert (looked["rows"], looked["occupancy"], looked["in step"], looked["sums"]) == (4, 4, 20, 16)
    assert (looked["runs"], looked["digests"], looked["reference"], looked["catalogs"]) == (2, 2, 1, 2)
    kept = len(list(whole.lake.glob("*/*/data/**/*.parquet")))
    assert looked["data files"] == kept > 4 + 12, "files of the first run's snapshots are looked at too"
    assert {path: path.stat().st_mtime_ns for path in whole.lake.rglob("*")} == before


@pytest.mark.parametrize("seed", range(3))
def test_any_flipped_byte_is_found(lake, seed):
    """In data, manifests, manifest lists and metadata, those of older snapshots too, the reference, the digests."""
    chance = random.Random(seed)
    every = files(lake, "*/*/data/**/*.parquet") + files(lake, "*/*/metadata/*")
    every += files(lake, "operational/reference/**/*") + files(lake, "operational/digests/*")
    assert len(every) > 60
    for _ in range(FLIPS // 3):
        path = chance.choice(every)
        content = path.read_bytes()
        at = chance.randrange(len(content))
        flip(path, at, 1 << chance.randrange(8))
        places = found(verify(lake))
        assert shown(lake, path) in {place for _, place in places}, (path, at)
        assert {place for _, place in places} == {shown(lake, path)}, "nothing else is blamed"
        path.write_bytes(content)
    assert found(verify(lake)) == []


DAMAGE = {
    "operational/readings/data/**/*.parquet": "data files",
    "analytics/readings/data/**/*.parquet": "data files",
    "operational/quarantine_readings/data/*.parquet": "data files",
    "operational/customer_service/data/*.parquet": "data files",
    "operational/readings/metadata/*-m0.avro": "metadata",
    "analytics/daily/metadata/snap-*.avro": "metadata",
    "operational/runs/metadata/00002-*.json": "metadata",
    "operational/reference/*/points-*.arrow": "reference",
    "operational/reference/*/manifest.json": "reference",
    "operational/digests/*.json": "digests",
    "operational/audit.jsonl": "audit log",
}


@pytest.mark.parametrize("pattern", DAMAGE)
@pytest.mark.parametrize("kind", ["cut", "noise"])
def test_damage_is_found_where_it_is_and_nowhere_else(lake, pattern, kind):
    path = files(lake, pattern)[0]
    content = path.read_bytes()
    path.write_bytes(content[:-7] if kind == "cut" else b"\x00\xff{" * 99)
    assert found(verify(lake)) == [(DAMAGE[pattern], shown(lake, path))]


@pytest.mark.parametrize("pattern", [p for p in DAMAGE if "digests" not in p and "audit" not in p])
def test_a_missing_file_is_found(lake, pattern):
    path = files(lake, pattern)[0]
    path.unlink()
    assert found(verify(lake)) == [(DAMAGE[pattern], shown(lake, path))]


def test_a_damaged_record_vouches_for_no_file(lake):
    path = data_file(lake, RUNS)
    flip(path, 200)
    assert {place for _, place in found(verify(lake))} == {shown(lake, path)}


@pytest.mark.parametrize("zone", ["operational", "analytics"])
def test_a_damaged_catalog_is_found(lake, zone):
    path = lake.folder(zone) / "catalog.db"
    flip(path, 0)
    assert found(verify(lake)) == [("catalogs", shown(lake, path))]


def test_a_catalog_that_was_set_back_is_found(lake):
    """As from an older copy: every digest is right, and the last run is gone."""
    with closing(sqlite3.connect(lake.analytics / "catalog.db")) as catalog, catalog:
        catalog.execute(
            "UPDATE iceberg_tables SET metadata_location = previous_metadata_location WHERE table_name = 'daily'"
        )
    assert found(verify(lake)) == [("metadata", "analytics.daily")]


def test_what_a_dead_run_left_is_noted_and_breaks_no_rule(lake):
    left = [
        lake.operational / "staging" / "20260330T040000Z-0123abcd",
        Path(lake.new_data_path("analytics.readings", "20541/00001", "0123abcd")),
        lake.analytics / "daily" / "metadata" / "0123abcd-m0.avro",
    ]
    left[0].mkdir(parents=True)
    for path in left[1:]:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    findings = verify(lake)
    assert found(findings) == []
    assert sorted(noted(findings)) == sorted(("left over", shown(lake, path)) for path in left)


def test_an_unfinished_commit_is_a_violation(lake):
    journal = lake.operational / "journal" / "20260330T040000Z-0123abcd.json"
    journal.parent.mkdir(exist_ok=True)
    journal.write_text("{}")
    done = run("verify", "--lake", lake.root)
    assert done.code == 1
    assert "the next run finishes it" in done.out.decode()
    assert done.err.startswith("meterveil: ")
    assert found(verify(lake)) == [("left over", shown(lake, journal))]


def test_a_lake_without_runs_is_clean(tmp_path, whole):
    assert run("init", "--lake", tmp_path / "lake", "--buckets", 2).code == 0
    assert found(verify_lake(open_lake(tmp_path / "lake"), load_policy(open_lake(whole.lake).stored_policy()))) == []
    cut = tmp_path / "cut.avro"
    cut.write_bytes(whole.readings[0].read_bytes()[:-500])
    assert whole.ingest(cut, lake=tmp_path / "lake").code == 1
    assert run("verify", "--lake", tmp_path / "lake").code == 0, "tables without a snapshot are no fault"


# Rows: files that say of themselves that all is well.


def check_cells(lake, reference=None) -> Findings:
    """The checks of rows alone, with every file taken for what was written."""
    findings = Findings(lake.root)
    plan = load_policy(lake.stored_policy())
    tables = {name: TableFiles(tuple(current_files(lake.table(name)))) for name in plan.datasets if name != RUNS}
    key = lake.table(RUNS).scan(selected_fields=("key_id",)).to_arrow()["key_id"][0].as_py()
    intact = {file.path for table in tables.values() for file in table.current}
    CellChecks(lake, plan, findings, reference or newest_reference(lake), [key]).check_all(tables, intact)
    return findings


def rewrite(path: Path, change, *, marks: dict[bytes, bytes] | None = None, **options) -> None:
    """Write a file's rows again, changed; its footer says what it said, but for marks."""
    with pq.ParquetFile(path) as file:
        table, kept = change(file.read()), dict(file.metadata.metadata) | (marks or {})
    schema = table.schema.remove_metadata()
    with pq.ParquetWriter(path, schema, store_schema=False, store_decimal_as_integer=True) as writer:
        writer.write_table(table.cast(schema), **options)
        writer.add_key_value_metadata(kept)


def with_column(table, name: str, values):
    position = table.column_names.index(name)
    return table.set_column(position, table.schema.field(name), values.cast(table.schema.field(name).type))


def change_one(name: str, value, row: int = 100):
    def change(table):
        values = table[name].to_pylist()
        values[row] = value(values[row]) if callable(value) else value
        return with_column(table, name, pa.array(values, table[name].type))

    return change


ROW_FAULTS = {
    "a key is there twice": lambda t: pa.concat_tables([t.slice(0, 50), t.slice(49)]),
    "rows are not sorted": lambda t: pa.concat_tables([t.slice(40, 1), t.slice(0, 40), t.slice(41)]),
    "rows of another day": lambda t: with_column(t, "local_date", pc.add(t["local_date"].cast(pa.int32()), 1).cast(pa.int32()).cast(pa.date32())),
    "points of another bucket": change_one("metering_point_id", lambda point: str(int(point) + 1), -1),
    "a value without energy": change_one("energy", None, 3),
    "a point has two customers": change_one("customer_id", "C-0", 3),
}  # fmt: skip


@pytest.mark.parametrize("fault", ROW_FAULTS)
@pytest.mark.parametrize("group", [1 << 18, 7], ids=["in a block", "between blocks"])
def test_a_fault_of_rows_is_found(lake, fault, group):
    assert check_cells(lake).violations == 0
    path = data_file(lake, "operational.readings")
    rewrite(path, lambda table: table, row_group_size=group)
    assert check_cells(lake).violations == 0
    rewrite(path, ROW_FAULTS[fault], row_group_size=group)
    [problem] = [problem for check in check_cells(lake) if check.name == "rows" for _, problem, _ in check.places]
    assert problem.startswith(fault)


def test_sums_that_do_not_match_are_found(lake):
    for table, name in (
        ("analytics.readings", "energy"),
        ("analytics.daily", "energy"),
        ("operational.billing_daily", "energy"),
    ):
        path = data_file(lake, table)
        content = path.read_bytes()
        rows = [n for n, value in enumerate(pq.ParquetFile(path).read([name])[name].to_pylist()) if value is not None]
        rewrite(path, change_one(name, lambda energy: energy + 1, rows[-1]))
        assert found(check_cells(lake)) == [("sums", shown(lake, path))]
        path.write_bytes(content)


def test_what_is_not_in_step_is_found(lake):
    for table, mark, value in (
        ("analytics.readings", b"meterveil.source", b"0" * 64),
        ("analytics.daily", b"meterveil.policy", b"0" * 64),
        ("analytics.daily", b"meterveil.key", b"00000000"),
    ):
        path = data_file(lake, table)
        content = path.read_bytes()
        rewrite(path, lambda rows: rows, marks={mark: value})
        assert found(check_cells(lake)) == [("in step", shown(lake, path))]
        path.write_bytes(content)


def test_another_customer_than_the_references_is_found(lake):
    """The whole day of a point is somebody else's: consistent, and wrong."""
    path = data_file(lake, "operational.readings")

    def move(table):
        first = pc.equal(table["metering_point_id"], table["metering_point_id"][0])
        return with_column(table, "customer_id", pc.if_else(first, "C-99999999", table["customer_id"]))

    rewrite(path, move)
    assert found(check_cells(lake)) == [("occupancy", shown(lake, path))]


def test_every_cell_is_as_the_newest_reference_says_whichever_it_was_written_by(whole, lake):
    before = newest_reference(lake)
    contracts = whole.folder / "fleet" / "reference" / "contracts.parquet"
    content = contracts.read_bytes()
    pq.write_table(pq.read_table(contracts).slice(30), contracts)
    try:
        assert whole.ingest(whole.readings[0]).code == 0
    finally:
        contracts.write_bytes(content)
    findings = verify(lake)
    assert found(findings) == []
    assert findings["occupancy"].looked_at == 4
    assert check_cells(lake, before)["occupancy"].violations


def test_a_derived_file_without_a_cell_or_the_other_way_round_is_found(lake):
    plan = load_policy(lake.stored_policy())
    tables = {name: TableFiles(tuple(current_files(lake.table(name)))) for name in plan.datasets if name != RUNS}
    for table, shorter in (("analytics.daily", 1), ("operational.readings", 5)):
        findings = Findings(lake.root)
        fewer = tables | {table: TableFiles(tables[table].current[1:])}
        CellChecks(lake, plan, findings, None, []).check_all(fewer, set())
        assert findings["in step"].violations == shorter == findings.violations
    doubled = tables | {"analytics.daily": TableFiles(tables["analytics.daily"].current * 2)}
    findings = Findings(lake.root)
    CellChecks(lake, plan, findings, None, []).check_all(doubled, set())
    assert findings.violations == 0, "the very same entry is one file"
