import hashlib
import os
import stat
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_lake import ANALYTICS, CELL, CUSTOMERS, DAY, OPERATIONAL, reading_rows

from pipeline.errors import MeterveilError
from pipeline.labels import name_data_file, parse_label
from pipeline.parquet import write_data_file
from schemas.series import MAX_ENERGY
from schemas.views import ENERGY
from transforms.decimals import as_decimal

stems = st.one_of(st.integers(0, 99_999).map("{:05d}".format), st.binary(min_size=32, max_size=32).map(bytes.hex))
days = st.one_of(st.none(), st.integers(-10_000, 60_000))


@given(stem=stems, day=days)
def test_a_label_is_read_back_from_the_name_made_for_it(stem, day):
    label = stem if day is None else f"{day}/{stem}"
    assert parse_label(f"/lake/analytics/readings/data/{name_data_file(label)}") == (label, day)


@given(values=st.lists(st.one_of(st.none(), st.integers(-MAX_ENERGY, MAX_ENERGY))), skip=st.integers(0, 3))
def test_decimals_are_the_integers_themselves(values, skip):
    integers = pa.array(values, pa.int64())[skip:]
    decimals = as_decimal(integers, ENERGY)
    assert decimals.to_pylist() == [None if value is None else Decimal(value).scaleb(-6) for value in values[skip:]]
    assert decimals.buffers()[1].address == integers.buffers()[1].address


def new_path(folder: Path, label: str = CELL) -> str:
    return str(folder / "data" / name_data_file(label))


@given(points=st.integers(0, 4), slots=st.integers(1, 100), seed=st.integers(0, 99), chunks=st.integers(1, 3))
def test_rows_come_back_as_they_went_in(tmp_path_factory, points, slots, seed, chunks):
    parts = [reading_rows(ANALYTICS, points, slots, seed=seed + part) for part in range(chunks)]
    table = pa.concat_tables(parts)
    file = write_data_file([table], ANALYTICS, new_path(tmp_path_factory.mktemp("rows")), {})
    back = pq.ParquetFile(file.path).read()
    assert (
        back.column("metering_point").combine_chunks().storage.to_pylist() == table.column("metering_point").to_pylist()
    )
    scaled = [value and int(value.scaleb(6)) for value in back.column("energy").to_pylist()]
    assert scaled == table.column("energy").to_pylist()
    for name in ("local_date", "start", "status"):
        assert back.column(name).to_pylist() == table.column(name).to_pylist()
    assert (file.rows, file.local_date, file.label) == (table.num_rows, DAY, CELL)


def test_the_physical_schema_is_what_every_engine_reads(tmp_path):
    file = write_data_file([reading_rows(ANALYTICS)], ANALYTICS, new_path(tmp_path), {"meterveil.source": "ab12"})
    metadata = pq.ParquetFile(file.path).metadata
    assert metadata.metadata == {b"meterveil.source": b"ab12"}  # and no ARROW:schema
    lines = [line.strip() for line in str(metadata.schema).splitlines()]
    assert "required fixed_len_byte_array(16) field_id=1 metering_point (UUID);" in lines
    assert "required int32 field_id=2 local_date (Date);" in lines
    assert "optional int64 field_id=4 energy (Decimal(precision=14, scale=6));" in lines
    assert "required binary field_id=5 status (String);" in lines
    group = metadata.row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(metadata.num_columns)}
    assert [name for name, column in columns.items() if column.is_stats_set] == ["local_date"]
    assert {column.compression for column in columns.values()} == {"ZSTD"}


def test_size_and_digest_are_those_of_the_file(tmp_path):
    file = write_data_file([reading_rows(OPERATIONAL)], OPERATIONAL, new_path(tmp_path), {})
    content = Path(file.path).read_bytes()
    assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_each_block_of_an_operational_cell_says_which_points_it_has(tmp_path):
    rows = reading_rows(OPERATIONAL, points=5)
    blocks = [rows.slice(0, 2 * 92), rows.slice(2 * 92)]
    file = write_data_file(blocks, OPERATIONAL, new_path(tmp_path), {})
    metadata = pq.ParquetFile(file.path).metadata
    for number, block in enumerate(blocks):
        statistics = metadata.row_group(number).column(0).statistics
        ids = block["metering_point_id"].to_pylist()
        assert (statistics.min, statistics.max) == (min(ids), max(ids))
    [(found,)] = duckdb.sql(f"SELECT count(*) FROM '{file.path}' WHERE metering_point_id = '{ids[-1]}'").fetchall()
    assert found == 92


def test_entity_files_have_no_date_and_no_statistics(tmp_path):
    table = pa.table({"customer_id": ["C-1"], "kind": ["person"], "language": pa.nulls(1, pa.string())})
    file = write_data_file([table], CUSTOMERS, new_path(tmp_path, "00003"), {})
    assert (file.label, file.local_date) == ("00003", None)
    assert not pq.ParquetFile(file.path).metadata.row_group(0).column(0).is_stats_set


@pytest.mark.parametrize(
    ("of", "mask", "modes"), [(OPERATIONAL, 0, (0o700, 0o600)), (ANALYTICS, 0o022, (0o755, 0o644))]
)
def test_modes_follow_the_zone(tmp_path, of, mask, modes):
    before = os.umask(mask)
    try:
        file = write_data_file([reading_rows(of)], of, new_path(tmp_path), {})
    finally:
        os.umask(before)
    path = Path(file.path)
    assert (stat.S_IMODE(path.parent.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) == modes


def with_null(table: pa.Table) -> pa.Table:
    return table.set_column(0, "metering_point_id", pa.array([None, *["A"] * (table.num_rows - 1)]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda table: table.append_column("name", table.column("customer_id")), "columns"),
        (lambda table: table.drop_columns(["flags"]), "columns"),
        (with_null, "metering_point_id: nulls"),
        (lambda table: table.set_column(3, "energy", table.column("energy").cast(pa.float64())), "energy: double"),
    ],
)
def test_rows_that_the_plan_does_not_have_are_refused(tmp_path, change, text):
    table = change(reading_rows(OPERATIONAL))
    with pytest.raises(ValueError, match=text):
        write_data_file([table], OPERATIONAL, new_path(tmp_path), {})
    assert not (tmp_path / "data").exists()


def test_a_file_is_never_overwritten(tmp_path):
    path = new_path(tmp_path)
    write_data_file([reading_rows(OPERATIONAL)], OPERATIONAL, path, {})
    with pytest.raises(FileExistsError):
        write_data_file([reading_rows(OPERATIONAL)], OPERATIONAL, path, {})


def test_a_foreign_file_name_is_refused():
    with pytest.raises(MeterveilError, match="not a data file"):
        parse_label("/lake/analytics/readings/data/part0.parquet")
