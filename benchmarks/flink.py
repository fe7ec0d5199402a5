"""The whole job on a Flink cluster of this machine, beside the same in one process: ``make bench-flink``.

Same processors, same files, same command. Results: ``benchmarks/results/flink.json``.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Usage, describe_machine, generate, ingest, measure_ingest, run_process
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

RESULTS = ROOT / "benchmarks" / "results" / "flink.json"
#: Two ordinary days of quarter-hours: 20.0 million readings.
_POINTS, _DAYS, _START = 104_200, 2, date(2026, 3, 24)
_PARALLELISM = 2
_BUCKETS = default_bucket_count(_POINTS)
#: Of a cluster: the first job also warms its virtual machines up.
_JOBS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and keep; 1 if rows differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=_POINTS, help=f"of the fleet ({_POINTS:,})")
    parser.add_argument("--jobs", type=int, default=_JOBS, help=f"on the cluster, one after the other ({_JOBS})")
    arguments = parser.parse_args(argv)
    load = os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix="meterveil-bench-"))
    try:
        fleet, here = folder / "fleet", folder / "here"
        generate(fleet, points=arguments.points, days=_DAYS, start=_START)
        alone = [_measure_alone(fleet, here) for _ in range(arguments.jobs)]
        expected = fingerprint(here)
        with run_cluster() as cluster:
            jobs = [_measure_job(fleet, folder / "there", cluster) for _ in range(arguments.jobs)]
        readings = alone[0]["readings"]
        results: dict[str, Any] = {
            "machine": describe_machine(),
            # Far above the count of processors: others were at work, and only processor seconds can be compared.
            "load_before_and_after": [load, os.getloadavg()[0]],
            "readings": readings,
            "parallelism": _PARALLELISM,
            "in_process": alone,
            "flink": [_tell(*job, readings) for job in jobs],
            "staged_bytes_per_reading": _measure_staging(fleet, folder),
            "rows_equal": fingerprint(folder / "there") == expected,
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    return int(not results["rows_equal"])


def _measure_alone(fleet: Path, lake: Path) -> dict[str, Any]:
    shutil.rmtree(lake, ignore_errors=True)
    return measure_ingest(fleet, lake)


def _measure_job(fleet: Path, lake: Path, cluster: Cluster) -> tuple[Usage, float, Job]:
    """Run a job; what the command took, processor seconds of the cluster, and what Flink says."""
    shutil.rmtree(lake, ignore_errors=True)
    before = cluster.count_cpu()
    usage = run_process(ingest(fleet, lake, *cluster.options(_PARALLELISM)))
    return usage, cluster.count_cpu() - before, read_job(cluster)


def _tell(usage: Usage, cpu: float, job: Job, readings: int) -> dict[str, Any]:
    return {
        "wall": usage.wall,
        "cpu": usage.cpu + cpu,
        "job": job.seconds,
        "phases": dict(job.phases),
        "shuffled_bytes": job.shuffled,
        "shuffled_bytes_per_reading": job.shuffled / readings,
    }


def _measure_staging(fleet: Path, folder: Path) -> float:
    """Read one file as a worker does, and tell the bytes of the frames of a reading."""
    [split, *_] = plan_file(str(min((fleet / "readings").iterdir())), ReadOptions())
    part = read_part(split, ReadOptions(), local_calendar("Europe/Helsinki"), _BUCKETS)
    staged = sum(ref.length for _, ref in write_frames(folder / "staged", part.frames))
    return staged / part.totals.count("delivered")


if __name__ == "__main__":
    sys.exit(main())
