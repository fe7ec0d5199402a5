"""The same rows on every engine; a real Flink cluster, and nothing of it is left when it has ended."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from cluster import run_cluster
from jobs import read_job
from small_runs import PROCESSES, find_wrong

from pipeline.errors import MeterveilError

ROOT = Path(__file__).parents[2]
long = pytest.mark.long
pytestmark = pytest.mark.usefixtures("flink")


@pytest.fixture(scope="module")
def cluster():
    with run_cluster() as made:
        yield made


def assert_done(done):
    assert done.returncode == 0, done.stderr


def assert_as_expected(fleet, lake):
    assert find_wrong(lake, done=True) == []
    assert fleet.compare(lake) == []


def test_rows_are_the_same_with_several_processes(fleet, tmp_path):
    for part in (1, 2):
        assert_done(fleet.run(tmp_path / "lake", part, *PROCESSES))
    assert_as_expected(fleet, tmp_path / "lake")


@pytest.mark.parametrize("parallelism", [pytest.param(1, marks=long), 2, pytest.param(4, marks=long)])
def test_rows_are_the_same_on_flink(fleet, cluster, tmp_path, parallelism, monkeypatch):
    lake, temporary = tmp_path / "lake", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    for part in (1, 2):
        assert_done(fleet.run(lake, part, *cluster.options(parallelism)))
    assert list(temporary.iterdir()) == []
    job = read_job(cluster)
    assert job.state == "FINISHED"
    assert sum(job.phases.values()) == pytest.approx(job.seconds)
    assert_as_expected(fleet, lake)


@long
def test_the_same_again_is_known_by_the_ledger_that_all_workers_share(fleet, cluster, tmp_path):
    for _ in range(2):
        done = fleet.run(tmp_path / "lake", 1, *cluster.options(2))
        assert_done(done)
    assert "were ingested before" in done.stdout
    assert find_wrong(tmp_path / "lake", done=True) == []


@long
def test_a_portable_runner_is_the_same(fleet, cluster, tmp_path):
    options = ["--runner=PortableRunner", *cluster.options(2)[1:]]
    assert_done(fleet.run(tmp_path / "lake", 1, *options))
    assert_done(fleet.run(tmp_path / "lake", 2))
    assert_as_expected(fleet, tmp_path / "lake")


@pytest.fixture
def worker_pool(cluster):
    """A pool that starts workers when it is asked to, as the image has it; gives its address."""
    pool = BeamFnExternalWorkerPoolServicer(use_process=True, container_executable=cluster.worker)
    server = grpc.server(ThreadPoolExecutor())
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
    for worker in pool._worker_processes.values():
        worker.kill()
        worker.wait()


@long
def test_rows_are_the_same_by_workers_of_a_pool(fleet, cluster, tmp_path, worker_pool):
    options = dict(option.split("=", 1) for option in cluster.options(2))
    options |= {"--environment_type": "EXTERNAL", "--environment_config": worker_pool}
    for part in (1, 2):
        assert_done(fleet.run(tmp_path / "lake", part, *map("=".join, options.items())))
    assert cluster.list_workers() == []
    assert_as_expected(fleet, tmp_path / "lake")


@long
def test_a_bad_file_is_told_in_a_line_and_leaves_the_lake_as_it_was(fleet, cluster, tmp_path):
    lake, bad = tmp_path / "lake", tmp_path / "cut.parquet"
    assert_done(fleet.run(lake, 1))
    before = fleet.read_tables(lake)
    bad.write_bytes(next((fleet.folder / "readings").iterdir()).read_bytes()[:-9])
    command = fleet.command(lake, 2, *cluster.options(2))
    command.insert(command.index("--readings") + 1, str(bad))
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"meterveil: {bad}: ")
    assert done.stderr.count("\n") == 1
    assert find_wrong(lake, done=False) == []
    assert fleet.read_tables(lake).items() == before.items()
    assert_done(fleet.run(lake, 2))
    assert_as_expected(fleet, lake)


@long
@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_cancelled_there_too(fleet, cluster, tmp_path, how, monkeypatch):
    lake, temporary = tmp_path / "lake", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    before = {job["jid"] for job in cluster.ask("/jobs/overview")["jobs"]}
    with subprocess.Popen(fleet.command(lake, 1, *cluster.options(2)), stderr=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + 60
        while not (job := find_running(cluster, before)) and time.monotonic() < deadline:
            time.sleep(0.05)
        run.send_signal(how)
        assert (run.wait(60), "the job cancelled" in run.stderr.read()) == (130, True)
    assert cluster.ask(f"/jobs/{job}")["state"] == "CANCELED"
    assert list(temporary.iterdir()) == []
    assert find_wrong(lake, done=False) == []
    for part in (1, 2):
        assert_done(fleet.run(lake, part))
    assert_as_expected(fleet, lake)


def find_running(cluster, before: set[str]) -> str:
    jobs = cluster.ask("/jobs/overview")["jobs"]
    return next((job["jid"] for job in jobs if job["jid"] not in before and job["state"] == "RUNNING"), "")


def test_an_unknown_option_is_wrong_usage_also_there(fleet, cluster, tmp_path):
    done = fleet.run(tmp_path / "lake", 1, *cluster.options(2), "--parallelisms=3")
    assert (done.returncode, "unknown option --parallelisms" in done.stderr) == (2, True)
    assert not (tmp_path / "lake").exists()


@long
@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_cluster_leaves_nothing(tmp_path, how):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "deploy" / "flink" / "cluster.py"), "--task-managers", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        rest = int(process.stdout.readline().rpartition(":")[2])
        assert "--job_endpoint=" in process.stdout.readline()
        children = children_of(process.pid)
        assert len(children) == 3
        process.send_signal(how)
        assert process.wait(60) == 0
    assert_gone(tmp_path, rest, children)


@long
def test_a_cluster_leaves_nothing_when_its_block_fails(fleet, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[int] = []

    def fail_in_the_middle(made) -> None:
        command = fleet.command(tmp_path / "lake", 1, *made.options(1))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            while not made.list_workers() and run.poll() is None:
                time.sleep(0.05)
            seen.extend((*children_of(os.getpid()), *made.list_workers()))
            run.kill()
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"), run_cluster(1) as made:
        fail_in_the_middle(made)
    assert len(seen) >= 4
    assert not list(tmp_path.glob("meterveil-flink-*"))
    assert_gone(tmp_path / "none", int(made.rest.rpartition(":")[2]), seen)


def test_a_part_that_does_not_come_up_is_told_with_its_last_words(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr("cluster.find_ports", lambda count: [taken.getsockname()[1]] * count)
        words = r"^(jobmanager|taskmanager-1|jobservice): it ended: .*\w"
        with pytest.raises(MeterveilError, match=words), run_cluster(1):
            pass
    assert list(tmp_path.iterdir()) == []


def children_of(parent: int) -> list[int]:
    command = ["ps", "-o", "pid=,comm=", "--ppid", str(parent)]
    listed = subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()
    return [int(pid) for pid, name in map(str.split, listed) if name == "java"]


def assert_gone(folder: Path, port: int, processes: list[int]) -> None:
    deadline = time.monotonic() + 5
    while (left := [pid for pid in processes if Path(f"/proc/{pid}/cmdline").exists()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    assert not folder.exists() or list(folder.iterdir()) == []
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that were closed may linger
        again.bind(("127.0.0.1", port))
