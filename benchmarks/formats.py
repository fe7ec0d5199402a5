"""What Avro costs beside Parquet: ``python -m benchmarks.formats``.

The same readings, once as Avro records of a series each, once as Parquet rows of a reading each, through the whole job
with the policy of two datasets. Rounds take turns.
"""

import argparse
import shutil
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import generate, measure_ingest
from benchmarks.report import compare_two, open_console, take_turns, work_folder, write_results
from benchmarks.run import POLICY

DAY = date(2026, 3, 24)
FORMATS = ("parquet", "avro-series")
ROUNDS = 3
TARGET = 1.3


def main() -> None:
    """Measure both formats and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--points", type=int, default=250_000, help="metering points, of which one day is read (250000)"
    )
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    arguments = parser.parse_args()
    console = open_console()
    with work_folder(arguments.work) as work:
        for name in FORMATS:
            console.print(f"making a day of {arguments.points:,} points, {name}")
            generate(work / name, points=arguments.points, days=1, start=DAY, format=name)
        runs = take_turns(ROUNDS, {name: partial(_measure, work / name) for name in FORMATS}, console)
    assert len({(run["readings"], run["energy_mwh"]) for of in runs.values() for run in of}) == 1
    write_results("formats", compare_two("the whole job, read from", "wall", runs, TARGET))


def _measure(source: Path, _turn: int) -> dict[str, Any]:
    run = measure_ingest(source, source / "lake", "--policy", POLICY)
    shutil.rmtree(source / "lake")
    return run


if __name__ == "__main__":
    main()
