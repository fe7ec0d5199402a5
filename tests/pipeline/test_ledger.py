"""A file that comes again is not read again, and it makes no difference to the rows if it is."""

import json
import shutil

import pytest
from privacy_support import make_fleet
from whole_job import DATA_TABLES, paths_of

from pipeline.lake import create_lake, open_lake
from pipeline.ledger import describe_options, find_first, find_run, record_inputs
from pipeline.sources.base import ReadOptions


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    return make_fleet(tmp_path_factory.mktemp("ledger"))


def ingest(fleet, *readings, **options) -> dict:
    record = fleet.folder / "record.json"
    done = fleet.ingest(*readings, run_record=record, **options)
    assert done.code == 0, done.err
    return json.loads(record.read_text()) | {"said": done.out.decode()}


def data_of(lake) -> dict:
    return {name: paths_of(lake, name) for name in DATA_TABLES}


@pytest.fixture
def lake(fleet, tmp_path):
    """A lake that took half of the files in, and the record of that."""
    root = tmp_path / "lake"
    return root, ingest(fleet, *fleet.readings[::2], lake=root, buckets=2)


def test_files_that_come_again_are_not_read_and_change_nothing(fleet, lake):
    root, first = lake
    before = data_of(root)
    again = ingest(fleet, *fleet.readings[::2], lake=root)
    assert [entry["run_id"] for entry in again["repeated"]] == [first["run_id"]] * len(fleet.readings[::2])
    assert [{"sha256": e["sha256"], "name": e["name"]} for e in again["repeated"]] == first["inputs"]
    assert (again["inputs"], again["totals"]) == ([], {"counts": {}, "energies": {}})
    assert data_of(root) == before
    assert f"files were ingested before, by {first['run_id']}" in again["said"]


def test_new_files_are_read_beside_old_ones(fleet, lake):
    root, _ = lake
    mixed = ingest(fleet, lake=root)
    assert len(mixed["repeated"]) == len(fleet.readings[::2])
    assert {entry["name"] for entry in mixed["inputs"]} == {path.name for path in fleet.readings[1::2]}


def test_a_repeated_file_ends_in_the_same_rows_where_it_is_read(fleet, lake):
    """By force, or since a run died after its commit and before the ledger was written."""
    root, first = lake
    before = data_of(root)
    forced = ingest(fleet, *fleet.readings[::2], lake=root, force=True)
    assert (forced["repeated"], forced["totals"]["counts"]["delivered"]) == ([], first["totals"]["counts"]["delivered"])
    assert forced["totals"]["counts"]["cells_unchanged"] == forced["totals"]["counts"]["cells"]
    shutil.rmtree(root / "operational" / "inputs")
    assert ingest(fleet, *fleet.readings[::2], lake=root)["repeated"] == []
    rows = {name: files for name, files in data_of(root).items() if "quarantine" not in name}
    assert rows == {name: files for name, files in before.items() if "quarantine" not in name}


def test_what_was_not_committed_is_not_in_the_ledger(fleet, tmp_path):
    assert fleet.ingest(lake=tmp_path / "lake", max_quarantined="0%").code == 1
    assert ingest(fleet, lake=tmp_path / "lake")["repeated"] == []


def test_an_input_is_known_by_content_and_options(tmp_path):
    lake = create_lake(tmp_path / "lake", bucket_count=1)
    plain, by_name = describe_options(ReadOptions()), describe_options(ReadOptions(registered_at="file-name"))
    record_inputs(lake, plain, [("ab" * 32, "x.csv")], "run-1")
    record_inputs(lake, by_name, [("ab" * 32, "x.csv")], "run-2")
    lake = open_lake(lake.root)
    assert find_run(lake, plain, "ab" * 32, "other name.csv") == "run-1"
    assert find_run(lake, plain, "cd" * 32, "x.csv") == ""
    assert find_run(lake, by_name, "ab" * 32, "x.csv") == "run-2"
    assert find_run(lake, by_name, "ab" * 32, "other name.csv") == "", "the name says when it was registered"
    assert find_run(lake, describe_options(ReadOptions(metering_point="1")), "ab" * 32, "x.csv") == ""


def test_the_first_run_that_took_an_input_in_is_remembered(tmp_path):
    lake, plain = create_lake(tmp_path / "lake", bucket_count=1), describe_options(ReadOptions())
    assert find_first(lake, plain, "ab" * 32, "x.csv") == ""
    for number in range(3):
        record_inputs(lake, plain, [("ab" * 32, "x.csv")], f"run-{number}")
        assert find_run(lake, plain, "ab" * 32, "x.csv") == f"run-{number}"
        assert find_first(lake, plain, "ab" * 32, "x.csv") == "run-0"


def test_a_mapping_counts_by_its_content(tmp_path):
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text("a: 1")
    other.write_text("a: 1")
    assert describe_options(ReadOptions(mapping=str(one))) != describe_options(ReadOptions())
    assert describe_options(ReadOptions(mapping=str(one))) == describe_options(ReadOptions(mapping=str(other)))
    other.write_text("a: 2")
    assert describe_options(ReadOptions(mapping=str(one))) != describe_options(ReadOptions(mapping=str(other)))


def test_an_entry_that_is_damaged_costs_reading_again(tmp_path):
    lake = create_lake(tmp_path / "lake", bucket_count=1)
    options = describe_options(ReadOptions())
    record_inputs(lake, options, [("ab" * 32, "x.csv")], "run-1")
    [entry] = (lake.operational / "inputs").rglob("*.json")
    entry.write_bytes(b"{")
    assert find_run(lake, options, "ab" * 32, "x.csv") == ""
