"""Whether memory grows with the length of the input: ``python -m benchmarks.month``.

One run over thirty days of half a million points, and one over the first of these days, with the whole policy. The
month needs some 30 GB of disk, which is looked for first.
"""

import argparse
import shutil
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import generate, list_days, measure_ingest
from benchmarks.report import compare_two, open_console, take_turns, work_folder, write_results
from pipeline.fleet.options import HOURLY_SHARE

START = date(2026, 4, 1)
TARGET = 1.2
#: What the input, the staged frames and the lake take, generously.
_BYTES_PER_READING = 25


def main() -> None:
    """Measure a day and a month and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=500_000, help="metering points (500000)")
    parser.add_argument("--days", type=int, default=30, help="days of the longer run (30)")
    parser.add_argument("--hourly-share", type=float, default=HOURLY_SHARE, help=f"as of generate ({HOURLY_SHARE})")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    arguments = parser.parse_args()
    console = open_console()
    with work_folder(arguments.work) as work:
        needed = arguments.points * arguments.days * 96 * _BYTES_PER_READING
        if shutil.disk_usage(work).free < needed:
            raise SystemExit(f"{work} needs {needed / 1e9:,.0f} GB of disk: choose another --work, or fewer points")
        source = work / "fleet"
        console.print(f"making {arguments.days} days of {arguments.points:,} points")
        generate(
            source,
            points=arguments.points,
            days=arguments.days,
            start=START,
            hourly_share=arguments.hourly_share,
        )
        days = list_days(source)
        lengths = {"1 day": days[:1], f"{len(days)} days": days}
        runs = take_turns(1, {name: partial(_measure, source, part) for name, part in lengths.items()}, console)
    results = compare_two("one run over", "peak_bytes", runs, TARGET)
    write_results("month", {"points": arguments.points, **results})


def _measure(source: Path, readings: list[Path], _turn: int) -> dict[str, Any]:
    run = measure_ingest(source, source / "lake", readings=readings)
    shutil.rmtree(source / "lake")
    return run


if __name__ == "__main__":
    main()
