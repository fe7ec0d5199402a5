"""A run whose launcher leaves: the graph commits and ends it, once; what is too late commits nothing."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pytest
from whole_job import assert_same_rows, ingest, paths_of

from pipeline import launch
from pipeline.cli import main
from pipeline.context import staging_folder
from pipeline.errors import MeterveilError
from pipeline.lake import open_lake
from pipeline.lease import list_dead, list_holders
from pipeline.policy_file import load_policy
from pipeline.runners import Engine, run_pipeline
from pipeline.runs import find_record, list_runs
from pipeline.verify import verify_lake


class Elsewhere(Engine):
    """The engine of this process, taken for a cluster."""

    @property
    def is_in_process(self) -> bool:
        return False


@dataclass
class Left:
    """A run whose launcher has left before its graph is run.

    Attributes:
        lake: where.
        run_id: the run.
        work: runs the graph, as a cluster does in its own time.
    """

    lake: Path
    run_id: str
    work: Callable[[], None]


def ingest_part(lake: Path, fleet_run, part: int, **options) -> dict[str, object]:
    files = sorted((fleet_run.folder / "readings").iterdir(), key=lambda path: path.stem.rpartition("-")[2])
    first = {"reference": fleet_run.folder / "reference", "buckets": 4} if part == 1 else {}
    return ingest(lake, files[:4] if part == 1 else files[4:], fleet_run.keys, **first, **options)


@pytest.fixture
def left(tmp_path, fleet_run, monkeypatch) -> Left:
    pipelines: list[beam.Pipeline] = []

    def keep(pipeline: beam.Pipeline, *, waits: bool) -> None:
        assert not waits
        pipelines.append(pipeline)

    with monkeypatch.context() as patched:
        patched.setattr(launch, "run_pipeline", keep)
        told = ingest_part(tmp_path / "lake", fleet_run, 1, engine=Elsewhere(), detached=True)
    assert told.keys() == {"run_id", "outcome"}
    return Left(tmp_path / "lake", str(told["run_id"]), lambda: run_pipeline(pipelines[0]))


def state_of(lake: Path, run_id: str) -> list[str]:
    return [run.state for run in list_runs(open_lake(lake)) if run.run_id == run_id]


def assert_nothing_is_left(lake: Path) -> None:
    opened = open_lake(lake)
    assert (list_holders(opened), list_dead(opened)) == ([], [])
    checks = verify_lake(opened, load_policy(opened.stored_policy()))
    assert [place for check in checks for place in check.places] == []


def test_it_commits_and_ends_by_itself(left, fleet_run):
    assert state_of(left.lake, left.run_id) == ["at work"]
    with pytest.raises(MeterveilError, match="at work; ask again"):
        find_record(open_lake(left.lake), left.run_id)
    left.work()
    assert state_of(left.lake, left.run_id) == ["committed"]
    assert find_record(open_lake(left.lake), left.run_id)["outcome"] == "committed"
    assert_nothing_is_left(left.lake)
    ingest_part(left.lake, fleet_run, 2)
    assert_same_rows(left.lake, fleet_run.lake)


def test_a_run_that_begins_meanwhile_leaves_it_alone(left, fleet_run):
    ingest_part(left.lake, fleet_run, 2, reference=fleet_run.folder / "reference")
    assert state_of(left.lake, left.run_id) == ["at work"]
    assert staging_folder(open_lake(left.lake), left.run_id).exists()
    left.work()
    assert_nothing_is_left(left.lake)
    assert_same_rows(left.lake, fleet_run.lake)


def test_one_that_is_too_late_commits_nothing_and_is_run_again(left, fleet_run):
    [path] = (left.lake / "operational" / "leases").iterdir()
    then = time.time() - 13 * 3600
    os.utime(path, (then, then))
    assert state_of(left.lake, left.run_id) == ["dead"]
    with pytest.raises(MeterveilError, match="it died"):
        find_record(open_lake(left.lake), left.run_id)
    ingest_part(left.lake, fleet_run, 2, reference=fleet_run.folder / "reference")
    assert state_of(left.lake, left.run_id) == []
    before = {name: paths_of(left.lake, name) for name in open_lake(left.lake).table_names()}
    with pytest.raises((MeterveilError, FileNotFoundError)):
        left.work()
    assert {name: paths_of(left.lake, name) for name in before} == before
    with pytest.raises(MeterveilError, match="no run of this id"):
        find_record(open_lake(left.lake), left.run_id)
    ingest_part(left.lake, fleet_run, 1)
    assert_same_rows(left.lake, fleet_run.lake)


def test_the_same_graph_begun_again_changes_nothing_and_the_next_run_clears_up(left, fleet_run):
    left.work()
    before = {name: paths_of(left.lake, name) for name in open_lake(left.lake).table_names()}
    with pytest.raises((MeterveilError, FileNotFoundError)):
        left.work()
    assert {name: paths_of(left.lake, name) for name in before} == before
    assert list_dead(open_lake(left.lake))
    ingest_part(left.lake, fleet_run, 2)
    assert_nothing_is_left(left.lake)


def test_a_run_that_is_waited_for_ends_in_the_same_way(tmp_path, fleet_run):
    for part in (1, 2):
        ingest_part(tmp_path / "lake", fleet_run, part, engine=Elsewhere())
    assert_nothing_is_left(tmp_path / "lake")
    assert_same_rows(tmp_path / "lake", fleet_run.lake)


def test_one_that_no_cluster_takes_is_dead_with_its_launcher(tmp_path, fleet_run, monkeypatch):
    def refuse(*_: beam.Pipeline, **__: bool) -> None:
        raise MeterveilError("no job service answers")

    monkeypatch.setattr(launch, "run_pipeline", refuse)
    with pytest.raises(MeterveilError, match="no job service"):
        ingest_part(tmp_path / "lake", fleet_run, 1, engine=Elsewhere(), detached=True)
    [holder] = list_holders(open_lake(tmp_path / "lake"))
    assert holder.until is None  # its process is asked


def test_the_command_tells_of_runs(fleet_run, capsys):
    run_id = fleet_run.record["run_id"]
    assert main(["runs", "--lake", str(fleet_run.lake), "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert (told["run_id"], told["state"], told["until"]) == (run_id, "committed", fleet_run.record["committed_at"])
    code = main(["runs", "--lake", str(fleet_run.lake), "--run", run_id, "--json"])
    assert (code, json.loads(capsys.readouterr().out)) == (3 if fleet_run.record["warnings"] else 0, fleet_run.record)
    assert main(["runs", "--lake", str(fleet_run.lake), "--run", run_id]) == code
    assert run_id in capsys.readouterr().out
    assert main(["runs", "--lake", str(fleet_run.lake), "--run", "another"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--detach"], "--detach is for a runner on a cluster"),
        (["--detach", "--runner=FlinkRunner", "--run-record=record.json"], "--detach is for a runner on a cluster"),
        (["--runner=DataflowRunner", "--template_location=/tmp/job"], "give --detach"),
    ],
)
def test_what_contradicts_itself_is_wrong_usage(tmp_path, capsys, options, said):
    given = ["--readings=x", f"--lake={tmp_path / 'lake'}", "--keyset=x", "--kek=x"]
    with pytest.raises(SystemExit) as ended:
        main(["ingest", *given, *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "lake").exists()
