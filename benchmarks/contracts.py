"""Whether a run's time depends on contracts that it does not touch: ``python -m benchmarks.contracts``.

The same readings of the same points go into two lakes: one knows the contracts of these points, the other a hundred
times as many. Each lake has its reference snapshot already, from a first run of one day; both have the bucket count
that suits the larger one. Rounds take turns, each reads other days.
"""

import argparse
import json
import shutil
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.measure import generate, ingest, list_days, measure_ingest, python, run_process
from benchmarks.report import compare_two, open_console, take_turns, work_folder, write_results
from benchmarks.run import POLICY

START = date(2026, 3, 2)
ROUNDS, DAYS = 3, 5
TARGET = 1.1


def main() -> None:
    """Measure both lakes and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=40_000, help="metering points that are read (40000)")
    parser.add_argument("--known", type=int, default=4_000_000, help="metering points of the larger lake (4000000)")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    arguments = parser.parse_args()
    console = open_console()
    with work_folder(arguments.work) as work:
        few, many = work / "few", work / "many"
        days = 1 + ROUNDS * DAYS
        console.print(f"making {days} days of {arguments.points:,} points, and the contracts of {arguments.known:,}")
        generate(few, points=arguments.points, days=days, start=START)
        run_process(python("benchmarks.reference", many / "reference", str(arguments.known), str(START), str(days)))
        for name in ("keyset.json", "kek.bin"):
            shutil.copy2(few / name, many / name)
        names = {source: f"{_count_contracts(source):,} contracts" for source in (few, many)}
        first, *later = list_days(few)
        buckets = _bring_reference(many, first)
        _bring_reference(few, first, "--buckets", str(buckets))
        runs = take_turns(ROUNDS, {name: partial(_measure, source, later) for source, name in names.items()}, console)
    results = compare_two("the same readings in a lake of", "wall", runs, TARGET)
    write_results("contracts", {"buckets": buckets, **results})


def _count_contracts(source: Path) -> int:
    count: int = pq.read_metadata(source / "reference" / "contracts.parquet").num_rows
    return count


def _bring_reference(source: Path, first: Path, *options: str) -> int:
    """Ingest the first day with the reference; the bucket count of the lake."""
    lake = source / "lake"
    run_process(ingest(source, lake, "--policy", POLICY, *options, readings=[first]))
    count: int = json.loads((lake / "meterveil.json").read_text())["bucket_count"]
    return count


def _measure(source: Path, days: list[Path], turn: int) -> dict[str, Any]:
    readings = days[turn * DAYS : (turn + 1) * DAYS]
    return measure_ingest(source, source / "lake", readings=readings, reference=False)


if __name__ == "__main__":
    main()
