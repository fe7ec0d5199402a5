"""What a command takes before it works: ``python -m benchmarks.startup``.

Help, a query and an ingestion, each on so little that what is measured is the start: imports, the policy, the tables'
metadata. Rounds take turns. The result goes into ``results/latest.json``, under ``startup``.
"""

import argparse
from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import generate, ingest, meterveil, run_process
from benchmarks.report import open_console, start_table, take_median, take_turns, work_folder, write_part

DAY = date(2026, 3, 24)
POINTS, ROUNDS = 120, 5
COMMANDS = ("help", "query", "ingest")
SQL = "SELECT local_date, sum(energy) FROM analytics.daily GROUP BY local_date"


def main() -> None:
    """Measure every command and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    arguments = parser.parse_args()
    console = open_console()
    with work_folder(arguments.work) as work:
        generate(work, points=POINTS, days=1, start=DAY)
        run_process(ingest(work, work / "lake"))
        runs = take_turns(ROUNDS, {name: partial(_measure, work, name) for name in COMMANDS}, console)
    table = start_table(f"starting, medians of {ROUNDS}", "command", "seconds", "CPU s", "peak MB")
    medians = {name: _take_medians(of) for name, of in runs.items()}
    for name, of in medians.items():
        table.add_row(name, f"{of['wall']:.2f}", f"{of['cpu']:.2f}", f"{of['peak_bytes'] / 1e6:,.0f}")
    console.print(table)
    write_part("latest", "startup", {"points": POINTS, "medians": medians, "runs": runs})


def _measure(work: Path, name: str, turn: int) -> dict[str, Any]:
    commands = {
        "help": meterveil("--help"),
        "query": meterveil("query", "--lake", work / "lake", "--role", "analyst", "--purpose", "load_research", SQL),
        "ingest": ingest(work, work / f"lake-{turn}"),  # a lake that knows these readings would not read them
    }
    return run_process(commands[name]).tell()


def _take_medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return {figure: take_median(runs, figure) for figure in runs[0]}


if __name__ == "__main__":
    main()
