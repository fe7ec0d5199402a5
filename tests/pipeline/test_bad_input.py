import json
import os
import shutil
import subprocess
from itertools import pairwise

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from privacy_support import PROGRAM, make_fleet, run, snapshots_of, stray_files

from pipeline.iceberg import current_files
from pipeline.lake import open_lake
from pipeline.policy_file import DEFAULT_POLICY
from pipeline.runners import Engine
from pipeline.sources.avro_blocks import read_header, walk_blocks


@pytest.fixture(scope="module")
def retailer(tmp_path_factory):
    """A fleet without faults, and a lake that took it in."""
    made = make_fleet(tmp_path_factory.mktemp("bad"), faults="none")
    done = made.ingest()
    assert done.code == 0, done.err
    return made


def assert_refused(done, *words: str, code: int = 1) -> None:
    """One clear line, and the exit code."""
    assert done.code == code, done.err
    assert done.err.startswith("meterveil"), done.err
    assert done.err.count("\n") == 1, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err, done.err


# Whole runs: what stops them, on a lake that has tables already and on one that is yet to be made.


def write(path, content: bytes | str, mode: int = 0o600):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def other_columns(path):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), path)
    return path


def cut(folder, retailer, size: slice):
    return write(folder / "a.avro", retailer.readings[0].read_bytes()[size])


def damage(folder, retailer):
    content = bytearray(retailer.readings[0].read_bytes())
    middle = len(content) // 2
    content[middle : middle + 100] = b"\x00\xff" * 50
    return write(folder / "a.avro", bytes(content))


def name_octets(folder):
    path = os.fsencode(folder) + b"/\xff.avro"
    os.close(os.open(path, os.O_CREAT))
    return os.fsdecode(path)


PORTAL_CSV = """MeteringPointGSRN;Product Type;Resolution;Unit Type;Reading Type;Start Time;Quantity;Quality
643006966022791278;8716867000030;PT15M;kWh;BN01;2026-03-28T00:00:00Z;1,0;OK
"""
#: What is wrong: how it is made, and what the line says.
READINGS = {
    "missing": (lambda folder, _: folder / "nothing.avro", "there is no such file"),
    "empty pattern": (lambda folder, _: folder / "*.avro", "no file matches"),
    "folder": (lambda folder, _: folder, "there is no such file"),
    "0 bytes": (lambda folder, _: write(folder / "a.avro", b""), "is empty (0 bytes)"),
    "cut short": (lambda folder, retailer: cut(folder, retailer, slice(-100)), "byte"),
    "header only": (lambda folder, retailer: cut(folder, retailer, slice(40)), "byte"),
    "damaged block": (damage, "byte"),
    "other columns": (lambda folder, _: other_columns(folder / "a.parquet"), "metering_point"),
    "cut Parquet": (
        lambda folder, _: write(folder / "b.parquet", other_columns(folder / "a.parquet").read_bytes()[:-5]),
        "b.parquet",
    ),
    "another CSV": (lambda folder, _: write(folder / "a.csv", "name;age\nx;1\n"), "of no known format"),
    "garbage": (lambda folder, _: write(folder / "ä 😀\n.bin", b"\xff\x00" * 999), "of no known format"),
    "not UTF-8": (lambda folder, _: name_octets(folder), "the name is not UTF-8"),
    "no registration": (lambda folder, _: write(folder / "a.csv", PORTAL_CSV), "--registered-at"),
}
#: Those that are found when the lake is made already.
LATE = {"0 bytes", "cut short", "damaged block", "no registration"}


@pytest.mark.parametrize("kind", list(READINGS))
def test_readings_that_can_not_be_read_stop_the_run(retailer, tmp_path, kind):
    make, word = READINGS[kind]
    path = make(tmp_path, retailer)
    before = snapshots_of(retailer.lake)
    # The good file beside it may be worked on first: nothing of it may stay.
    assert_refused(retailer.ingest(retailer.readings[1], path), word)
    assert snapshots_of(retailer.lake) == before
    assert stray_files(retailer.lake) == set()
    if kind in LATE:
        lake = tmp_path / "new"
        assert_refused(retailer.ingest(retailer.readings[1], path, lake=lake), word)
        assert set(snapshots_of(lake).values()) == {None}
        assert stray_files(lake) == set()


def policy_with(folder, old: str, new: str) -> dict:
    text = DEFAULT_POLICY.read_text(encoding="utf-8")
    assert old in text
    return {"policy": write(folder / "p.yaml", text.replace(old, new))}


def policy_without_runs(folder) -> dict:
    text = DEFAULT_POLICY.read_text(encoding="utf-8")
    return {"policy": write(folder / "p.yaml", text[: text.index("  # One line per run")])}


def other_key(folder) -> dict:
    new = {"keyset": folder / "keyset", "kek": folder / "kek"}
    assert run("keys", "create", "--keyset", new["keyset"], "--kek", new["kek"]).code == 0
    return new


def open_keyset(folder, retailer) -> dict:
    return {"keyset": write(folder / "keyset", (retailer.folder / "keyset.json").read_bytes(), 0o640)}


BOMB = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(9))
OPTIONS = {
    "unknown field": (
        lambda folder, _: policy_with(folder, "direction: keep", "direktion: keep"),
        "did you mean 'direction'?",
    ),
    "YAML bomb": (lambda folder, _: {"policy": write(folder / "p.yaml", BOMB)}, "no aliases"),
    "deep YAML": (lambda folder, _: {"policy": write(folder / "p.yaml", "[" * 5000)}, "nested too deep"),
    "no record of runs": (lambda folder, _: policy_without_runs(folder), "operational.runs"),
    "other policy": (
        lambda folder, _: policy_with(folder, "postal_prefix: 3", "postal_prefix: 2"),
        "the policy is not the one",
    ),
    "wrong kek": (lambda folder, _: {"kek": write(folder / "kek", os.urandom(32))}, "does not open key"),
    "open kek": (lambda folder, _: {"kek": write(folder / "kek", os.urandom(32), 0o644)}, "others may reach"),
    "open keyset": (open_keyset, "others may reach"),
    "other key": (lambda folder, _: other_key(folder), "the key is not the one"),
    "other buckets": (lambda *_: {"buckets": 64}, "was made with"),
    "other time zone": (lambda *_: {"time_zone": "Europe/Stockholm"}, "was made with"),
    "no buckets": (lambda folder, _: {"buckets": 0, "lake": folder / "new"}, "power of two"),
    "too many buckets": (lambda folder, _: {"buckets": 1 << 20, "lake": folder / "new"}, "power of two"),
    "no time zone": (lambda folder, _: {"time_zone": "Mars/Base", "lake": folder / "new"}, "IANA"),
    "no format": (lambda *_: {"format": "xls"}, "there is no such format"),
    "no runner": (lambda *_: {"runner": "Nobody"}, "there is no such runner"),
    "no reference": (lambda folder, _: {"reference": folder / "nothing"}, "there is no such folder"),
    "no place for the record": (lambda folder, _: {"run_record": folder / "nothing" / "record"}, "can't be written"),
    "lake is a file": (lambda folder, _: {"lake": write(folder / "lake", b"")}, "a file where a folder"),
    "lake holds other things": (lambda folder, _: {"lake": write(folder / "x", b"").parent}, "not a lake"),
}


@pytest.mark.parametrize("kind", list(OPTIONS))
def test_options_that_do_not_fit_stop_the_run(retailer, tmp_path, kind):
    make, word = OPTIONS[kind]
    options = make(tmp_path, retailer)
    before = snapshots_of(retailer.lake)
    assert_refused(retailer.ingest(**options), word)
    assert snapshots_of(retailer.lake) == before
    assert stray_files(retailer.lake) == set()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ('{"format_version": 3, "of": "another time"}', "upgrade meterveil"),
        ('{"format_version": "1"}', "the settings can't be read"),
        ("[]", "the settings can't be read"),
        ("", "the settings can't be read"),
    ],
)
def test_a_lake_that_this_version_does_not_know_is_left_alone(retailer, tmp_path, content, word):
    lake = tmp_path / "lake"
    lake.mkdir()
    (lake / "meterveil.json").write_text(content)
    assert_refused(retailer.ingest(lake=lake), word)
    assert [path.name for path in lake.iterdir()] == ["meterveil.json"]


def test_a_copy_of_a_lake_does_not_change_the_lake(retailer, tmp_path):
    before = snapshots_of(retailer.lake)
    shutil.copytree(retailer.lake, tmp_path / "copy")
    assert_refused(retailer.ingest(lake=tmp_path / "copy"), "a copy of a lake")
    assert snapshots_of(retailer.lake) == before


# Usage: exit code 2.


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["ingest", "--nothing-such"], "are required"),
        (["ingest", "--lake", "x", "--keyset", "k", "--kek", "k"], "give --readings, --reference, or both"),
        (["query", "--nothing-such", "1", "--lake", "x", "--role", "r", "--purpose", "p", "SELECT 1"], "nothing-such"),
        (["nothing"], "invalid choice"),
        ([], "are required"),
        (["init", "--lake", "x", "--buckets", "many"], "invalid int value"),
    ],
)
def test_wrong_usage_is_told_in_a_line(arguments, word):
    assert_refused(run(*arguments), word, "--help", code=2)


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--skip-bad-file"], "unknown option --skip-bad-file"),
        (["--direct_num_workers=2", "--nothing=5"], "unknown option --nothing"),
        (["stray"], "unknown option stray"),
        (["--direct_num_workers", "many"], "argument --direct_num_workers: invalid int value: 'many'"),
        (["--direct_num_workers", "2", "--experiments", "x"], ""),
        ([], ""),
    ],
)
def test_options_go_to_beam_only_if_it_knows_them(flags, fault):
    assert Engine(flags=flags).find_fault() == fault


def test_an_unknown_option_of_a_run_is_wrong_usage(retailer, tmp_path):
    lake = tmp_path / "new"
    assert_refused(retailer.ingest(lake=lake, nothing_such=True), "unknown option --nothing-such", code=2)
    for share in ("much", "nan", "101%"):
        assert_refused(retailer.ingest(lake=lake, max_quarantined=share), "a share between 0 and 1", code=2)
    assert not lake.exists()


def test_the_program_itself_ends_with_the_code_and_the_line(retailer, tmp_path):
    zero = write(tmp_path / "a.avro", b"")
    command = [*PROGRAM, *retailer.arguments(zero, lake=tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert_refused(run(*command[len(PROGRAM) :]), "0 bytes")
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (1, 1, ""), done.stderr
    assert "0 bytes" in done.stderr


# Errors that nobody foresaw: still one line, and no value.


def test_a_full_disk_is_told_in_a_line(retailer, tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise OSError(28, "No space left on device", "/disk/file")

    monkeypatch.setattr("pipeline.cells.write_data_file", fail)
    lake = tmp_path / "new"
    assert_refused(retailer.ingest(lake=lake), "No space left on device")
    assert set(snapshots_of(lake).values()) == {None}
    assert stray_files(lake) == set()


@pytest.mark.parametrize("step", ["cells.fold", "commit.check_conservation"])
def test_an_error_that_nobody_foresaw_shows_no_value(retailer, tmp_path, monkeypatch, step):
    def fail(*_args, **_options):
        raise ValueError("not a number: 643006966022791278\nC-10000001")

    monkeypatch.setattr(f"pipeline.{step}", fail)
    lake = tmp_path / "new"
    assert_refused(retailer.ingest(lake=lake), "ValueError in ", step.partition(".")[0])
    assert set(snapshots_of(lake).values()) == {None}
    assert stray_files(lake) == set()


# Files cut short, everywhere.


@pytest.fixture(scope="module")
def blocks(retailer):
    """The bytes of an Avro file of many blocks, and where its blocks end."""
    with retailer.readings[1].open("rb") as file:
        reader = fastavro.reader(file)
        schema, records = reader.writer_schema, list(reader)
    path = retailer.folder / "blocks.avro"
    with path.open("wb") as file:
        fastavro.writer(file, schema, records, codec="deflate", sync_interval=4000)
    content = path.read_bytes()
    header = read_header(content, str(path))
    return content, [header.length, *(block.stop for block in walk_blocks(content, header, str(path)))]


def test_an_avro_file_cut_anywhere_but_between_blocks_is_found(retailer, tmp_path, blocks):
    content, ends = blocks
    assert len(ends) > 5
    path, sizes = tmp_path / "a.avro", {1, 4, ends[0] - 1}
    for start, end in pairwise(ends):
        sizes |= {start + 1, start + 3, (start + end) // 2, end - 17, end - 16, end - 1}
    for size in sorted(sizes):
        path.write_bytes(content[:size])
        assert_refused(retailer.ingest(path, dry_run=True, json=True), "a.avro")
    readings = []
    for end in ends[1:]:  # a file cut there is whole to every reader: fewer readings, which the run record tells
        path.write_bytes(content[:end])
        readings.append(json.loads(retailer.ingest(path, dry_run=True, json=True).out)["readings"])
    assert readings == sorted(set(readings))


def test_a_parquet_file_cut_anywhere_is_found(retailer, tmp_path):
    fleet = tmp_path / "fleet"
    assert run("generate", "--points", 20, "--days", 1, "--format", "parquet", "--out", fleet).code == 0
    whole = next((fleet / "readings").iterdir())
    content, path = whole.read_bytes(), tmp_path / "a.parquet"
    assert json.loads(retailer.ingest(whole, dry_run=True, json=True).out)["readings"] > 0
    for size in [1, 3, 4, *np.linspace(5, len(content) - 1, 25).astype(int)]:
        path.write_bytes(content[:size])
        assert_refused(retailer.ingest(path, dry_run=True, json=True), "a.parquet")


# What goes on: bad files by option, bad rows always.


def test_bad_files_are_listed_and_passed_over_by_option(retailer, tmp_path):
    bad = [write(tmp_path / "empty.avro", b""), write(tmp_path / "cut.avro", retailer.readings[0].read_bytes()[:-9])]
    lake = tmp_path / "new"
    record = tmp_path / "record.json"
    done = retailer.ingest(retailer.readings[1], *bad, lake=lake, skip_bad_files=True, run_record=record)
    assert done.code == 0, done.err
    told = json.loads(record.read_text())
    assert [entry["name"] for entry in told["inputs"]] == [retailer.readings[1].name]
    assert len(told["skipped"]) == 2
    for path, line in zip(("cut.avro", "empty.avro"), told["skipped"], strict=True):
        assert path in line
    described = json.loads(retailer.ingest(*bad, lake=lake, skip_bad_files=True, dry_run=True, json=True).out)
    assert ["problem" in file for file in described["files"]] == [True, True]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    return make_fleet(tmp_path_factory.mktemp("faulty"))


def test_too_much_in_quarantine_stops_before_the_commit(faulty, tmp_path):
    lake = tmp_path / "new"
    assert_refused(faulty.ingest(lake=lake, max_quarantined="0.1%"), "readings quarantined", "more than 0.1")
    assert set(snapshots_of(lake).values()) == {None}
    assert stray_files(lake) == set()


def test_bad_rows_are_set_aside_with_reason_file_and_row(faulty):
    done = faulty.ingest(json=True)
    assert done.code == 0, done.err
    record = json.loads(done.out)
    files = current_files(open_lake(faulty.lake).table("operational.quarantine_readings"))
    rows = pa.concat_tables([pq.read_table(file.path, partitioning=None) for file in files])
    told = {
        name.partition(":")[2]: n for name, n in record["totals"]["counts"].items() if name.startswith("quarantined:")
    }
    found = {pair["values"]: pair["counts"] for pair in rows["reason"].value_counts().to_pylist()}
    assert found == told != {}
    inputs = {(entry["sha256"], entry["name"]) for entry in record["inputs"]}
    assert set(zip(rows["file_digest"].to_pylist(), rows["file_name"].to_pylist(), strict=True)) <= inputs
    assert min(rows["row"].to_pylist()) >= 1


def test_a_dry_run_tells_and_writes_nothing(faulty, tmp_path):
    before = sorted(faulty.folder.rglob("*"))
    lake = tmp_path / "new"
    done = faulty.ingest(lake=lake, dry_run=True, json=True)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert not lake.exists()
    assert sorted(faulty.folder.rglob("*")) == before
    assert [file["name"] for file in told["files"]] == [path.name for path in faulty.readings]
    assert {cell["local_date"] for cell in told["cells"]} >= {"2026-03-28", "2026-03-29"}
    assert told["quarantined"]
    assert len(told["policy_digest"]) == 64
    assert "operational.readings" in told["datasets"]
    shown = faulty.ingest(lake=lake, dry_run=True).out.decode()
    assert f"{told['readings']:,} readings" in shown
    assert "nothing was written" in shown


# File modes.


def test_operational_files_are_their_owners_alone(faulty, tmp_path):
    command = [*PROGRAM, *faulty.arguments(lake=tmp_path / "lake")]
    subprocess.run(command, check=True, capture_output=True, umask=0o022)
    operational, analytics = tmp_path / "lake" / "operational", tmp_path / "lake" / "analytics"
    private = [operational, *operational.rglob("*")]
    assert {path.name for path in private} >= {
        "catalog.db",
        "audit.jsonl",
        "data",
        "metadata",
        "reference",
        "policy.yaml",
    }
    assert {oct(path.stat().st_mode & 0o777) for path in private if path.is_dir()} == {"0o700"}
    assert {oct(path.stat().st_mode & 0o777) for path in private if path.is_file()} == {"0o600"}
    shared = [analytics, *analytics.rglob("*")]
    assert {oct(path.stat().st_mode & 0o777) for path in shared if path.is_dir()} == {"0o755"}
    assert {oct(path.stat().st_mode & 0o777) for path in shared if path.is_file()} == {"0o644"}


def test_a_feed_that_the_policy_does_not_list_is_refused(retailer, tmp_path):
    document = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
    del document["sources"]["contracts"]
    policy = write(tmp_path / "policy.yaml", yaml.safe_dump(document, sort_keys=False))
    done = retailer.ingest(lake=tmp_path / "lake", policy=policy)
    assert_refused(done, "contracts.parquet", "the policy has no source contracts", "list it there")
