"""The tables of a lake, opened by readers that are not ours: they agree on every row and sum."""

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from whole_job import DATA_TABLES, paths_of

from pipeline.lake import open_lake


def scan_iceberg(lake, table: str) -> pa.Table:
    return open_lake(lake).table(table).scan().to_arrow()


def read_duckdb(lake, table: str) -> pa.Table:
    with duckdb.connect() as connection:
        rows = connection.from_parquet(paths_of(lake, table), hive_partitioning=False)
        # DuckDB knows what a UUID is, and hands it on as text.
        columns = [
            f"unhex(replace({name}::varchar, '-', '')) AS {name}" if kind == "UUID" else name
            for name, kind in zip(rows.columns, map(str, rows.types), strict=True)
        ]
        return rows.project(", ".join(columns)).to_arrow_table()


def read_polars(lake, table: str) -> pa.Table:
    return pl.read_parquet(paths_of(lake, table), hive_partitioning=False).to_arrow()


def read_dataset(lake, table: str) -> pa.Table:
    return ds.dataset(paths_of(lake, table), format="parquet").to_table()


READERS = {"duckdb": read_duckdb, "polars": read_polars, "pyarrow": read_dataset}


def plain(table: pa.Table) -> pa.Table:
    """Bring the types that engines have of their own to one: text, 16 bytes, UTC, wide decimals; sort the rows."""
    columns = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        kind = column.type
        if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            column = column.cast(pa.string())
        elif pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_binary(kind):
            column = column.cast(pa.binary()).cast(pa.binary(16))
        elif pa.types.is_decimal(kind):
            assert kind.scale == 6
            column = column.cast(pa.decimal128(38, 6))
        elif pa.types.is_timestamp(kind):
            assert kind.tz is not None
            column = column.cast(pa.timestamp("us", "UTC"))
        columns[name] = column
    rows = pa.table(columns)
    return rows.sort_by([(name, "ascending") for name in rows.column_names])


#: What was not published has no file.
WRITTEN = [
    name
    for name in DATA_TABLES
    if name not in {"analytics.area_hourly", "analytics.partner_green", "operational.months"}
]


@pytest.mark.parametrize("table", WRITTEN)
def test_all_readers_agree(fleet_run, table):
    scanned = plain(scan_iceberg(fleet_run.lake, table))
    assert len(scanned) or table == "operational.marketing"  # without a register of bans nobody is marketable
    for name, read in READERS.items():
        found = plain(read(fleet_run.lake, table))
        assert found.schema.names == scanned.schema.names, name
        assert len(found) == len(scanned), name
        assert all(found[column].equals(scanned[column]) for column in found.schema.names), name


@pytest.mark.parametrize("table", ["operational.readings", "analytics.readings", "analytics.daily"])
def test_every_table_of_energy_adds_up_to_the_truth(fleet_run, table):
    for read in (scan_iceberg, *READERS.values()):
        total = pc.sum(plain(read(fleet_run.lake, table))["energy"]).as_py()
        assert int(total * 1_000_000) == fleet_run.truth["energy_final_mwh"]


def test_billing_has_the_energy_of_every_contracted_point_and_no_other(fleet_run):
    readings = scan_iceberg(fleet_run.lake, "operational.readings")
    contracted = readings.filter(pc.is_valid(readings["contract_id"]))
    billed = scan_iceberg(fleet_run.lake, "operational.billing_daily")
    assert 0 < len(contracted) < len(readings)
    assert pc.sum(billed["energy"]).as_py() == pc.sum(contracted["energy"]).as_py()
    assert billed["contract_id"].null_count == 0


@pytest.mark.parametrize("table", ["operational.readings", "analytics.daily"])
def test_a_filter_by_day_finds_the_day(fleet_run, table):
    """Partitions that were written wrong would lose rows here."""
    rows = open_lake(fleet_run.lake).table(table)
    for day in fleet_run.truth["dates"]:
        found = rows.scan(row_filter=f"local_date == '{day}'").to_arrow()
        whole = scan_iceberg(fleet_run.lake, table)
        assert len(found) == pc.sum(pc.equal(whole["local_date"].cast(pa.string()), day)).as_py() > 0
