"""A Flink cluster on this machine's loopback: a JobManager, TaskManagers, Beam's job service; all end with it.

Flink comes from the wheel ``apache-flink-libraries``, Beam's job service from Maven (``pom.xml`` beside this file).
Each TaskManager starts a Python worker of its own for a job. ``python deploy/flink/cluster.py`` keeps a cluster until
Ctrl-C and says how to submit to it.
"""

import argparse
import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from processes import cpu_of, list_members, memory_of

from pipeline.errors import MeterveilError

sys.path.append(str(Path(__file__).resolve().parents[1]))

from ports import LOOPBACK, find_ports

ROOT = Path(__file__).resolve().parents[2]
#: Names Beam's job service.
_POM = Path(__file__).resolve().with_name("pom.xml")
_OLDEST_JAVA, _NEWEST_JAVA = 11, 17  # that Flink 1.19 runs on
#: How long a worker is kept for the next stage of its job.
_CACHED_S = 5
_READY_S, _ENDED_S, _POLL_S = 120.0, 15.0, 0.1
#: What Flink and its serialisers reach into, which Java has closed since 16.
_OPENED = (
    *("java.lang", "java.lang.reflect", "java.net", "java.io", "java.nio", "java.text", "java.time", "java.util"),
    *("java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks", "sun.nio.ch"),
)
_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %-5p %c{1} %m%n
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that runs.

    Attributes:
        folder: everything that it writes, but for what jobs are asked to write; gone when it ends.
        rest: address of Flink's REST interface, ``http://127.0.0.1:…``.
        job_endpoint: ``host:port`` of Beam's job service.
        worker: the command that starts a Python worker.
        processes: all that was started, by title, each in a session of its own.
        task_managers: those whose sessions have workers.
        start_task_manager: starts another one, and adds it.
    """

    folder: Path
    rest: str
    job_endpoint: str
    worker: str
    processes: Mapping[str, subprocess.Popen[bytes]]
    task_managers: list[subprocess.Popen[bytes]]
    start_task_manager: Callable[[], subprocess.Popen[bytes]]

    def options(self, parallelism: int) -> list[str]:
        """Give the options of ``meterveil ingest`` that send a run here."""
        return [
            "--runner=FlinkRunner",
            f"--job_endpoint={self.job_endpoint}",
            f"--flink_master={self.rest.partition('://')[2]}",  # where an interrupted run cancels its job
            f"--parallelism={parallelism}",
            "--environment_type=PROCESS",
            f"--environment_config={json.dumps({'command': self.worker})}",
            # Else a worker ends with each stage of a job, and the next one waits for another.
            f"--environment_cache_millis={_CACHED_S * 1000}",
        ]

    def list_workers(self) -> list[int]:
        """List the processes of Python workers: all of the TaskManagers' sessions but these themselves."""
        leaders = {process.pid for process in self.task_managers}
        return [pid for pid in list_members(leaders) if pid not in leaders]

    def count_cpu(self) -> float:
        """Add up the processor seconds that all of it has taken, workers that have ended included."""
        leaders = {process.pid for process in self.processes.values()}
        return sum(map(cpu_of, list_members(leaders)))

    def count_memory(self) -> int:
        """Add up the resident bytes of all of it now; pages that several processes share count for each."""
        leaders = {process.pid for process in self.processes.values()}
        return sum(map(memory_of, list_members(leaders)))

    def await_task_managers(self, count: int) -> None:
        """Wait until the JobManager knows so many TaskManagers that live.

        Raises:
            MeterveilError: it does not come to that.
        """
        _await(lambda: self.count_task_managers() == count, "TaskManagers", {}, self.folder)

    def ask(self, path: str) -> Any:
        """Ask Flink's REST interface."""
        with urllib.request.urlopen(f"{self.rest}{path}", timeout=10) as answer:  # noqa: S310 - of our own
            return json.load(answer)

    def count_task_managers(self) -> int:
        """Count the TaskManagers that the JobManager knows."""
        return len(self.ask("/taskmanagers")["taskmanagers"])


def find_missing() -> str:
    """Say what a cluster lacks on this machine; empty if nothing is missing."""
    if not (java := find_java()):
        return "no Java: install a JRE 17, or set JAVA_HOME"
    if not _OLDEST_JAVA <= (found := tell_version(java)) <= _NEWEST_JAVA:
        return f"Java {found}: Flink 1.19 needs 11 to 17"
    if find_spec("pyflink") is None:
        return "no Flink: pip install -c constraints.txt '.[flink]'"
    if not find_jars().is_dir() and not shutil.which("mvn"):
        return "no Maven (mvn), which brings Beam's job service"
    return ""


@contextmanager
def run_cluster(task_managers: int = 2, slots: int = 2) -> Iterator[Cluster]:
    """Run a cluster until the block ends; whatever ends it, no process, port or file of it is left.

    Args:
        task_managers: how many.
        slots: of each: how many parts of a job it works on at a time.

    Raises:
        MeterveilError: something is missing, or a part of it does not come up; its last words are told.
    """
    if missing := find_missing():
        raise MeterveilError(missing, where="Flink")
    jars = resolve_jars()
    with TemporaryDirectory(prefix="meterveil-flink-") as name, ExitStack() as stack:
        folder = Path(name)
        for made in ("conf", "tmp", "log", "artifacts"):
            (folder / made).mkdir()
        rest, rpc, job, artifact, expansion = find_ports(5)
        _configure(folder / "conf", rest, rpc, slots)
        flink = sorted((Path(find_spec("pyflink").submodule_search_locations[0]) / "lib").glob("*.jar"))
        beam = sorted(jars.glob("*.jar"))
        # Workers have one Flink, and Beam's classes as if they were its own; the service hands out all that it has.
        of_cluster = [*flink, *(jar for jar in beam if not jar.name.startswith("flink-"))]
        of_service = [*beam, *(jar for jar in flink if jar.name.startswith("log4j-"))]
        processes: dict[str, subprocess.Popen[bytes]] = {}

        def start(
            title: str, heap: str, classes: Sequence[Path], main: str, *arguments: str
        ) -> subprocess.Popen[bytes]:
            processes[title] = process = _start_java(folder, title, heap, classes, main, *arguments)
            stack.callback(_end, process)
            return process

        def start_task_manager() -> subprocess.Popen[bytes]:
            title = f"taskmanager-{next(numbers)}"
            main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
            running.append(start(title, "512m", of_cluster, main, "--configDir", str(folder / "conf")))
            return running[-1]

        running: list[subprocess.Popen[bytes]] = []
        numbers = itertools.count(1)
        entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        start("jobmanager", "512m", of_cluster, entry, "--configDir", str(folder / "conf"))
        for _ in range(task_managers):
            start_task_manager()
        start(
            *("jobservice", "512m", of_service, "org.apache.beam.runners.flink.FlinkJobServerDriver"),
            *(f"--flink-master={LOOPBACK}:{rest}", f"--job-host={LOOPBACK}", f"--job-port={job}"),
            *(f"--artifact-port={artifact}", f"--expansion-port={expansion}"),
            *(f"--artifacts-dir={folder / 'artifacts'}", f"--flink-conf-dir={folder / 'conf'}"),
        )
        worker = _write_worker(folder)
        cluster = Cluster(
            *(
                folder,
                f"http://{LOOPBACK}:{rest}",
                f"{LOOPBACK}:{job}",
                str(worker),
                processes,
                running,
                start_task_manager,
            )
        )
        _await(lambda: cluster.count_task_managers() == task_managers, "TaskManagers", processes, folder)
        _await(lambda: _is_open(job), "the job service", processes, folder)
        yield cluster


def resolve_jars(pom: Path = _POM) -> Path:
    """Have Maven resolve what a ``pom.xml`` names, Beam's job service by default, once for each state of it.

    Raises:
        MeterveilError: Maven failed.
    """
    folder = find_jars(pom)
    if folder.is_dir():
        return folder
    print(f"== Resolving {pom.relative_to(ROOT)} with Maven; this takes up to a minute, once", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as draft:
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
        command = ["mvn", "-B", "-q", "-f", str(pom), goal, "-DincludeScope=runtime", f"-DoutputDirectory={draft}"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines() or ["no message"]
            raise MeterveilError(f"Maven failed: {said[0]}", where=str(pom), remedy="see that it reaches a registry")
        with suppress(OSError):  # another process was faster
            Path(draft).rename(folder)
            Path(draft).mkdir()
    return folder


def find_jars(pom: Path = _POM) -> Path:
    """Say where the jars of this state of a ``pom.xml`` are, once they are resolved."""
    return ROOT / "build" / pom.parent.name / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]


def find_java() -> str | None:
    """Find the Java that programs are run with."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")


def tell_version(java: str) -> int:
    """Tell which Java it is; 0 if it doesn't say."""
    said = subprocess.run([java, "-version"], check=False, capture_output=True, text=True).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else 0


def _is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def _configure(folder: Path, rest: int, rpc: int, slots: int) -> None:
    """Write Flink's configuration. What it says of memory, Flink's own start scripts would work out."""
    temporary = folder.parent / "tmp"
    settings: Mapping[str, str | int] = {
        "jobmanager.rpc.address": LOOPBACK,
        "jobmanager.rpc.port": rpc,
        "jobmanager.bind-host": LOOPBACK,
        "taskmanager.host": LOOPBACK,
        "taskmanager.bind-host": LOOPBACK,
        "rest.address": LOOPBACK,
        "rest.bind-address": LOOPBACK,
        "rest.port": rest,
        "io.tmp.dirs": str(temporary),
        "taskmanager.numberOfTaskSlots": slots,
        "taskmanager.cpu.cores": slots,
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.task.heap.size": "384m",
        "taskmanager.memory.framework.off-heap.size": "128m",
        # Values of megabytes pass through direct memory; with none, the TaskManager dies of them.
        "taskmanager.memory.task.off-heap.size": "768m",
        "taskmanager.memory.managed.size": "256m",
        "taskmanager.memory.network.min": "256m",
        "taskmanager.memory.network.max": "256m",
        # What is shuffled is small, by many edges: half of the default per edge would be all of that memory.
        "taskmanager.network.sort-shuffle.min-buffers": 64,
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
        # A batch job has no second chance unless it is given one.
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 3,
        # A worker that was killed is not asked again, if by then it is kept for nobody.
        "restart-strategy.fixed-delay.delay": f"{_CACHED_S + 2} s",
        "heartbeat.interval": 1000,
        "heartbeat.timeout": 8000,
        # Beam's classes are Flink's own here: a job has none to bring.
        "classloader.resolve-order": "parent-first",
        "classloader.check-leaked-classloader": "false",
    }
    (folder / "flink-conf.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
    (folder / "log4j2.properties").write_text(_LOGGING)


def _start_java(
    folder: Path, title: str, heap: str, classes: Sequence[Path], main: str, *arguments: str
) -> subprocess.Popen[bytes]:
    """Start a Java program in a session of its own, so that all that it starts can be ended with it."""
    command = [
        *(find_java() or "java", f"-Xmx{heap}", "-XX:MaxDirectMemorySize=1g", "-XX:-UsePerfData"),
        *(f"-Djava.io.tmpdir={folder / 'tmp'}", f"-Dlog4j.configurationFile={folder / 'conf' / 'log4j2.properties'}"),
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
        *("-cp", ":".join(map(str, classes)), main, *arguments),
    ]
    with (folder / "log" / f"{title}.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _write_worker(folder: Path) -> Path:
    """Write the command that starts a worker of this very program."""
    path = folder / "worker"
    path.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m pipeline.worker "$@"\n')
    path.chmod(0o700)
    return path


def _await(
    ready: Callable[[], bool], what: str, processes: Mapping[str, subprocess.Popen[bytes]], folder: Path
) -> None:
    """Wait until something is ready; end with the last words of what died meanwhile, or of all."""
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        dead = [title for title, process in processes.items() if process.poll() is not None]
        if dead:
            raise MeterveilError(f"it ended: {_last_words(folder, dead[0])}", where=dead[0])
        with suppress(OSError):
            if ready():
                return
        time.sleep(_POLL_S)
    said = "; ".join(f"{title}: {_last_words(folder, title)}" for title in processes)
    raise MeterveilError(f"not ready after {_READY_S:.0f} s ({said})", where=what)


def _last_words(folder: Path, title: str) -> str:
    lines = (folder / "log" / f"{title}.log").read_text(errors="replace").strip().splitlines()
    telling = [line for line in lines if "ERROR" in line or "Exception" in line or "Caused" in line] or lines
    return telling[-1][:300] if telling else "it said nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all of its session: asked first, made to if it does not."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_ENDED_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_on_signals() -> None:
    """Let what asks this program to end do so as Ctrl-C does, also where a shell runs it in the background."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Keep a cluster until Ctrl-C."""
    end_on_signals()
    parser = argparse.ArgumentParser(description="A Flink cluster on this machine's loopback, until Ctrl-C.")
    parser.add_argument("--task-managers", type=int, default=2, help="how many (2)")
    parser.add_argument("--slots", type=int, default=2, help="of each (2)")
    arguments = parser.parse_args(argv)
    try:
        with suppress(KeyboardInterrupt), run_cluster(arguments.task_managers, arguments.slots) as cluster:
            options = shlex.join(cluster.options(arguments.task_managers))
            print(f"Flink: {cluster.rest}\nsubmit with: {options}", flush=True)
            signal.pause()
    except MeterveilError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
