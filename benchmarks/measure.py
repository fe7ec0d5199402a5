"""Runs a command as a process of its own and tells what it took."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import Any

from pipeline.totals import Totals, check_conservation

ROOT = Path(__file__).parents[1]
_PACKAGES = ("meterveil", "apache-beam", "pyarrow", "numpy", "datafusion", "duckdb", "polars", "pyspark")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and the processes that it waited for took.

    Attributes:
        wall: seconds from start to end.
        cpu: processor seconds, user and system.
        peak_bytes: greatest resident memory of any one of the processes.
        output: standard output.
    """

    wall: float
    cpu: float
    peak_bytes: int
    output: str

    def tell(self) -> dict[str, float]:
        """Return the figures as they stand in results."""
        return {"wall": self.wall, "cpu": self.cpu, "peak_bytes": self.peak_bytes}


class UnfinishedError(SystemExit):
    """A command did not end well; where nobody catches it, the benchmark ends with its standard error.

    Attributes:
        reason: why, in a few words.
    """

    def __init__(self, command: Sequence[str], reason: str, errors: str) -> None:
        super().__init__(f"{' '.join(command[:4])} …: {reason}\n{errors[-4000:]}")
        self.reason = reason


def run_process(command: Sequence[str], timeout: float | None = None) -> Usage:
    """Run a command from the repository's root.

    This process must stay small: until a child has replaced its program, it counts its parent's memory as its own.

    Args:
        command: program and arguments.
        timeout: seconds after which it is killed with all that it started; none by default.

    Raises:
        UnfinishedError: it failed, or did not end in time.
    """
    with TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        _offer_to_die_first(process.pid)
        timer = Timer(timeout or 0, _kill_session, [process.pid])
        if timeout:
            timer.start()
        try:
            assert process.stdout
            output = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            _kill_session(process.pid)
            raise
        finally:
            timer.cancel()
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            text = errors.read()
            raise UnfinishedError(command, _explain(process.returncode, wall, timeout, text), text)
    return Usage(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, output)


def _explain(code: int, wall: float, timeout: float | None, errors: str) -> str:
    if timeout and wall >= timeout:
        return f"no end within {timeout:g} s"
    if code < 0:
        return f"killed by {signal.Signals(-code).name} after {wall:,.0f} s"
    return f"failed: {(errors.strip().splitlines() or ['no message'])[-1][:200]}"


def _kill_session(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _offer_to_die_first(pid: int) -> None:
    """Where memory runs out, the system is to end what is measured, and nothing else."""
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")


def python(module: str, *arguments: str | Path) -> list[str]:
    """Make the command that runs a module of ours."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def meterveil(*arguments: str | Path) -> list[str]:
    """Make a command of the real command line."""
    return [str(Path(sys.executable).parent / "meterveil"), *map(str, arguments)]


def ingest(
    source: Path, lake: Path, *options: str | Path, readings: Sequence[Path] = (), reference: bool = True
) -> list[str]:
    """Make the command that ingests a folder of readings, reference and keys, the lake's run record beside it.

    Args:
        source: the folder.
        lake: the lake.
        options: further options.
        readings: patterns of files to read; by default all that the folder has.
        reference: whether the folder's reference is brought along; else the lake has one.
    """
    return meterveil(
        *("ingest", "--readings", *(readings or [source / "readings" / "*"]), "--lake", lake),
        *(("--reference", source / "reference") if reference else ()),
        *("--keyset", source / "keyset.json", "--kek", source / "kek.bin"),
        *("--run-record", lake.with_suffix(".json"), *options),
    )


def generate(out: Path, **options: str | float | date) -> Usage:
    """Generate a fleet of quarter-hours with the real command, without faults unless others are asked for; and keys.

    Args:
        out: folder to make.
        options: of ``meterveil generate``, instead of ``hourly_share=0`` and ``format="parquet"`` too.
    """
    options = {"hourly_share": 0, "format": "parquet", **options}
    named = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    usage = run_process(meterveil("generate", "--out", out, *named))
    create_keys(out)
    return usage


def list_days(fleet: Path) -> list[Path]:
    """List the days of a fleet without faults, in order: a pattern of the files of each."""
    files = json.loads((fleet / "truth.json").read_text())["files"]
    stamps = dict.fromkeys(file["registered_at"] for file in files)
    return [fleet / "readings" / f"readings-{stamp}-*" for stamp in stamps]


def create_keys(folder: Path) -> None:
    """Make a keyset and its key-encryption key in a folder."""
    run_process(meterveil("keys", "create", "--keyset", folder / "keyset.json", "--kek", folder / "kek.bin"))


def measure_ingest(source: Path, lake: Path, *options: str | Path, **how: Any) -> dict[str, Any]:
    """Run what ``ingest`` makes: what it took, and the readings and energy that its run record says it took in."""
    usage = run_process(ingest(source, lake, *options, **how))
    totals = Totals(**json.loads(lake.with_suffix(".json").read_text())["totals"])
    check_conservation(totals)
    return {**usage.tell(), "readings": totals.count("delivered"), "energy_mwh": totals.energy("delivered")}


def count_bytes(*folders: Path) -> int:
    """Add up the files in folders."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def describe_machine() -> dict[str, Any]:
    """Say what a figure depends on: when, on what, with which versions."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "processor": _name_processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _find_version(name))},
    }


def _name_processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
