import base64
import bz2
import json
import re
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import apache_beam as beam
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from privacy_support import PROGRAM, make_fleet, run

from pipeline.commit import CommitRules
from pipeline.context import RunContext, newest_reference
from pipeline.errors import MeterveilError
from pipeline.ingest import build_ingest
from pipeline.keys import SECRET_ACCESS, open_keyset
from pipeline.lake import open_lake
from pipeline.leaks import MIN_TOKEN_BYTES, Leak, Tokens, collect_tokens, find_leaks
from pipeline.sources.base import ReadOptions
from transforms.limits import NO_LIMITS

#: An id that is also a number, and a name that JSON escapes and the other case hides.
POINT, NAME = "643006966022791278", "Ätlé kanarialintunen"
TOKENS = Tokens([POINT, NAME])

few_letters = st.text("ab", max_size=40).map(str.encode)
words = st.lists(st.text("ab", min_size=MIN_TOKEN_BYTES, max_size=12), max_size=6)


@given(words=words, text=few_letters)
def test_a_token_is_found_exactly_where_it_is(words, text):
    found = Tokens(words).find(text)
    assert (found is not None) == any(word.encode() in text for word in words)
    assert found is None or found in text


@given(before=st.binary(max_size=20), after=st.binary(max_size=20))
def test_a_token_is_found_between_any_bytes(before, after):
    for word in (POINT, NAME, NAME.replace("kanaria", "KANARIA")):
        assert TOKENS.find(before + word.encode() + after)


def test_short_words_are_no_tokens():
    assert len(Tokens(["C-1001", "12345678", "ää-ää-"])) == 2
    assert Tokens(["C-1001"]).find(b"C-1001") is None
    assert Tokens([]).find(POINT.encode()) is None


# Every place that can hold a leak: it is planted, and found there.


def write_parquet(path: Path, column, **options) -> None:
    field = pa.field("start", column.type, metadata=options.pop("field_metadata", None))
    options = {"compression": "zstd", "write_statistics": False} | options
    pq.write_table(pa.table([column], pa.schema([field])), path, **options)


def plant_column(folder: Path) -> list[Leak]:
    write_parquet(folder / "a.parquet", pa.array([f"x{n}{POINT}{n}" for n in range(50)]), use_dictionary=False)
    return [Leak("a.parquet", "column start")]


def plant_number(folder: Path) -> list[Leak]:
    write_parquet(folder / "a.parquet", pa.array([1, int(POINT)]))
    return [Leak("a.parquet", "column start")]


def plant_time(folder: Path) -> list[Leak]:
    write_parquet(folder / "a.parquet", pa.array([int(POINT)]).cast(pa.timestamp("us", tz="UTC")))
    return [Leak("a.parquet", "column start")]


def plant_octets(folder: Path) -> list[Leak]:
    write_parquet(folder / "a.parquet", pa.array([POINT.encode()], pa.binary(18)))
    return [Leak("a.parquet", "bytes"), Leak("a.parquet", "column start")]


def plant_nested(folder: Path) -> list[Leak]:
    write_parquet(folder / "a.parquet", pa.array([[{"a": f"x{n}{POINT}"}] for n in range(50)]), use_dictionary=False)
    return [Leak("a.parquet", "column start")]


def plant_dictionary(folder: Path) -> list[Leak]:
    entries = pa.array(["OK", *(f"x{n}{POINT}" for n in range(50))])
    write_parquet(folder / "a.parquet", pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int32()), entries))
    assert pq.read_table(folder / "a.parquet")["start"].to_pylist() == ["OK", "OK"]  # no row shows it
    return [Leak("a.parquet", "column start")]


def plant_statistics(folder: Path) -> list[Leak]:
    write_parquet(folder / "a.parquet", pa.array([int(POINT)] * 2), write_statistics=True)
    return [Leak("a.parquet", "statistics of start"), Leak("a.parquet", "column start")]


def plant_metadata(folder: Path) -> list[Leak]:
    table = pa.table({"start": [1]})
    with pq.ParquetWriter(folder / "a.parquet", table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"source": POINT})
    return [Leak("a.parquet", "bytes"), Leak("a.parquet", "key-value metadata")]


def plant_field_metadata(folder: Path) -> list[Leak]:
    write_parquet(folder / "a.parquet", pa.array([1]), field_metadata={"source": POINT})
    return [Leak("a.parquet", "key-value metadata")]


def write_manifest(path: Path, record: dict, metadata: dict | None = None) -> None:
    kinds = {str: "string", bytes: "bytes"}
    fields = [{"name": name, "type": kinds[type(value)]} for name, value in record.items()]
    schema = {"type": "record", "name": "entry", "fields": fields}
    with path.open("wb") as file:
        fastavro.writer(file, schema, [record] * 50, codec="deflate", metadata=metadata)


def plant_manifest(folder: Path) -> list[Leak]:
    write_manifest(folder / "m.avro", {"file_path": f"/lake/{POINT}.parquet"})
    return [Leak("m.avro", "manifest")]


def plant_bound(folder: Path) -> list[Leak]:
    write_manifest(folder / "m.avro", {"lower_bound": int(POINT).to_bytes(8, "little")})
    return [Leak("m.avro", "manifest")]


def plant_manifest_header(folder: Path) -> list[Leak]:
    write_manifest(folder / "m.avro", {"file_path": ""}, {"partition-spec": POINT})
    return [Leak("m.avro", "bytes"), Leak("m.avro", "manifest")]


def plant_json(folder: Path) -> list[Leak]:
    (folder / "v1.metadata.json").write_text(json.dumps({"properties": {"owner": [NAME]}}))
    return [Leak("v1.metadata.json", "json")]


def plant_log(folder: Path) -> list[Leak]:
    (folder / "audit.jsonl").write_text("{}\n" + json.dumps({NAME: 1}) + "\n")
    return [Leak("audit.jsonl", "json")]


def open_catalog(folder: Path) -> sqlite3.Connection:
    catalog = sqlite3.connect(folder / "catalog.db")
    catalog.execute("CREATE TABLE iceberg_tables (location, number)")
    return catalog


def plant_catalog(folder: Path) -> list[Leak]:
    with closing(open_catalog(folder)) as catalog, catalog:
        catalog.execute("INSERT INTO iceberg_tables VALUES ('', ?)", (int(POINT),))
    return [Leak("catalog.db", "catalog")]


def plant_deleted_row(folder: Path) -> list[Leak]:
    with closing(open_catalog(folder)) as catalog:
        catalog.execute("PRAGMA secure_delete = OFF")
        with catalog:
            catalog.execute("INSERT INTO iceberg_tables VALUES (?, 0)", (POINT,))
        with catalog:
            catalog.execute("DELETE FROM iceberg_tables")
    return [Leak("catalog.db", "bytes")]


def plant_anything(folder: Path) -> list[Leak]:
    (folder / "notes").write_bytes(b"\x00\xff" + POINT.encode() + b"\x00")
    return [Leak("notes", "bytes")]


def plant_name(folder: Path) -> list[Leak]:
    (folder / f"{POINT}.parquet.crc").touch()
    return [Leak("***.parquet.crc", "name")]


def plant_folder(folder: Path) -> list[Leak]:
    (folder / f"name={NAME}").mkdir()
    return [Leak("name=***", "name")]


PLANTS = [function for name, function in sorted(globals().items()) if name.startswith("plant_")]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_leak_is_found(tmp_path, plant):
    folder = tmp_path / "analytics"
    folder.mkdir()
    wanted = plant(folder)
    found = find_leaks(folder, TOKENS)
    assert set(found) == set(wanted), "what is not listed as bytes is found by decoding alone"
    assert POINT not in repr(found)
    assert NAME not in repr(found)
    assert find_leaks(folder, Tokens(["643006966022791279", "Ätlé Kanarialintunenn"])) == []


@pytest.mark.parametrize("content", [b"PAR1 and no more", b"Obj\x01", b"SQLite format 3\0 no", b"{"])
def test_what_can_not_be_decoded_is_not_vouched_for(tmp_path, content):
    (tmp_path / f"{POINT}.json").write_bytes(content)
    with pytest.raises(MeterveilError, match=r"^\*\*\*.json: it can't be decoded"):
        find_leaks(tmp_path, TOKENS)


# The real thing: nothing of a generated fleet in its analytics zone, in the log of a run, or in the graph.


@pytest.fixture(scope="module")
def retailer(tmp_path_factory):
    made = make_fleet(tmp_path_factory.mktemp("leaks"))
    command = [*PROGRAM, "--log-level", "DEBUG", *made.arguments()]
    done = subprocess.run(command, capture_output=True, check=True)
    (made.folder / "log").write_bytes(done.stdout + done.stderr)
    return made


def test_no_identifier_reaches_analytics(retailer):
    lake = open_lake(retailer.lake)
    tokens = collect_tokens(lake)
    everyone = {word for word in retailer.words() if len(word.encode()) >= MIN_TOKEN_BYTES}
    assert len(everyone) > 60 * 5
    assert all(tokens.find(word.encode()) for word in everyone), "the lake itself tells what may not leak"
    assert find_leaks(lake.analytics, tokens) == []
    assert find_leaks(lake.analytics, Tokens(everyone)) == []
    # The same search, where identifiers are meant to be.
    places = {leak.place for leak in find_leaks(lake.operational, Tokens(everyone))}
    assert {"column metering_point_id", "column customer_id", "column name", "column phone"} <= places


def test_no_operational_file_is_named_in_analytics(retailer):
    lake = open_lake(retailer.lake)
    names = {path.stem for path in lake.operational.rglob("*") if path.suffix in {".parquet", ".avro"}}
    assert len(names) > 10
    assert find_leaks(lake.analytics, Tokens({*names, str(lake.operational)})) == []
    assert {leak.place for leak in find_leaks(lake.operational, Tokens(names))} >= {"name", "manifest"}


def secrets_of(retailer) -> list[bytes]:
    octets = [(retailer.folder / "kek.bin").read_bytes()]
    keyset = open_keyset(retailer.folder / "keyset.json", str(retailer.folder / "kek.bin"))
    octets += [key.secret.reveal(SECRET_ACCESS) for key in keyset.keys]
    return [
        form for each in octets for form in (each, each.hex().encode(), base64.b64encode(each), repr(each).encode())
    ]


def test_no_identifier_and_no_secret_reaches_the_log(retailer):
    log = (retailer.folder / "log").read_bytes()
    assert log.count(b" DEBUG ") > 100
    assert Tokens(retailer.words()).find(log) is None
    assert not any(secret in log for secret in secrets_of(retailer))


@pytest.mark.parametrize("level", ["DEBUG", "WARNING"])
def test_no_identifier_reaches_the_errors_of_failing_runs(retailer, tmp_path, level):
    """Quarantined too much; a file that is cut short; a reference with somebody in it twice."""
    tokens = Tokens(retailer.words())
    readings = max(retailer.readings, key=lambda path: path.stat().st_size)
    cut = tmp_path / readings.name
    cut.write_bytes(readings.read_bytes()[:-500])
    reference = tmp_path / "reference"
    reference.mkdir()
    for feed in (retailer.folder / "fleet" / "reference").iterdir():
        table = pq.read_table(feed)
        pq.write_table(pa.concat_tables([table, table]), reference / feed.name)
    for number, (files, options, problem) in enumerate(
        [
            ([], {"max_quarantined": 0}, "readings quarantined"),
            ([cut], {}, "bytes|byte"),
            ([], {"reference": reference}, "there before"),
        ]
    ):
        arguments = retailer.arguments(*files, lake=tmp_path / str(number), **options)
        done = run("--log-level", level, *arguments)
        assert done.code == 1
        assert any(word in done.err for word in problem.split("|")), done.err
        assert tokens.find(done.err.encode()) is None
        assert tokens.find(done.out) is None


def unpack_graph(graph: bytes) -> list[bytes]:
    """Give the bytes of a graph, and what Beam's pickles in it hold under base64 and bz2."""
    pickles = re.findall(rb"QlpoO[A-Za-z0-9+/]+={0,2}", graph)
    return [graph, *(bz2.decompress(base64.b64decode(pickle)) for pickle in pickles)]


def graph_of(retailer, **changes) -> list[bytes]:
    lake = open_lake(retailer.lake)
    context = RunContext(
        run_id="20260330T040000Z-0123abcd",
        lake=str(lake.root),
        policy=str(lake.stored_policy()),
        keyset=str(retailer.folder / "keyset.json"),
        kek=str(retailer.folder / "kek.bin"),
        reference=newest_reference(lake).version,
        snapshots=(),
        horizons=(),
        tombstones="",
        read=ReadOptions(),
        options="",
        threads=1,
    )
    pipeline = beam.Pipeline(runner="FnApiRunner")
    rules = CommitRules("ingest", datetime.now(UTC).isoformat(), NO_LIMITS)
    build_ingest(
        pipeline,
        [str(p) for p in retailer.readings],
        replace(context, **changes),
        rules,
        skip_bad_files=False,
        force=False,
        ends_run=True,
    )
    texts = unpack_graph(pipeline.to_runner_api().SerializeToString())
    assert sum(b"20260330T040000Z-0123abcd" in text for text in texts) >= 5, "the state of the steps is searched"
    return texts


def test_no_identifier_and_no_secret_is_in_the_graph(retailer):
    texts, tokens = graph_of(retailer), Tokens(retailer.words())
    assert not [text for text in texts if tokens.find(text)]
    assert not [text for text in texts for secret in secrets_of(retailer) if secret in text]
    somebody = next(word for word in retailer.words() if len(word) >= 10)
    planted = graph_of(retailer, read=ReadOptions(metering_point=somebody))
    assert any(tokens.find(text) for text in planted)
