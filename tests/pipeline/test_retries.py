"""What an engine tries again, or finishes too late, changes nothing: steps may run any number of times."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from whole_job import DATA_TABLES, assert_same_rows, ingest, paths_of

from pipeline import commit, launch
from pipeline import ingest as graph
from pipeline.commit import commit_run
from pipeline.context import open_run
from pipeline.errors import MeterveilError
from pipeline.lake import open_lake
from pipeline.ledger import find_run
from pipeline.policy_file import load_policy
from pipeline.steps import FoldCells, ReadReadings
from pipeline.verify import verify_lake


class Tried(NamedTuple):
    """A run that has committed, with what its steps were given."""

    lake: Path
    context: Any
    outcome: Any
    rules: Any


@pytest.fixture
def tried(tmp_path, fleet_run, monkeypatch) -> Tried:
    taken: list[Any] = []

    def take(run, outcome, rules):
        taken.extend((run.context, outcome, rules))
        commit_run(run, outcome, rules)

    with monkeypatch.context() as patched:
        patched.setattr(graph, "commit_run", take)
        files = [fleet_run.folder / "readings" / "*"]
        ingest(tmp_path / "lake", files, fleet_run.keys, reference=fleet_run.folder / "reference", buckets=4)
    return Tried(tmp_path / "lake", *taken)


def state_of(lake: Path) -> dict[str, Any]:
    opened = open_lake(lake)
    return {name: (opened.state(name).snapshot_id, paths_of(lake, name)) for name in DATA_TABLES}


def breaches(lake: Path) -> list[str]:
    opened = open_lake(lake)
    checks = verify_lake(opened, load_policy(opened.stored_policy()))
    return [f"{check.name}: {place} {problem}" for check in checks for place, problem, breaks in check.places if breaks]


def test_a_commit_that_is_tried_again_changes_nothing_and_completes_the_ledger(tried):
    before = state_of(tried.lake)
    lake = open_lake(tried.lake)
    for entry in (lake.operational / "inputs").rglob("*.json"):
        entry.unlink()  # as if the first attempt had died just after the tables had changed
    for _ in range(2):
        commit_run(open_run(tried.context), tried.outcome, tried.rules)
    assert state_of(tried.lake) == before
    assert breaches(tried.lake) == []
    assert all(
        find_run(lake, tried.context.options, digest, name) == tried.context.run_id
        for digest, name in tried.outcome.inputs
    )


def test_stragglers_change_nothing_after_the_commit(tried, fleet_run):
    before = state_of(tried.lake)
    fold, read = FoldCells(tried.context), ReadReadings(tried.context)
    for work in tried.outcome.cells:
        with suppress(MeterveilError, FileNotFoundError):  # what was staged is gone
            fold.work((tuple(work.cell), [work.frames]))
        fold.work((tuple(work.cell), [()]))
    path = next((fleet_run.folder / "readings").iterdir())
    for split in launch.plan_file(str(path), tried.context.read):
        read.work(split)
    # The last of them even commits: it brings what another attempt has folded.
    commit_run(open_run(tried.context), replace(tried.outcome, cells=tried.outcome.cells[1:]), tried.rules)
    assert state_of(tried.lake) == before
    assert breaches(tried.lake) == []
    assert_same_rows(tried.lake, fleet_run.lake)


@pytest.mark.parametrize("change", [lambda read: [*read, read[0]], lambda read: read[1:]])
def test_a_part_that_was_read_twice_or_never_is_not_committed(tmp_path, fleet_run, monkeypatch, change):
    def lose(run, outcome, rules):
        commit_run(run, replace(outcome, read=change(outcome.read)), rules)

    monkeypatch.setattr(graph, "commit_run", lose)
    with pytest.raises(MeterveilError, match="parts of files were to be read"):
        ingest(tmp_path / "lake", [fleet_run.folder / "readings" / "*"], fleet_run.keys, buckets=4)


def test_a_commit_that_fails_on_the_way_finds_its_files_when_it_is_tried_again(tmp_path, fleet_run, monkeypatch):
    """Another run releases and commits meanwhile: cells are folded again and quarantine is written anew, twice."""
    files, lake = [fleet_run.folder / "readings" / "*"], tmp_path / "lake"
    options = {"reference": fleet_run.folder / "reference", "buckets": 4}
    attempts = []

    def again(run, outcome, rules):
        with monkeypatch.context() as patched:
            patched.setattr(graph, "commit_run", commit_run)
            ingest(lake, files, fleet_run.keys, **options)
        with monkeypatch.context() as patched:
            patched.setattr(commit, "commit_journal", _die)
            with pytest.raises(RuntimeError, match="dies here"):
                commit_run(run, outcome, rules)
        written = [Path(file.path) for file in outcome.written]
        assert all(path.exists() for path in written)
        commit_run(run, outcome, rules)
        attempts.append(sum(not path.exists() for path in written))

    monkeypatch.setattr(graph, "commit_run", again)
    ingest(lake, files, fleet_run.keys, **options)
    assert attempts[0] > 0, "what was folded for nothing is gone"
    assert breaches(lake) == []
    assert_same_rows(lake, fleet_run.lake)


def _die(*_: object) -> None:
    raise RuntimeError("a worker dies here")
