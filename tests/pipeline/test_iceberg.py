from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.types import DateType, DecimalType, StringType, TimestamptzType, UUIDType
from small_lake import ANALYTICS, CELL, CUSTOMERS, DAILY, DAY, OPERATIONAL, PLAN, write_readings

from pipeline.errors import MeterveilError
from pipeline.iceberg import current_files, iceberg_schema, partition_spec, replace_files
from pipeline.lake import create_lake
from pipeline.parquet import DataFile

SUMMARY = {"meterveil.run-id": "run-1", "meterveil.key-id": "key-1"}


@pytest.fixture
def lake(tmp_path):
    lake = create_lake(tmp_path / "lake", bucket_count=4)
    lake.ensure_tables(PLAN)
    return lake


def pretend(lake, label: str, rows: int = 10, name: str = "analytics.readings") -> DataFile:
    """A data file that was never written: commits look at names and numbers only."""
    day = int(label.partition("/")[0])
    return DataFile(name, lake.new_data_path(name, label), rows, rows * 100, "0" * 64, day, label)


cells = st.tuples(st.integers(DAY, DAY + 2), st.integers(0, 1)).map(lambda cell: f"{cell[0]}/{cell[1]:05d}")
writes = st.dictionaries(cells, st.integers(0, 1000), max_size=4)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(st.tuples(writes, st.sets(cells, max_size=2)), max_size=4))
def test_a_table_holds_the_latest_file_of_every_cell(tmp_path_factory, runs):
    lake = create_lake(tmp_path_factory.mktemp("lake"), bucket_count=4)
    lake.ensure_tables(replace(PLAN, datasets={ANALYTICS.name: ANALYTICS}))
    expected: dict[str, DataFile] = {}
    for written, erased in runs:
        table = lake.table(ANALYTICS.name)
        added = [pretend(lake, label, rows) for label, rows in written.items()]
        gone = (erased | written.keys()) & expected.keys()
        replace_files(table, added, [expected[label].path for label in gone], SUMMARY)
        expected = {label: file for label, file in expected.items() if label not in gone}
        expected |= {file.label: file for file in added}
    table = lake.table(ANALYTICS.name)
    found = {(file.label, file.path, file.rows, file.bytes, file.local_date) for file in current_files(table)}
    assert found == {(file.label, file.path, file.rows, file.bytes, file.local_date) for file in expected.values()}
    assert len(table.snapshots()) == len(runs)
    if runs:
        assert table.current_snapshot().summary["total-records"] == str(sum(file.rows for file in expected.values()))


def test_columns_are_translated_with_their_meaning(lake):
    for schema in (iceberg_schema(ANALYTICS), lake.table("analytics.readings").schema()):
        assert [(field.field_id, field.name, field.field_type, field.required) for field in schema.fields] == [
            (1, "metering_point", UUIDType(), True),
            (2, "local_date", DateType(), True),
            (3, "start", TimestamptzType(), True),
            (4, "energy", DecimalType(14, 6), False),
            (5, "status", StringType(), True),
        ]
        assert [field.doc for field in schema.fields] == [column.doc for column in ANALYTICS.columns]


def test_cells_are_partitioned_by_date_and_entities_are_not(lake):
    spec = lake.table("analytics.daily").spec()
    assert [(field.name, field.source_id, str(field.transform)) for field in spec.fields] == [
        ("local_date", 2, "identity")
    ]
    assert not lake.table("operational.customers").spec().fields


def test_a_cell_dataset_must_have_its_date():
    with pytest.raises(MeterveilError, match=r"analytics\.readings.*keep local_date"):
        partition_spec(replace(ANALYTICS, columns=ANALYTICS.columns[2:]))


def test_a_commit_on_a_stale_base_fails_and_changes_nothing(lake):
    stale, table = lake.table(ANALYTICS.name), lake.table(ANALYTICS.name)
    first = pretend(lake, CELL)
    snapshot = replace_files(table, [first], [], SUMMARY)
    other = pretend(lake, f"{DAY}/00001")
    with pytest.raises(CommitFailedException):
        replace_files(stale, [other], [], SUMMARY)
    fresh = lake.table(ANALYTICS.name)
    assert fresh.current_snapshot().snapshot_id == snapshot
    replace_files(fresh, [other], [], SUMMARY)
    assert {file.path for file in current_files(fresh)} == {first.path, other.path}


def test_a_file_that_is_no_longer_current_cannot_be_replaced(lake):
    old, new, newer = (pretend(lake, CELL) for _ in range(3))
    table = lake.table(ANALYTICS.name)
    replace_files(table, [old], [], SUMMARY)
    replace_files(table, [new], [old.path], SUMMARY)
    with pytest.raises(CommitFailedException):
        replace_files(table, [newer], [old.path], SUMMARY)
    assert [file.path for file in current_files(lake.table(ANALYTICS.name))] == [new.path]


def test_rows_are_never_doubled(lake):
    file, table = pretend(lake, CELL), lake.table(ANALYTICS.name)
    with pytest.raises(ValueError, match="double"):
        replace_files(table, [file, file], [], SUMMARY)
    replace_files(table, [file], [], SUMMARY)
    with pytest.raises(ValueError, match="double"):
        replace_files(table, [file], [], SUMMARY)


def test_a_snapshot_says_who_made_it_and_can_be_read_again(lake):
    table = lake.table(ANALYTICS.name)
    first = pretend(lake, CELL)
    snapshot = replace_files(table, [first], [], SUMMARY)
    replace_files(table, [pretend(lake, CELL)], [first.path], {"meterveil.run-id": "run-2"})
    assert table.snapshot_by_id(snapshot).summary["meterveil.run-id"] == "run-1"
    assert [file.path for file in current_files(table, snapshot)] == [first.path]
    with pytest.raises(MeterveilError, match="expired"):
        current_files(table, snapshot + 1)


def test_years_of_dates_are_replaced_at_once(lake):
    table = lake.table(ANALYTICS.name)
    old = [pretend(lake, f"{day}/00000") for day in range(DAY - 1500, DAY)]
    new = [pretend(lake, file.label) for file in old]
    replace_files(table, old, [], SUMMARY)
    replace_files(table, new, [file.path for file in old], SUMMARY)
    assert {file.path for file in current_files(table)} == {file.path for file in new}


def test_manifests_do_not_grow_with_commits(lake):
    name = "analytics.readings"
    for number in range(60):
        file = pretend(lake, f"{20541 + number}/00000")
        replace_files(lake.table(name), [file], [], {"meterveil.run": str(number)})
    table = lake.table(name)
    assert len(table.current_snapshot().manifests(table.io)) < 21
    assert len(current_files(table)) == len(list(table.scan().plan_files())) == 60
    needed = {item.manifest_path for one in table.snapshots() for item in one.manifests(table.io)}
    assert {str(path) for path in Path(table.location(), "metadata").glob("*-m*.avro")} == needed


def test_files_to_remove_are_found_without_bounds_that_threads_share(lake, monkeypatch):
    monkeypatch.setattr("pyiceberg.expressions.visitors._ManifestEvalVisitor.eval", lambda *_: False)
    name, label = "analytics.readings", "20541/00000"
    old, new = pretend(lake, label), pretend(lake, label)
    replace_files(lake.table(name), [old], [], {"meterveil.run": "1"})
    replace_files(lake.table(name), [new], [old.path], {"meterveil.run": "2"})
    assert [file.path for file in current_files(lake.table(name))] == [new.path]


@pytest.mark.parametrize("of", [ANALYTICS, OPERATIONAL])
def test_engines_agree_on_rows_and_sums(lake, of):
    table = lake.table(of.name)
    files = [
        write_readings(lake, of, f"{DAY + day}/0000{bucket}", seed=day * 9 + bucket)
        for day in (0, 1)
        for bucket in (0, 1)
    ]
    replace_files(table, files, [], SUMMARY)
    paths = [file.path for file in current_files(table)]

    iceberg = lake.table(of.name).scan(row_filter="local_date = '2026-03-29'").to_arrow()
    expected = (iceberg.num_rows, pc.sum(iceberg.column("energy")).as_py(), pc.min(iceberg.column("start")).as_py())
    assert expected[0] == 2 * 3 * 92
    assert isinstance(expected[1], Decimal)

    key = of.columns[0].name
    keys = {str(value) for value in iceberg.column(key).to_pylist()}
    relation = duckdb.connect().read_parquet(paths).filter("local_date = DATE '2026-03-29'")
    columns = f"count(*), sum(energy), min(start) AT TIME ZONE 'UTC', list(DISTINCT {key}::VARCHAR)"
    duck = relation.aggregate(columns).fetchall()[0]
    assert duck[:2] == expected[:2]
    assert duck[2] == expected[2].replace(tzinfo=None)
    assert set(duck[3]) == keys

    polars = pl.read_parquet(paths, hive_partitioning=False).filter(pl.col("local_date") == pl.date(2026, 3, 29))
    assert (polars.height, polars["energy"].sum(), polars["start"].min()) == expected

    arrow = ds.dataset(paths).to_table(filter=pc.field("local_date") == expected[2].date())
    assert (arrow.num_rows, pc.sum(arrow.column("energy")).as_py(), pc.min(arrow.column("start")).as_py()) == expected


def test_every_view_type_has_a_translation():
    for dataset in (ANALYTICS, OPERATIONAL, DAILY, CUSTOMERS):
        assert len(iceberg_schema(dataset).fields) == len(dataset.columns)
