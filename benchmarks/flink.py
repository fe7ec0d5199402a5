"""The whole job on a Flink cluster of this machine, beside the same in one process: ``make bench-flink``.

Same processors, same files, same command. Results: ``benchmarks/results/flink.json``; of ten times the readings,
``flink_large.json``.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any

from benchmarks.measure import ROOT, Usage, describe_machine, generate, ingest, measure_ingest, python, run_process
from benchmarks.shapes import BUCKETS, SHAPES, write_shape
from pipeline.reading import read_part
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import plan_file
from pipeline.staging import write_frames
from transforms.buckets import default_bucket_count
from transforms.calendar import local_calendar

sys.path.append(str(ROOT / "deploy" / "flink"))

from cluster import Cluster, run_cluster
from demo import fingerprint
from jobs import Job, read_job

RESULTS = ROOT / "benchmarks" / "results"
#: Two ordinary days of quarter-hours: 20.0 million readings.
_POINTS, _DAYS, _START = 104_200, 2, date(2026, 3, 24)
_PARALLELISM = 2
#: Of a cluster: the first job also warms its virtual machines up.
_JOBS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and keep; 1 if rows differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="ten times the readings, and no other shapes of them")
    parser.add_argument("--jobs", type=int, default=_JOBS, help=f"on the cluster, one after the other ({_JOBS})")
    arguments = parser.parse_args(argv)
    points, shapes = (10 * _POINTS, ()) if arguments.large else (_POINTS, SHAPES)
    load = os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix="meterveil-bench-"))
    try:
        fleet, here = folder / "fleet", folder / "here"
        generate(fleet, points=points, days=_DAYS, start=_START)
        alone = [_measure_alone(fleet, here) for _ in range(arguments.jobs)]
        expected = fingerprint(here)
        with run_cluster() as cluster:
            jobs = [_measure_job(fleet, folder / "there", cluster) for _ in range(arguments.jobs)]
            by_shape = {shape: _measure_shape(shape, fleet, folder / shape, cluster) for shape in shapes}
        readings = alone[0]["readings"]
        results: dict[str, Any] = {
            "machine": describe_machine(),
            # Far above the count of processors: others were at work, and only processor seconds can be compared.
            "load_before_and_after": [load, os.getloadavg()[0]],
            "readings": readings,
            "parallelism": _PARALLELISM,
            "in_process": alone,
            "flink": [_tell(*job, readings) for job in jobs],
            "staged_bytes_per_reading": _measure_staging(fleet, folder, default_bucket_count(points)),
            "shares": _share(fleet, folder / "timed", jobs),
            "shapes": by_shape,
            "rows_equal": fingerprint(folder / "there") == expected,
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    (RESULTS / ("flink_large.json" if arguments.large else "flink.json")).write_text(
        json.dumps(results, indent=2) + "\n"
    )
    print(json.dumps(results, indent=2))
    return int(not results["rows_equal"])


def _measure_alone(fleet: Path, lake: Path) -> dict[str, Any]:
    shutil.rmtree(lake, ignore_errors=True)
    return measure_ingest(fleet, lake)


def _measure_job(fleet: Path, lake: Path, cluster: Cluster, *options: str, **how: Any) -> tuple[Usage, float, Job]:
    """Run a job; what the command took, processor seconds of the cluster, and what Flink says."""
    shutil.rmtree(lake, ignore_errors=True)
    before = cluster.count_cpu()
    usage = run_process(ingest(fleet, lake, *cluster.options(_PARALLELISM), *options, **how))
    return usage, cluster.count_cpu() - before, read_job(cluster)


def _measure_shape(shape: str, fleet: Path, folder: Path, cluster: Cluster) -> dict[str, Any]:
    """Run a job on a fifth of the readings in a shape, and in one process for its rows; memory is the cluster's."""
    folder.mkdir()
    write_shape(shape, fleet, folder / "readings")
    how: dict[str, Any] = {"readings": [folder / "readings" / "*"]}
    options = ("--buckets", str(BUCKETS))
    before = cluster.count_memory()
    with watch_peak(cluster.count_memory) as peak:
        _, _, job = _measure_job(fleet, folder / "there", cluster, *options, **how)
    alone = measure_ingest(fleet, folder / "here", *options, **how)
    return {
        "readings": alone["readings"],
        "job": job.seconds,
        "phases": dict(job.phases),
        "shuffled_bytes": job.shuffled,
        "bytes_idle_and_peak": [before, peak[0]],
        "in_process": alone["wall"],
        "rows_equal": fingerprint(folder / "there") == fingerprint(folder / "here"),
    }


@contextmanager
def watch_peak(count: Callable[[], int]) -> Iterator[list[int]]:
    """Look several times a second how much there is; gives a list of one number, the most that was seen."""
    peak, done = [count()], Event()

    def watch() -> None:
        while not done.wait(0.2):
            peak[0] = max(peak[0], count())

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield peak
        finally:
            done.set()
            watching.result()


def _tell(usage: Usage, cpu: float, job: Job, readings: int) -> dict[str, Any]:
    return {
        "wall": usage.wall,
        "cpu": usage.cpu + cpu,
        "job": job.seconds,
        "phases": dict(job.phases),
        "shuffled_bytes": job.shuffled,
        "shuffled_bytes_per_reading": job.shuffled / readings,
    }


def _share(fleet: Path, lake: Path, jobs: Sequence[tuple[Usage, float, Job]]) -> dict[str, float]:
    """Tell the processor seconds of a job by step: meterveil's own, as in one process, and the engine's."""
    command = ingest(fleet, lake)
    steps = json.loads(run_process(python("benchmarks.shares", *command[2:])).output)
    whole = median(usage.cpu + cpu for usage, cpu, _ in jobs)
    return {**steps, "engine and network": whole - sum(steps.values())}


def _measure_staging(fleet: Path, folder: Path, buckets: int) -> float:
    """Read one file as a worker does, and tell the bytes of the frames of a reading."""
    [split, *_] = plan_file(str(min((fleet / "readings").iterdir())), ReadOptions())
    part = read_part(split, ReadOptions(), local_calendar("Europe/Helsinki"), buckets)
    staged = sum(ref.length for _, ref in write_frames(folder / "staged", part.frames))
    return staged / part.totals.count("delivered")


if __name__ == "__main__":
    sys.exit(main())
