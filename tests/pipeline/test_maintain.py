"""Housekeeping deletes what nothing needs and nothing else, and what a lake no longer keeps never comes back."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from lent_lake import assert_clean, keep_copy, lend, verify
from privacy_support import make_fleet, run
from whole_job import paths_of, rows_of

from pipeline.begin import read_run_record
from pipeline.cells import READINGS
from pipeline.commit import commit_run
from pipeline.context import RUNS
from pipeline.errors import MeterveilError
from pipeline.horizons import advance_horizons, read_horizons
from pipeline.iceberg import current_files
from pipeline.journal import sole_committer
from pipeline.labels import parse_label
from pipeline.lease import leased
from pipeline.maintain import describe_upkeep, maintain
from pipeline.policy_file import load_policy

DERIVED = ("analytics.readings", "analytics.daily")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake that three runs made, the second of all files and the third of nothing new, and a copy of its files."""
    made = make_fleet(tmp_path_factory.mktemp("maintain"))
    half = made.readings[: len(made.readings) // 2]
    assert made.ingest(*half, buckets=2).code == 0
    assert made.ingest().code == 0
    assert made.ingest(force=True).code == 0
    return keep_copy(made)


@pytest.fixture
def lake(made):
    with lend(made) as lake:
        yield lake


def policy(lake):
    return load_policy(lake.stored_policy())


def in_days(days: int) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def keep_house(lake, days: int = 0, keep: int = 30) -> dict[str, int]:
    return {chore.what: chore.count for chore in maintain(lake, policy(lake), keep, in_days(days))}


def files_of(lake) -> dict[Path, int]:
    return {path: path.stat().st_size for path in lake.root.rglob("*") if path.is_file()}


def current(lake) -> dict[str, list[str]]:
    return {name: paths_of(lake.root, name) for name in lake.table_names()}


def test_old_snapshots_go_with_their_files_and_the_rows_stay(lake):
    before, size = current(lake), sum(files_of(lake).values())
    done = keep_house(lake, days=31)
    assert done["snapshots that expire"] > 0
    assert done["files that nothing needs"] > 0
    assert current(lake) == before
    assert sum(files_of(lake).values()) < size
    on_disk = {path for name in before for path in lake.marked_data_paths(name, "")}
    assert on_disk == {path for paths in before.values() for path in paths}
    assert all(len(lake.state(name).snapshots) <= 1 for name in before)
    assert_clean(lake)


def test_what_was_done_is_not_done_again(lake):
    keep_house(lake, days=31)
    before = {path for path in files_of(lake) if path.name != "audit.jsonl"}
    assert not any(keep_house(lake, days=31).values())
    assert {path for path in files_of(lake) if path.name != "audit.jsonl"} == before


def test_a_state_within_the_days_that_are_kept_can_be_asked_for(lake):
    states = {name: [one["snapshot-id"] for one in lake.state(name).snapshots] for name in lake.table_names()}
    keep_house(lake, days=29)
    for name, snapshots in states.items():
        assert [one["snapshot-id"] for one in lake.state(name).snapshots] == snapshots
        for snapshot in snapshots:
            assert all(Path(file.path).exists() for file in lake.state(name).files(snapshot))
    assert_clean(lake)


def test_a_preview_changes_nothing(made, lake):
    before = files_of(lake)
    shown = run("maintain", "--lake", made.lake, "--keep", "1", "--json")
    assert shown.code == 0
    assert {"what", "count", "bytes"} == json.loads(shown.out)[0].keys()
    describe_upkeep(lake, policy(lake))
    assert files_of(lake) == before


def test_a_run_at_work_loses_neither_its_files_nor_the_state_it_builds_on(made, lake):
    run_id = "20260330T040000Z-0123abcd"
    with leased(lake, run_id, "ingest", in_process=True):
        mine = Path(lake.new_data_path(READINGS, "20541/00000", "0123abcd"))
        others = Path(lake.new_data_path(READINGS, "20541/00000", "deadbeef"))
        for path in (mine, others):
            path.write_bytes(b"x")
        base = lake.state(RUNS).snapshot_id
        assert made.ingest(force=True).code == 0
        assert lake.state(RUNS).snapshot_id != base
        assert keep_house(lake, days=31)["snapshots that expire"] > 0
        assert mine.exists()
        assert not others.exists()
        assert all(Path(file.path).exists() for file in lake.state(RUNS).files(base))
        mine.unlink()


@pytest.mark.parametrize(("years", "gone"), [(4, DERIVED), (7, (READINGS, "operational.billing_daily", *DERIVED))])
def test_what_is_beyond_its_retention_goes_and_a_replay_brings_nothing_back(made, lake, years, gone):
    days = {parse_label(path)[1] for path in paths_of(lake.root, READINGS)}
    assert days
    keep_house(lake, days=366 * years)
    after = {name: paths for name, paths in current(lake).items() if name != RUNS}
    assert all((not after[name]) == (name in gone) for name in (READINGS, "operational.billing_daily", *DERIVED))
    assert_clean(lake)
    record = made.folder / "record.json"
    assert made.ingest(force=True, run_record=record).code == 0
    assert all((not paths_of(lake.root, name)) == (name in gone) for name in (READINGS, *DERIVED))
    counts = json.loads(record.read_text())["totals"]["counts"]
    dropped = counts.get("dropped:retention", 0)
    assert dropped == (counts["folded"] if READINGS in gone else 0)
    assert_clean(lake)
    # What was dropped leaves the disk with the last snapshot that has it.
    keep_house(lake, days=366 * years + 31)
    assert all(not lake.marked_data_paths(name, "") for name in gone)
    assert_clean(lake)


def test_what_was_set_aside_and_is_beyond_its_retention_comes_back_by_no_force(made, lake):
    aside = len(rows_of(lake.root, "operational.quarantine_readings"))
    keep_house(lake, days=89)
    assert len(rows_of(lake.root, "operational.quarantine_readings")) == aside > 0
    keep_house(lake, days=92)
    record = made.folder / "record.json"
    for _ in range(2):
        assert made.ingest(force=True, run_record=record).code == 0
        assert len(rows_of(lake.root, "operational.quarantine_readings")) == 0
        assert json.loads(record.read_text())["totals"]["counts"]["not_set_aside:retention"] == aside
    assert_clean(lake)


def test_what_is_derived_may_be_kept_for_longer(made, lake):
    advance_horizons(lake, {READINGS: 40_000})
    derived = current(lake)["analytics.daily"]
    keep_house(lake)
    assert not current(lake)[READINGS]
    assert_clean(lake)
    assert made.ingest(force=True).code == 0
    assert current(lake)["analytics.daily"] == derived
    assert not current(lake)[READINGS]
    assert_clean(lake)


def test_a_run_that_planned_before_the_horizon_moved_commits_by_the_new_one(made, lake):
    def move_first(run, *args):
        with sole_committer(lake):
            advance_horizons(lake, {READINGS: 40_000, "operational.billing_daily": 40_000})
        return commit_run(run, *args)

    record = made.folder / "record.json"
    maintain(lake, policy(lake))
    with patch("pipeline.ingest.commit_run", move_first):
        assert made.ingest(force=True, run_record=record).code == 0
    counts = json.loads(record.read_text())["totals"]["counts"]
    assert counts["dropped:retention"] == counts["folded"] > 0
    keep_house(lake)
    assert not current(lake)[READINGS]
    assert_clean(lake)


def test_a_horizon_moves_forward_alone(lake):
    advance_horizons(lake, {READINGS: 20_000})
    advance_horizons(lake, {READINGS: 10_000, "analytics.daily": 5})
    assert read_horizons(lake) == {READINGS: 20_000, "analytics.daily": 5}


def test_housekeeping_that_dies_is_made_up_for(lake):
    with (
        patch("pipeline.maintain.commit_journal", side_effect=MeterveilError("dies", where="here", remedy="none")),
        pytest.raises(MeterveilError),
    ):
        keep_house(lake, days=366 * 7)
    assert not verify(lake).violations
    keep_house(lake, days=366 * 7)
    assert not current_files(lake.table(READINGS))
    assert_clean(lake)


def test_a_commit_whose_housekeeping_died_before_it_deleted_is_made_up_for(lake):
    with patch("pipeline.maintain.find_superseded", side_effect=OSError("dies")), pytest.raises(OSError, match="dies"):
        keep_house(lake, days=31)
    assert not verify(lake).violations
    assert keep_house(lake, days=31)["files that nothing needs"] > 0
    assert_clean(lake)


def test_a_run_record_is_found_by_its_id(lake):
    for file in lake.state(RUNS).files():
        assert read_run_record(lake, file.label)["run_id"] == file.label
