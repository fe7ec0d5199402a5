"""The same deliveries, in any order, over any number of runs, any number of times: the same rows."""

import random
import shutil
from pathlib import Path

import pytest
from whole_job import CELL_TABLES, DATA_TABLES, assert_same_rows, ingest, paths_of, rows_of


def deal(paths, hands: int, seed: int) -> list[list]:
    """Shuffle files and deal them to runs."""
    shuffled = random.Random(seed).sample(paths, len(paths))
    return [shuffled[hand::hands] for hand in range(hands)]


def superseded(records) -> dict[str, int]:
    return {
        what: sum(value for record in records for name, value in record["totals"][what].items() if "superseded" in name)
        for what in ("counts", "energies")
    }


@pytest.fixture
def seed() -> int:
    """Another order every time the tests run; pytest-randomly says the seed of a failure."""
    return random.randrange(2**32)


def test_five_runs_in_any_order_give_the_rows_of_one(tmp_path, fleet_run, seed):
    files = sorted((fleet_run.folder / "readings").iterdir())
    lake = tmp_path / "lake"
    records = []
    for run, hand in enumerate(deal(files, 5, seed)):
        # The reference comes with the first run; the others find it in the lake.
        first = {"reference": fleet_run.folder / "reference", "buckets": 4} if run == 0 else {}
        records.append(ingest(lake, hand, fleet_run.keys, **first))
    assert_same_rows(lake, fleet_run.lake)
    assert superseded(records) == superseded([fleet_run.record])
    assert any(record["totals"]["counts"].get("before") for record in records)


def test_the_reference_may_come_after_the_readings(tmp_path, fleet_run):
    files = sorted((fleet_run.folder / "readings").iterdir())
    lake = tmp_path / "lake"
    ingest(lake, files, fleet_run.keys, buckets=4)
    ingest(lake, files, fleet_run.keys, reference=fleet_run.folder / "reference")
    assert_same_rows(lake, fleet_run.lake)


def test_delivering_all_again_rewrites_no_cell(tmp_path, fleet_run):
    lake = tmp_path / "lake"
    files = [fleet_run.folder / "readings" / "*"]
    first = ingest(lake, files, fleet_run.keys, reference=fleet_run.folder / "reference", buckets=4)
    before = {table: paths_of(lake, table) for table in DATA_TABLES}
    again = ingest(lake, files, fleet_run.keys)
    for table in (*CELL_TABLES, "operational.customer_service"):
        assert before[table]
        assert paths_of(lake, table) == before[table]
    assert_same_rows(lake, fleet_run.lake)
    counts = again["totals"]["counts"]
    assert counts["cells_unchanged"] == counts["cells"] == first["totals"]["counts"]["cells"]
    assert counts["before"] == counts["after"] == fleet_run.truth["rows_final"]
    assert superseded([again])["counts"] == counts["folded"]


def test_only_the_cells_that_something_new_came_for_are_rewritten(tmp_path, fleet_run):
    """The newest file of the fleet holds a few corrections of one day."""
    files = sorted((fleet_run.folder / "readings").iterdir(), key=lambda path: path.name)
    lake = tmp_path / "lake"
    ingest(lake, files[:-1], fleet_run.keys, reference=fleet_run.folder / "reference", buckets=4)
    before = {table: paths_of(lake, table) for table in CELL_TABLES}
    record = ingest(lake, files[-1:], fleet_run.keys)
    assert record["totals"]["counts"]["cells"] < len(before["operational.readings"])
    for table in CELL_TABLES:
        rewritten = set(before[table]) - set(paths_of(lake, table))
        assert len(rewritten) == record["totals"]["counts"]["cells"] - record["totals"]["counts"]["cells_unchanged"]
    assert_same_rows(lake, fleet_run.lake)


def test_a_file_under_two_names_is_set_aside_once(tmp_path, fleet_run):
    """Quarantine is by the content of a file: a copy adds nothing, in the same run or in a later one."""
    files = sorted((fleet_run.folder / "readings").iterdir())
    (tmp_path / "again").mkdir()
    copies = [Path(shutil.copy(path, tmp_path / "again" / f"copy-{path.name}")) for path in files]
    lake = tmp_path / "lake"
    ingest(lake, [*files, *copies], fleet_run.keys, reference=fleet_run.folder / "reference", buckets=4)
    tables = [table for table in DATA_TABLES if table != "operational.quarantine_readings"]
    assert_same_rows(lake, fleet_run.lake, tables)
    keys = "file_digest, row, position, reason"
    once = rows_of(fleet_run.lake, "operational.quarantine_readings", keys)
    assert rows_of(lake, "operational.quarantine_readings", keys).equals(once)
    ingest(lake, copies, fleet_run.keys)
    assert rows_of(lake, "operational.quarantine_readings", keys).equals(once)
