"""How long a reference snapshot takes with every register, and its memory: ``python -m benchmarks.feeds``.

The snapshot of a tenth of the customers tells whether time grows as they do, and memory does not. A fleet of 500,000
customers is then generated with its readings and ingested by the real command, as a newcomer would do it.
"""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.measure import generate, measure_ingest, python, run_process
from benchmarks.report import open_console, work_folder, write_results
from schemas.registers import REGISTERS
from transforms.buckets import default_bucket_count

START = date(2026, 3, 2)
#: Seconds for 4 M customers on two cores.
TARGET = 60
#: 500,000 customers.
FLEET_POINTS = 512_500


def main() -> None:
    """Measure two sizes and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=4_100_000, help="metering points (4100000: 4 M customers)")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    arguments = parser.parse_args()
    console = open_console()
    results = {}
    for name, points in (("tenth", arguments.points // 10), ("whole", arguments.points)):
        with work_folder(arguments.work) as work:
            results[name] = _measure(work, points)
        console.print(name, json.dumps(results[name]))
    with work_folder(arguments.work) as work:
        results["fleet"] = _measure_fleet(work)
    console.print("fleet", json.dumps(results["fleet"]))
    whole = results["whole"]
    console.print(f"{whole['customers']:,} customers, {whole['rows']:,} rows of registers: {whole['wall']:.1f} s")
    write_results("feeds", {"target": TARGET, **results})


def _measure(work: Path, points: int) -> dict[str, Any]:
    reference = work / "reference"
    run_process(python("benchmarks.reference", reference, str(points), str(START), "1", "all"))
    usage = run_process(python("benchmarks.snapshot", reference, work / "snapshots", str(default_bucket_count(points))))
    return {
        "customers": _count(reference, "customers"),
        "rows": sum(_count(reference, name) for name in REGISTERS),
        **usage.tell(),
    }


def _measure_fleet(work: Path) -> dict[str, Any]:
    """Generate a day of a fleet with every register, and ingest it with the whole policy."""
    generated = generate(work / "fleet", points=FLEET_POINTS, days=1, start=START, feeds="all")
    ingested = measure_ingest(work / "fleet", work / "lake")
    truth = json.loads((work / "fleet" / "truth.json").read_text())
    assert ingested["readings"] == truth["readings_delivered"]
    assert ingested["energy_mwh"] == truth["energy_delivered_mwh"]
    reference = work / "fleet" / "reference"
    return {
        "customers": _count(reference, "customers"),
        "rows": sum(_count(reference, name) for name in REGISTERS),
        "generate": generated.tell(),
        "ingest": ingested,
    }


def _count(reference: Path, name: str) -> int:
    rows: int = pq.read_metadata(reference / f"{name}.parquet").num_rows
    return rows


if __name__ == "__main__":
    main()
