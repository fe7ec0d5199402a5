import sys
import time
from itertools import chain

import pytest

from benchmarks.measure import UnfinishedError, list_days, run_process
from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions

SLEEPING_CHILD = "import subprocess; subprocess.run(['sleep', '60'])"


def run_python(text, timeout=None):
    return run_process([sys.executable, "-c", text], timeout)


def test_what_a_process_took_is_told():
    usage = run_python("x = bytearray(100_000_000); print('done')")
    assert usage.output == "done\n"
    assert usage.peak_bytes > 100_000_000
    assert 0 < usage.cpu < usage.wall * 64
    assert usage.tell() == {"wall": usage.wall, "cpu": usage.cpu, "peak_bytes": usage.peak_bytes}


def test_a_process_without_end_is_ended_with_its_children():
    started = time.perf_counter()
    with pytest.raises(UnfinishedError) as unfinished:
        run_python(SLEEPING_CHILD, timeout=0.5)  # a child that lived on would keep the pipe open
    assert unfinished.value.reason == "no end within 0.5 s"
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ValueError('too little')", "failed: ValueError: too little"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL after 0 s"),
        ("raise SystemExit(3)", "failed: no message"),
    ],
)
def test_a_failure_says_why(text, reason):
    with pytest.raises(UnfinishedError) as unfinished:
        run_python(text, timeout=60)
    assert unfinished.value.reason == reason


def test_the_days_of_a_fleet_are_found_in_order(tmp_path):
    options = FleetOptions(points=30, days=3, format="parquet", faults=frozenset(), file_points=10)
    generate_fleet(options, tmp_path)
    days = [sorted(pattern.parent.glob(pattern.name)) for pattern in list_days(tmp_path)]
    assert [len(files) for files in days] == [3, 3, 3]
    assert list(chain.from_iterable(days)) == sorted((tmp_path / "readings").iterdir())
