"""A run on a real Flink cluster whose launcher leaves, or is killed: the job commits by itself, once, or not at all."""

import os
import re
import signal
import subprocess
import time

import pytest
from cluster import run_cluster
from small_runs import find_wrong, run_command

from pipeline.context import staging_folder
from pipeline.lake import open_lake
from pipeline.lease import list_holders
from pipeline.runs import list_runs

long = pytest.mark.long
pytestmark = pytest.mark.usefixtures("flink")
#: Longer than a run that nobody watches may be silent.
_TOO_LATE_S = 13 * 3600
_PATIENCE_S = 120


@pytest.fixture(scope="module")
def cluster():
    with run_cluster() as made:
        yield made


def detached(fleet, lake, part: int, cluster) -> list[str]:
    """Make the command that sends a part to the cluster, as a job that is called as the lake's folder."""
    return fleet.command(lake, part, *cluster.options(2), "--detach", f"--job_name={lake.parent.name}-{part}")


def send(fleet, lake, part: int, cluster) -> str:
    """Send a part to the cluster, and leave; the run's id."""
    done = run_command(detached(fleet, lake, part, cluster))
    assert done.returncode == 0, done.stderr
    return re.fullmatch(r"run (\S+) goes on by itself\n", done.stdout)[1]


def find_job(cluster, lake, part: int):
    jobs = cluster.ask("/jobs/overview")["jobs"]
    return next((job for job in jobs if job["name"] == f"{lake.parent.name}-{part}"), None)


def await_end(cluster, lake, part: int) -> str:
    """Wait until the job of a part has ended; its state."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (job := find_job(cluster, lake, part)) or job["end-time"] < 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return job["state"]


def state_of(lake, run_id: str) -> list[str]:
    return [run.state for run in list_runs(open_lake(lake)) if run.run_id == run_id]


def assert_as_expected(fleet, lake):
    assert find_wrong(lake, done=True) == []
    assert fleet.compare(lake) == []
    assert list_holders(open_lake(lake)) == []
    assert not list(staging_folder(open_lake(lake), "").glob("*"))


@long
def test_the_launcher_leaves_and_the_job_commits(fleet, cluster, tmp_path):
    lake = tmp_path / "lake"
    for part in (1, 2):
        run_id = send(fleet, lake, part, cluster)
        assert state_of(lake, run_id) == ["at work"]
        assert await_end(cluster, lake, part) == "FINISHED"
        assert state_of(lake, run_id) == ["committed"]
    assert_as_expected(fleet, lake)


@long
def test_a_run_that_begins_meanwhile_leaves_it_alone(fleet, cluster, tmp_path):
    lake, reference = tmp_path / "lake", ("--reference", str(fleet.folder / "reference"))
    run_id = send(fleet, lake, 1, cluster)
    assert run_command(fleet.command(lake, 2, *reference)).returncode == 0
    assert await_end(cluster, lake, 1) == "FINISHED"
    assert state_of(lake, run_id) == ["committed"]
    assert_as_expected(fleet, lake)


@long
def test_a_job_that_is_too_late_commits_nothing(fleet, cluster, tmp_path):
    lake, reference = tmp_path / "lake", ("--reference", str(fleet.folder / "reference"))
    run_id = send(fleet, lake, 1, cluster)
    then = time.time() - _TOO_LATE_S
    os.utime(lake / "operational" / "leases" / f"{run_id}.json", (then, then))
    assert run_command(fleet.command(lake, 2, *reference)).returncode == 0
    assert await_end(cluster, lake, 1) == "FAILED"
    assert state_of(lake, run_id) == []
    assert find_wrong(lake, done=False) == []
    assert run_command(fleet.command(lake, 1)).returncode == 0  # which clears up what the late one left
    assert_as_expected(fleet, lake)


@long
def test_a_launcher_that_is_killed_when_the_job_is_there_is_not_missed(fleet, cluster, tmp_path):
    lake = tmp_path / "lake"
    command = detached(fleet, lake, 1, cluster)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as launcher:
        while launcher.poll() is None and not find_job(cluster, lake, 1):
            time.sleep(0.02)
        launcher.send_signal(signal.SIGKILL)
    assert await_end(cluster, lake, 1) == "FINISHED"
    assert run_command(fleet.command(lake, 2)).returncode == 0
    assert_as_expected(fleet, lake)
