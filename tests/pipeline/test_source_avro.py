import os
import random

import fastavro
import pytest
from source_cases import (
    POINT,
    REGISTERED,
    START,
    avro_schema,
    read_file,
    read_in_parts,
    reading_records,
    series_records,
    write_avro,
)

from pipeline.errors import BadFileError
from pipeline.sources.avro_blocks import CODECS, read_header, walk_blocks
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import plan_file
from schemas.series import ACTIVE_ENERGY, MAX_ENERGY

SERIES, READING = avro_schema("meter_series"), avro_schema("meter_reading")
OPTIONS = ReadOptions()


def expected(records):
    return sorted(
        (
            record["metering_point_id"],
            record["product"],
            record["start"] + slot * record["resolution_s"] * 1_000_000,
            record["resolution_s"],
            record["registered_at"],
            energy,
            record["status"][slot] if isinstance(record["status"], list) else record["status"],
        )
        for record in records
        for slot, energy in enumerate(record["energy"] if isinstance(record["energy"], list) else [record["energy"]])
    )


def with_field(schema, name, kind, **extra):
    fields = [{**field, "type": kind, **extra} if field["name"] == name else field for field in schema["fields"]]
    return {**schema, "fields": fields}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("schema", "records"), [(SERIES, series_records(40)), (READING, reading_records(300))])
def test_a_file_reads_back_whole_and_in_parts(tmp_path, codec, schema, records):
    path = write_avro(tmp_path / "a b [%20]*.avro", records, schema, codec, sync_interval=200)
    assert read_file(path) == (expected(records), [])
    assert read_in_parts(path, split_bytes=500) == (expected(records), [])
    rows = [split.first_row for split in plan_file(path, OPTIONS)]
    assert rows == [1]


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_cut_anywhere_is_never_silently_shorter(tmp_path, codec):
    records = series_records(8)
    path = write_avro(tmp_path / "f.avro", records, SERIES, codec, sync_interval=150)
    with open(path, "rb") as file:
        content = file.read()
    header = read_header(content, path)
    # Between two blocks a shorter file is a whole one: the format can't tell, and nobody can.
    edges = {header.length, *(block.stop for block in walk_blocks(content, header, path))}
    assert len(edges) > 2
    near = {edge + step for edge in edges for step in (-17, -16, -15, -1, 1, 2, 3)}
    for size in {*range(0, len(content), 11), *near} & set(range(len(content))) - edges:
        (tmp_path / "cut.avro").write_bytes(content[:size])
        with pytest.raises(BadFileError):
            read_file(tmp_path / "cut.avro")


@pytest.mark.parametrize("codec", ["null", "deflate", "zstandard", "snappy"])
def test_a_flipped_byte_in_a_block_is_refused_or_changes_no_count(tmp_path, codec):
    records = series_records(20)
    path = write_avro(tmp_path / "f.avro", records, SERIES, codec)
    content = open(path, "rb").read()
    header = read_header(content, path)
    refused = 0
    for at in random.Random(5).sample(range(header.length, len(content)), 60):
        flipped = bytearray(content)
        flipped[at] ^= 0x55
        (tmp_path / "flipped.avro").write_bytes(flipped)
        try:
            good, rejected = read_file(tmp_path / "flipped.avro")
        except BadFileError:
            refused += 1
        else:
            assert len(good) + len(rejected) == 100
    assert refused > 5


def test_errors_name_the_byte(tmp_path):
    path = write_avro(tmp_path / "f.avro", series_records(), SERIES)
    content = bytearray(open(path, "rb").read())
    content[-1] ^= 0xFF
    (tmp_path / "sync.avro").write_bytes(content)
    with pytest.raises(BadFileError, match=rf"sync.avro, byte {len(content) - 16}: the sync marker is wrong"):
        plan_file(str(tmp_path / "sync.avro"), OPTIONS)
    (tmp_path / "tail.avro").write_bytes(bytes(content[:-16]) + bytes(content[-16:-1]))
    with pytest.raises(BadFileError, match="ends inside the block that starts here"):
        plan_file(str(tmp_path / "tail.avro"), OPTIONS)
    (tmp_path / "none.avro").write_bytes(b"")
    with pytest.raises(BadFileError, match="0 bytes"):
        plan_file(str(tmp_path / "none.avro"), OPTIONS)


@pytest.mark.parametrize("claimed", [0, 1, 2, 4, 60])
@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_a_wrong_count_of_records_is_refused(tmp_path, claimed, codec):
    """Too low a count once kept the decoder going for ever: it stops, and says so."""
    path = write_avro(tmp_path / "f.avro", series_records(3), SERIES, codec)
    content = bytearray(open(path, "rb").read())
    at = read_header(content, path).length
    assert content[at] == 3 * 2
    content[at] = claimed * 2
    (tmp_path / "count.avro").write_bytes(content)
    with pytest.raises(BadFileError, match="do not decode"):
        read_file(tmp_path / "count.avro")


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_or_block_without_records_is_fine(tmp_path, codec):
    path = write_avro(tmp_path / "f.avro", [], SERIES, codec)
    assert read_file(path) == ([], [])
    if codec == "deflate":
        content = open(path, "rb").read()
        (tmp_path / "block.avro").write_bytes(content + b"\x00\x04\x03\x00" + content[-16:])
        assert read_file(tmp_path / "block.avro") == ([], [])


def test_a_snappy_block_fails_its_checksum(tmp_path):
    path = write_avro(tmp_path / "f.avro", series_records(3), SERIES, "snappy")
    content = bytearray(open(path, "rb").read())
    content[-17] ^= 1
    (tmp_path / "sum.avro").write_bytes(content)
    with pytest.raises(BadFileError, match="does not decompress"):
        read_file(tmp_path / "sum.avro")


def test_a_header_with_damage_is_refused(tmp_path):
    path = write_avro(tmp_path / "f.avro", series_records(3), SERIES)
    content = open(path, "rb").read()
    for old, new in ((b'"items"', b'"ixems"'), (b'"array"', b'"arxay"'), (b"avro.codec", b"avro.codex")):
        assert old in content
        (tmp_path / "header.avro").write_bytes(content.replace(old, new))
        if old == b"avro.codec":
            assert len(read_file(tmp_path / "header.avro")[0]) == 15  # no codec named is none used
        else:
            with pytest.raises(BadFileError):
                read_file(tmp_path / "header.avro")


def test_a_newer_schema_with_more_fields_resolves(tmp_path):
    more = [
        {"name": "extra", "type": {"type": "map", "values": "long"}},
        {"name": "Note", "type": ["null", "string"]},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
    ]
    schema = {**SERIES, "fields": [*more, *SERIES["fields"]]}
    records = [{**record, "extra": {"a": 1}, "Note": None, "kind": "B"} for record in series_records()]
    assert read_file(write_avro(tmp_path / "f.avro", records, schema))[0] == expected(records)


def test_an_older_schema_without_product_and_with_ints_resolves(tmp_path):
    schema = with_field(SERIES, "energy", {"type": "array", "items": "int"})
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "product"]
    path = write_avro(tmp_path / "f.avro", series_records(), schema)
    assert read_file(path)[0] == expected(series_records())


def test_milliseconds_and_nullable_fields_resolve(tmp_path):
    schema = with_field(READING, "start", {"type": "long", "logicalType": "timestamp-millis"})
    schema = with_field(with_field(schema, "energy", ["null", "long"]), "product", ["null", "string"], default=None)
    records = [{**record, "product": None} for record in reading_records(4)]
    written = [{**record, "start": record["start"] // 1000} for record in records]
    written[2] |= {"energy": None, "status": 0}
    written[3] |= {"energy": None}
    good, rejected = read_file(write_avro(tmp_path / "f.avro", written, schema))
    wanted = [{**record, "product": ACTIVE_ENERGY} for record in records[:3]]
    wanted[2] |= {"energy": 0, "status": 0}
    assert good == expected(wanted)
    assert [(row["row"], row["reason"], row["energy"]) for row in rejected] == [(4, "bad_energy", None)]


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("resolution_s", "long", 900),
        ("energy", {"type": "array", "items": "double"}, [1.0]),
        ("metering_point_id", "long", 5),
        ("start", "long", START),
        ("start", {"type": "long", "logicalType": "local-timestamp-micros"}, START),
        ("status", {"type": "array", "items": "string"}, ["OK"]),
    ],
)
def test_a_wrong_type_is_refused_by_name(tmp_path, name, kind, value):
    records = [{**record, name: value} for record in series_records()]
    path = write_avro(tmp_path / "f.avro", records, with_field(SERIES, name, kind))
    with pytest.raises(BadFileError, match=f"field {name} has another type"):
        plan_file(path, OPTIONS)


def test_a_missing_field_or_no_record_is_refused(tmp_path):
    schema = {**SERIES, "fields": [field for field in SERIES["fields"] if field["name"] != "start"]}
    with pytest.raises(BadFileError, match="field start is missing"):
        plan_file(write_avro(tmp_path / "f.avro", series_records(), schema), OPTIONS)
    with pytest.raises(BadFileError, match="no records of readings"):
        plan_file(write_avro(tmp_path / "g.avro", [1, 2], "long"), OPTIONS)


def test_every_reading_of_a_faulty_series_file_is_accounted_for(tmp_path):
    records = series_records(8)
    records[0]["status"] = [5, 9, 5, -1, 0]  # two unknown codes; a value under MISSING
    records[1]["energy"] = [1, 2, 3]  # unequal: five unreadable
    records[2]["metering_point_id"] = "6,43007E+17"
    records[3]["resolution_s"] = 700
    records[4]["energy"][2] = MAX_ENERGY + 1
    records[5] |= {"energy": [], "status": []}
    records[6]["start"] = 2**62
    records[7]["metering_point_id"] = f" {POINT.lower()}a "
    good, rejected = read_file(write_avro(tmp_path / "f.avro", records, SERIES))
    assert len(good) + len(rejected) == 7 * 5
    reasons = sorted((row["row"], row["position"], row["reason"]) for row in rejected)
    assert reasons == [
        (1, 1, "unknown_status"),
        (1, 3, "unknown_status"),
        *((2, position, "unreadable_row") for position in range(5)),
        *((3, position, "mangled_identifier") for position in range(5)),
        *((4, position, "unreadable_row") for position in range(5)),
        (5, 2, "bad_energy"),
        *((7, position, "unreadable_row") for position in range(5)),
    ]
    shown = {(row["row"], row["position"]): row for row in rejected}
    assert shown[1, 1]["status"] == "9"
    assert shown[1, 1]["decoded_energy"] == 1
    assert shown[2, 2]["energy"] == "0.000003"
    assert shown[2, 3]["energy"] is None
    assert shown[2, 2]["decoded_energy"] == shown[5, 2]["decoded_energy"] == 0
    assert shown[3, 4]["decoded_energy"] == 2004
    assert shown[4, 0]["resolution"] == "PT700S"
    by_point = {reading[0] for reading in good}
    assert f"{POINT}A" in by_point
    first = [reading[5:] for reading in good if reading[0] == records[0]["metering_point_id"]]
    assert first == [(0, 5), (2, 5), (0, 0)]
    assert all(reading[4] == REGISTERED for reading in good)


def test_the_reader_agrees_with_an_independent_one(tmp_path):
    path = write_avro(tmp_path / "f.avro", series_records(50, 20), SERIES, "deflate", sync_interval=300)
    with open(path, "rb") as file:
        blocks = list(fastavro.block_reader(file))
    content = open(path, "rb").read()
    walked = list(walk_blocks(content, read_header(content, path), path))
    assert [block.num_records for block in blocks] == [block.count for block in walked]
    assert walked[-1].stop == os.path.getsize(path)
