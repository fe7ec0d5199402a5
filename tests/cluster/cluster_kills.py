"""A TaskManager or a worker killed while a run is at work: it recovers, or fails cleanly and the next run completes it."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from cluster import Cluster
from small_runs import Fleet, find_wrong, run_command

RECOVERED, FAILED, TOO_LATE = "recovered", "failed, run again", "too late"
_POLL_S = 0.005
#: How long after an event something is killed, at most.
_SOON_S = 0.3
_TASK_MANAGERS = 2


def kill_once(cluster: Cluster, fleet: Fleet, folder: Path, chance: random.Random) -> tuple[str, list[str]]:
    """Send the second part of a fleet to a cluster, kill something, and see what becomes of the run and of the lake.

    Args:
        cluster: of two TaskManagers; has two again afterwards.
        fleet: what is run.
        folder: of the lakes.
        chance: what is killed, and when.

    Returns:
        What was killed, when, and what became of the run, in words; and what is wrong.
    """
    lake, begun = folder / "lake", folder / "begun"
    if not begun.exists():
        assert fleet.run(lake, 1).returncode == 0
        shutil.copytree(lake, begun)
    shutil.rmtree(lake)
    shutil.copytree(begun, lake)
    name, happened = chance.choice(_list_events(lake))
    command = fleet.command(lake, 2, *cluster.options(_TASK_MANAGERS))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        _wait(run, happened)
        delay = chance.uniform(0, _SOON_S)
        time.sleep(delay)
        victim = chance.choice(("TaskManager", "worker"))
        late = run.poll() is not None
        killed = _kill_task_manager(cluster, chance) if victim == "TaskManager" else _kill_worker(cluster, chance)
        _, said = run.communicate()
    outcome = TOO_LATE if late or not killed else RECOVERED if run.returncode == 0 else FAILED
    wrong = [] if run.returncode in (0, 1) and said.count("\n") == run.returncode else [f"it said {said!r}"]
    wrong += find_wrong(lake, done=run.returncode == 0)
    _mend(cluster)
    if run.returncode:
        again = run_command(command)
        wrong += [again.stderr] if again.returncode else find_wrong(lake, done=True)
    wrong += fleet.compare(lake)
    return f"{victim} killed {delay:.2f} s after {name}: {outcome}", wrong


def _list_events(lake: Path) -> list[tuple[str, Callable[[], bool]]]:
    """List what a lake shows of a run that has come so far."""

    def more(pattern: str) -> Callable[[], bool]:
        at_first = sum(1 for _ in lake.glob(pattern))
        return lambda: sum(1 for _ in lake.glob(pattern)) > at_first

    return [
        ("the first frame", more("operational/staging/*/*.frames")),
        ("the first file of readings", more("operational/readings/data/**/*.parquet")),
        ("the first file of analytics", more("analytics/*/data/**/*.parquet")),
        ("the journal", more("operational/journal/*.json")),
        ("metadata of readings", more("operational/readings/metadata/*.metadata.json")),
    ]


def _wait(run: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    while not happened() and run.poll() is None:
        time.sleep(_POLL_S)


def _kill_task_manager(cluster: Cluster, chance: random.Random) -> bool:
    """Kill a TaskManager; its workers notice by themselves."""
    process = chance.choice(cluster.task_managers)
    process.kill()
    return True


def _kill_worker(cluster: Cluster, chance: random.Random) -> bool:
    workers = cluster.list_workers()
    if workers:
        os.kill(chance.choice(workers), signal.SIGKILL)
    return bool(workers)


def _mend(cluster: Cluster) -> None:
    """Start a TaskManager in the place of one that was killed."""
    for process in [process for process in cluster.task_managers if process.poll() is not None]:
        cluster.task_managers.remove(process)
        cluster.start_task_manager()
    cluster.await_task_managers(_TASK_MANAGERS)
