"""A realistic night, and a heavy one: ``python -m benchmarks.night``.

The lake holds the days before, which is not measured. Then:

* **start**: nothing new: what every run takes before it reads;
* **fresh**: a new day alone, which says what a fresh reading costs;
* **night**: the next day, and corrections of 3 % as many readings, spread over the eleven days before it;
* **heavy** (``--heavy``): corrections of 0.1 % of the points on each of sixty days, and a day of six years ago of some.

A correction rewrites the cells that it touches: nearly all rows of them stay as they are. What a rewritten reading
costs beside a fresh one is the night's time less that of the fresh day, over the rows rewritten; of the fresh day's
time the start is no part. Processor time says the same on a machine that others use too.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.measure import count_bytes, generate, ingest, list_days, measure_ingest, python, run_process
from benchmarks.report import open_console, start_table, work_folder, write_results
from pipeline.totals import Totals

START = date(2026, 2, 2)
CORRECTED, CORRECTED_DAYS = 0.03, 11
HEAVY_SHARE, HEAVY_DAYS, YEARS_BACK = 0.001, 60, 6
#: Seconds on two cores, and bytes of memory.
TARGETS = {"night": 240, "heavy": 900}
MEMORY_TARGET, COST_TARGET = 8 << 30, 1.3
#: Days that are made, ingested and deleted at a time, so that the input of all never lies on the disk.
_CHUNK = 10
#: What a reading takes in the lake, and while its chunk is made, generously.
_BYTES_IN_LAKE, _BYTES_AT_WORK = 10, 10


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything is.

    Attributes:
        work: the folder.
        points: metering points.
    """

    work: Path
    points: int

    @property
    def fleet(self) -> Path:
        """Reference, keys, and the readings of the chunk at hand."""
        return self.work / "fleet"

    @property
    def lake(self) -> Path:
        """The lake."""
        return self.work / "lake"


def main() -> None:
    """Build the lake, measure the nights and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=500_000, help="metering points (500000)")
    parser.add_argument("--heavy", action="store_true", help="also the heavy night, on sixty days (35 GB of disk)")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    arguments = parser.parse_args()
    console = open_console()
    history = HEAVY_DAYS if arguments.heavy else CORRECTED_DAYS
    with work_folder(arguments.work) as work:
        place = Place(work, arguments.points)
        day = arguments.points * 96
        needed = day * history * _BYTES_IN_LAKE + day * _CHUNK * _BYTES_AT_WORK
        if shutil.disk_usage(work).free < needed:
            raise SystemExit(f"{work} needs {needed / 1e9:,.0f} GB of disk: choose another --work, or fewer points")
        console.print(f"building a lake of {history} days of {arguments.points:,} points")
        for first in range(0, history, _CHUNK):
            _add_days(place, first, min(_CHUNK, history - first), history)
        # The first of these is the fresh day; it is corrected with the others when the next one comes.
        _make_days(place, history, 2, history)
        fresh_day, next_day = list_days(place.fleet)
        runs = {"fresh": _measure(place, [fresh_day])}
        runs = {"start": _measure(place, [fresh_day]), **runs}  # it was ingested before
        _correct(place, fresh_day, history, history)
        recent = [place.work / f"night-{n}.parquet" for n in range(history + 1 - CORRECTED_DAYS, history + 1)]
        runs["night"] = _measure(place, [next_day, *filter(Path.exists, recent)])
        if arguments.heavy:
            runs["heavy"] = _measure(place, sorted(place.work.glob("heavy-*.parquet")))
        lake_bytes = count_bytes(place.lake)
    results = {"points": arguments.points, "days": history, "lake_bytes": lake_bytes, **_judge(runs)}
    _print(results)
    write_results("night", results)


def _make_days(place: Place, first: int, days: int, history: int) -> None:
    """Make readings of some days; the reference, which is that of all, and the keys the first time."""
    made = place.work / "made"
    generate(made, points=place.points, days=days, start=START + timedelta(days=first), seed=7)
    if place.fleet.exists():
        shutil.rmtree(place.fleet / "readings")
        for name in ("readings", "truth.json"):
            shutil.move(made / name, place.fleet / name)
        shutil.rmtree(made)
        return
    made.rename(place.fleet)
    shutil.rmtree(place.fleet / "reference")
    arguments = (place.fleet / "reference", str(place.points), str(START), str(history + 2))
    run_process(python("benchmarks.reference", *arguments))


def _add_days(place: Place, first: int, days: int, history: int) -> None:
    _make_days(place, first, days, history)
    run_process(ingest(place.fleet, place.lake, reference=first == 0))
    for number, day in enumerate(list_days(place.fleet), start=first):
        _correct(place, day, number, history)


def _correct(place: Place, day: Path, number: int, history: int) -> None:
    """Write the corrections of a day that the nights will bring."""
    asked = {"heavy": HEAVY_SHARE}
    if number > history - CORRECTED_DAYS:
        asked["night"] = CORRECTED / CORRECTED_DAYS
    for name, share in asked.items():
        out = place.work / f"{name}-{number}.parquet"
        run_process(python("benchmarks.corrections", day, out, "--share", str(share)))
    if number == 0:
        out = place.work / "heavy-years-back.parquet"
        late = ("--share", str(HEAVY_SHARE), "--years-back", str(YEARS_BACK))
        run_process(python("benchmarks.corrections", day, out, *late))


def _measure(place: Place, readings: list[Path]) -> dict[str, Any]:
    run = measure_ingest(place.fleet, place.lake, readings=readings, reference=False)
    record = json.loads(place.lake.with_suffix(".json").read_text())
    totals = Totals(**record["totals"])
    changed = totals.count("superseded")  # each correction takes the place of one row
    return {
        **run,
        "files": sum(entry["files"] for entry in record["tables"].values()),
        "bytes": sum(entry["bytes"] for entry in record["tables"].values()),
        "cells": totals.count("cells"),
        "rewritten": totals.count("before"),
        "changed": changed,
        "rewritten_per_changed": round(totals.count("before") / changed, 1) if changed else 0,
    }


def _judge(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    start, fresh, night = (runs[name] for name in ("start", "fresh", "night"))

    def compare(what: str) -> float:
        rewritten = (night[what] - fresh[what]) / night["rewritten"]
        return round(float(rewritten / ((fresh[what] - start[what]) / fresh["readings"])), 3)

    return {
        "runs": runs,
        "rewritten_over_fresh": compare("wall"),
        "rewritten_over_fresh_cpu": compare("cpu"),
        "targets": {**TARGETS, "peak_bytes": MEMORY_TARGET, "rewritten_over_fresh": COST_TARGET},
    }


def _print(results: dict[str, Any]) -> None:
    table = start_table(
        "Nights", "run", "readings", "seconds", "CPU s", "peak MB", "cells", "files", "rewritten", "for one changed"
    )
    for name, run in results["runs"].items():
        whole = (run["cells"], run["files"], run["rewritten"])
        seconds, memory = f"{run['wall']:.1f}", f"{run['peak_bytes'] / 1e6:,.0f}"
        table.add_row(
            *(name, f"{run['readings']:,}", seconds, f"{run['cpu']:.1f}", memory),
            *(f"{number:,}" for number in whole),
            f"{run['rewritten_per_changed']:,.1f}",
        )
    console = open_console()
    console.print(table)
    cost, cpu = results["rewritten_over_fresh"], results["rewritten_over_fresh_cpu"]
    console.print(f"a rewritten reading over a fresh one: {cost:.2f}, in CPU {cpu:.2f} (target: at most {COST_TARGET})")
    for name, seconds in TARGETS.items():
        if name in results["runs"]:
            console.print(f"{name}: {results['runs'][name]['wall']:.0f} s (target: {seconds} s with 500,000 points)")


if __name__ == "__main__":
    main()
