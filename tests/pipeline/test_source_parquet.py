import datetime as dt
import decimal
import os
import subprocess
import sys

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_cases import POINT, TIME, read_file, read_in_parts, reading_records, series_records
from test_source_avro import expected

from pipeline.errors import BadFileError
from pipeline.sources.base import ReadOptions
from pipeline.sources.parquet_footer import MOST_PAGE_BYTES, read_groups
from pipeline.sources.registry import plan_file, read_split
from pipeline.thrift import I64, decode_struct, decode_struct_at, encode_struct, i32, list_of, struct

OPTIONS = ReadOptions()


def as_table(records):
    table = pa.Table.from_pylist(records)
    for name in ("start", "registered_at"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(TIME))
    return table


def replace(table, name, column):
    return table.set_column(table.schema.get_field_index(name), name, column)


def write(path, table, **options):
    pq.write_table(table, path, **options)
    return str(path)


@pytest.mark.parametrize("records", [series_records(40), reading_records(300)], ids=["series", "long"])
def test_a_file_reads_back_whole_and_in_parts(tmp_path, records):
    path = write(tmp_path / "f.parquet", as_table(records), row_group_size=12)
    assert read_file(path) == (expected(records), [])
    assert read_in_parts(path, split_readings=50) == (expected(records), [])


def test_batches_of_a_file_with_many_dictionaries_agree(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.sources.parquet._BATCH_READINGS", 7)
    records = reading_records(300)
    path = write(tmp_path / "f.parquet", as_table(records), row_group_size=10)
    assert read_file(path) == (expected(records), [])


def test_a_file_cut_anywhere_is_refused(tmp_path):
    content = open(write(tmp_path / "f.parquet", as_table(reading_records())), "rb").read()
    for size in [*range(0, len(content), 17), len(content) - 1, len(content) - 8]:
        (tmp_path / "cut.parquet").write_bytes(content[:size])
        with pytest.raises(BadFileError):
            read_file(tmp_path / "cut.parquet")


def test_a_flipped_byte_under_a_checksum_is_refused(tmp_path):
    path = write(tmp_path / "f.parquet", as_table(reading_records(300)), write_page_checksum=True, compression="none")
    content = bytearray(open(path, "rb").read())
    column = pq.read_metadata(path).row_group(0).column(5)
    content[(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size // 2] ^= 0xFF
    (tmp_path / "flipped.parquet").write_bytes(content)
    with pytest.raises(BadFileError, match="a page of it is damaged"):
        read_file(tmp_path / "flipped.parquet")


def test_words_durations_and_kilowatt_hours(tmp_path):
    table = as_table(reading_records(6)).drop_columns(["resolution_s", "product"])
    table = table.append_column("resolution", pa.array(["PT15M"] * 5 + ["15 min"]))
    table = replace(table, "status", pa.array(["OK", "MISSING", "ESTIMATED", "good", "OK", "OK"]))
    table = replace(table, "energy", pa.array([0.14300000000000002, None, 1e-7, 2.0, float("nan"), 1.0]))
    good, rejected = read_file(write(tmp_path / "f.parquet", table))
    assert [reading[5:] for reading in good] == [(143_000, 5), (0, 0), (0, 3)]
    assert [(row["row"], row["reason"], row["energy"], row["decoded_energy"]) for row in rejected] == [
        (4, "unknown_status", "2.000000", 2_000_000),
        (5, "bad_energy", "nan", 0),
        (6, "unreadable_row", "1.000000", 0),
    ]


@pytest.mark.parametrize(
    "kind", [pa.decimal64(14, 6), pa.decimal128(20, 9), pa.decimal128(38, 2), pa.decimal256(60, 8)]
)
def test_decimals_are_exact_and_bounded(tmp_path, kind):
    values = [decimal.Decimal("99999999.99"), decimal.Decimal("-0.25"), None, decimal.Decimal("0.00")]
    table = replace(as_table(reading_records(4)), "energy", pa.array(values, kind))
    good, rejected = read_file(write(tmp_path / "f.parquet", table))
    assert [reading[5] for reading in good] == [99_999_999_990_000, -250_000, 0]
    assert [row["reason"] for row in rejected] == ["bad_energy"]


@pytest.mark.parametrize(
    "kind",
    [pa.decimal128(38, 0), pa.decimal128(38, 37), pa.decimal128(12, 2), pa.decimal256(76, 0), pa.decimal256(76, 70)],
    ids=str,
)
def test_decimals_of_any_width_are_exact_or_set_aside(tmp_path, kind):
    most = kind.precision - kind.scale
    values = [
        decimal.Decimal(text)
        for text in ("0", "1", "-7", "0.5", f"{10 ** min(most - 1, 7)}", f"1e{most - 1}", f"-1e{most - 1}")
    ]
    values = [value for value in values if kind.scale or value == int(value)]
    table = as_table(reading_records(len(values)))
    path = write(tmp_path / "f.parquet", replace(table, "energy", pa.array(values, kind)))
    good, rejected = read_file(path)
    sound = [int(value * 1_000_000) for value in values if abs(value) < 10**8]
    assert sorted(reading[5] for reading in good) == sorted(sound)
    assert [row["reason"] for row in rejected] == ["bad_energy"] * (len(values) - len(sound))


@pytest.mark.parametrize(
    ("name", "reason"), [("energy", "bad_energy"), ("status", "unknown_status"), ("resolution_s", "unreadable_row")]
)
def test_numbers_without_a_sign_that_are_too_large_are_set_aside(tmp_path, name, reason):
    numbers = pa.array([2**64 - 1, 2**63, 2**63 - 1, None, 5 if name == "status" else 900], pa.uint64())
    path = write(tmp_path / "f.parquet", replace(as_table(reading_records(5)), name, numbers))
    good, rejected = read_file(path)
    assert (len(good), [row["reason"] for row in rejected]) == (1, [reason] * 4)
    if name != "resolution_s":
        lists = pa.array([numbers.to_pylist()], pa.list_(pa.uint64()))
        path = write(tmp_path / "g.parquet", replace(as_table(series_records(1, 5)), name, lists))
        good, rejected = read_file(path)
        assert (len(good), [row["reason"] for row in rejected]) == (1, [reason] * 4)


def test_lists_of_floats_and_words(tmp_path):
    table = as_table(series_records(2, 3))
    table = replace(table, "energy", pa.array([[1.5, None, 0.1], [1.0, 2.0, float("inf")]]))
    table = replace(table, "status", pa.array([["OK", "MISSING", "OK"], ["OK", "?", "OK"]]))
    good, rejected = read_file(write(tmp_path / "f.parquet", table))
    assert [reading[5] for reading in good] == [1_500_000, 0, 100_000, 1_000_000]
    assert [(row["row"], row["position"], row["reason"]) for row in rejected] == [
        (2, 1, "unknown_status"),
        (2, 2, "bad_energy"),
    ]


def test_null_fields_are_set_aside(tmp_path):
    records = reading_records(4)
    table = as_table(records)
    for name, row in (("start", 0), ("metering_point_id", 1), ("status", 2)):
        values = table[name].to_pylist()
        values[row] = None
        table = replace(table, name, pa.array(values, table.schema.field(name).type))
    good, rejected = read_file(write(tmp_path / "f.parquet", table))
    assert good == expected(records[3:])
    assert [row["reason"] for row in rejected] == ["unreadable_row", "mangled_identifier", "unknown_status"]


def test_null_lists_are_series_without_readings(tmp_path):
    table = as_table(series_records(3))
    table = replace(table, "energy", pa.array([None, *table["energy"].to_pylist()[1:]]))
    good, rejected = read_file(write(tmp_path / "f.parquet", table))
    assert (len(good), [row["reason"] for row in rejected]) == (10, ["unreadable_row"] * 5)


def test_registration_comes_from_the_options(tmp_path):
    table = as_table(reading_records(2)).drop_columns(["registered_at"])
    path = write(tmp_path / "f_20260330T040000Z.parquet", table)
    with pytest.raises(BadFileError, match="--registered-at"):
        plan_file(path, OPTIONS)
    for given in ("file-name", "2026-03-30T07:00:00+03:00"):
        good, _ = read_file(path, ReadOptions(registered_at=given))
        moment = dt.datetime(2026, 3, 30, 4, tzinfo=dt.UTC)
        assert {reading[4] for reading in good} == {int(moment.timestamp()) * 1_000_000}


@pytest.mark.parametrize(
    ("name", "column", "problem"),
    [
        ("start", pa.array([0, 0], pa.timestamp("us")), "column start is not a time in UTC"),
        ("metering_point_id", pa.array([1, 2]), "column metering_point_id is not text"),
        ("energy", pa.array(["1", "2"]), "column energy is not milliwatt-hours"),
        ("status", pa.array([1.0, 2.0]), "column status is not a status"),
        ("status", None, "column status is missing"),
        ("resolution_s", None, "column resolution_s is missing"),
    ],
)
def test_wrong_columns_are_refused_by_name(tmp_path, name, column, problem):
    table = as_table(reading_records(2))
    table = table.drop_columns([name]) if column is None else replace(table, name, column)
    with pytest.raises(BadFileError, match=problem):
        plan_file(write(tmp_path / "f.parquet", table), OPTIONS)


def test_time_of_other_units_and_zones(tmp_path):
    records = reading_records(3)
    table = as_table(records)
    table = replace(table, "start", table["start"].cast(pa.timestamp("ns", "Europe/Helsinki")))
    table = replace(table, "registered_at", table["registered_at"].cast(pa.timestamp("ms", "UTC")))
    assert read_file(write(tmp_path / "f.parquet", table)) == (expected(records), [])


def test_a_large_file_sorted_by_point_gives_one_series_a_point(tmp_path):
    points, slots = 50, 96
    table = pa.table(
        {
            "metering_point_id": np.repeat([f"{POINT}{n:02d}" for n in range(points)], slots),
            "start": pa.array(np.tile(np.arange(slots) * 900_000_000, points)).cast(TIME),
            "resolution_s": np.full(points * slots, 900, np.int32),
            "registered_at": pa.array(np.full(points * slots, 10**15)).cast(TIME),
            "energy": np.arange(points * slots),
            "status": np.full(points * slots, 5, np.int8),
        }
    )
    path = write(tmp_path / "f.parquet", table)
    (delivery,) = read_split(plan_file(path, OPTIONS)[0], OPTIONS)
    assert delivery.series.num_rows == points
    assert delivery.series.column("row").to_pylist() == list(range(1, points * slots, slots))


@pytest.mark.parametrize("writer", ["polars", "duckdb"])
def test_files_of_other_writers_are_read(tmp_path, writer):
    table = as_table(reading_records(300))
    path = str(tmp_path / "f.parquet")
    if writer == "polars":
        pl.from_arrow(table).write_parquet(path, row_group_size=70)
    else:
        duckdb.sql("SET TimeZone = 'UTC'")
        duckdb.from_arrow(table).write_parquet(path, row_group_size=100)
    assert read_file(path) == (expected(reading_records(300)), [])


def test_a_footer_that_contradicts_itself_is_refused_and_does_not_end_the_process(tmp_path):
    """The decoder's own objects of metadata abort the process over this one: a histogram of another depth."""
    content = open(write(tmp_path / "f.parquet", as_table(reading_records())), "rb").read()
    length = int.from_bytes(content[-8:-4], "little")
    footer = decode_struct(content[-8 - length : -8])
    column = footer[4][1][1][0][1][1][1][4][3][1]  # the first row group's fifth column
    column[16] = struct({2: list_of(I64, [1, 2]), 3: list_of(I64, [1, 2])})
    changed = encode_struct(footer)
    body = content[: -8 - length] + changed + len(changed).to_bytes(4, "little") + b"PAR1"
    (tmp_path / "g.parquet").write_bytes(body)
    code = "import sys; from source_cases import read_file; read_file(sys.argv[1])"
    folders = os.pathsep.join([*sys.path, os.path.dirname(__file__)])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "g.parquet")],
        env={**os.environ, "PYTHONPATH": folders},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.returncode
    assert done.returncode == 0 or "a page of it is damaged" in done.stderr


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize(("field", "value"), [(2, MOST_PAGE_BYTES + 1), (2, -1), (3, -5)])
def test_a_page_that_says_more_than_it_may_is_refused(tmp_path, version, field, value):
    options = {"compression": "none", "use_dictionary": False, "data_page_version": version}
    path = write(tmp_path / "f.parquet", as_table(reading_records()), **options)
    content = open(path, "rb").read()
    chunk = read_groups(path)[0].chunks[5]
    header, end = decode_struct_at(content, chunk.start)
    header[field] = (header[field][0], value)
    # In place, so that nothing else moves: what is too long for that takes the place of values.
    changed = encode_struct(header)
    (tmp_path / "g.parquet").write_bytes(content[: chunk.start] + changed + content[chunk.start + len(changed) :])
    del end
    with pytest.raises(BadFileError, match="holds more than 256 MiB" if value > 0 else "a page of it is damaged"):
        read_file(tmp_path / "g.parquet")


def test_rows_that_say_more_readings_than_a_series_has_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "f.parquet", as_table(series_records(3, 8)))
    assert len(read_file(path)[0]) == 24
    monkeypatch.setattr("pipeline.sources.parquet._MOST_READINGS", 7)
    with pytest.raises(BadFileError, match="no whole Parquet file"):
        read_file(path)


def test_text_that_is_none_is_refused(tmp_path):
    ids = pa.array([b"6430\xff"] * 30, pa.binary()).view(pa.string())
    table = as_table(reading_records())
    path = write(tmp_path / "f.parquet", table.set_column(0, "metering_point_id", ids))
    with pytest.raises(BadFileError, match="a page of it is damaged"):
        read_file(path)


@pytest.mark.parametrize("group", [0, 1])
def test_a_column_of_another_type_than_the_schema_says_is_refused_in_any_row_group(tmp_path, group):
    path = write(tmp_path / "f.parquet", as_table(reading_records()), row_group_size=15)
    content = open(path, "rb").read()
    length = int.from_bytes(content[-8:-4], "little")
    footer = decode_struct(content[-8 - length : -8])
    footer[4][1][1][group][1][1][1][3][3][1][1] = i32(5)
    changed = encode_struct(footer)
    (tmp_path / "g.parquet").write_bytes(
        content[: -8 - length] + changed + len(changed).to_bytes(4, "little") + b"PAR1"
    )
    with pytest.raises(BadFileError, match="no whole Parquet file"):
        plan_file(str(tmp_path / "g.parquet"), OPTIONS)
