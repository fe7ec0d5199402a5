"""Runs a command as a process of its own and tells what it took."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

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


def run_process(command: Sequence[str]) -> Usage:
    """Run a command from the repository's root.

    This process must stay small: until a child has replaced its program, it counts its parent's memory as its own.

    Raises:
        SystemExit: the command failed; its standard error is shown.
    """
    with TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command[:4])} … failed:\n{errors.read()[-4000:]}")
    return Usage(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, output)


def python(module: str, *arguments: str | Path) -> list[str]:
    """Make the command that runs a module of ours."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def meterveil(*arguments: str | Path) -> list[str]:
    """Make a command of the real command line."""
    return [str(Path(sys.executable).parent / "meterveil"), *map(str, arguments)]


def ingest(source: Path, lake: Path, *options: str | Path) -> list[str]:
    """Make the command that ingests a folder of readings, reference and keys, the lake's run record beside it."""
    return meterveil(
        *("ingest", "--readings", source / "readings" / "*.parquet", "--reference", source / "reference"),
        *("--lake", lake, "--keyset", source / "keyset.json", "--kek", source / "kek.bin"),
        *("--run-record", lake.with_suffix(".json"), *options),
    )


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
