"""The national day: one day of every metering point of Finland, ``python -m benchmarks.national [--points 3900000]``.

Smaller fleets go first, so that a table shows how cost and memory grow. Each fleet is generated (quarter-hours only,
without faults), ingested by the real command with each of two policies, compared with the truth that the generator
counted, and deleted. The largest needs some 10 GB of disk.
"""

import argparse
import json
import shutil
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measure import count_bytes, generate, ingest, python, run_process
from benchmarks.report import open_console, start_table, work_folder, write_results
from benchmarks.run import POLICY
from pipeline.policy_file import DEFAULT_POLICY
from pipeline.totals import Totals, check_conservation

#: An ordinary day of 24 hours: 96 readings a point.
DAY = date(2026, 3, 24)
#: 2.4, 20 and 200 M readings; the whole country has 374.4 M.
SCALING = (25_000, 208_334, 2_083_334)
POLICIES = {"whole policy": DEFAULT_POLICY, "two datasets": POLICY}


def main() -> None:
    """Measure every size and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=3_900_000, help="metering points of the largest fleet (3900000)")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="keep the fleets, in --work, and use those that are there")
    arguments = parser.parse_args()
    if arguments.keep and not arguments.work:
        parser.error("--keep needs --work")
    console = open_console()
    sizes = [*(points for points in SCALING if points < arguments.points), arguments.points]
    measured = []
    with nullcontext(arguments.work) if arguments.keep else work_folder(arguments.work) as work:
        for points in sizes:
            source = work / f"fleet-{points}"
            measured.append(_measure_day(points, source, work, console))
            if not arguments.keep:
                shutil.rmtree(source)
    write_results("national", {"days": measured})
    _print(measured, console)


def _measure_day(points: int, source: Path, work: Path, console: Console) -> dict[str, Any]:
    """Generate the day of one fleet, and ingest and check it with each policy."""
    generated = None
    if not (source / "truth.json").exists():
        console.print(f"{points:,} points: generating into {source}")
        generated = generate(source, points=points, days=1, start=DAY).tell()
    truth = json.loads((source / "truth.json").read_text())
    assert truth["readings_delivered"] == points * 96
    ingested = {}
    for name, policy in POLICIES.items():
        console.print(f"{points:,} points: ingesting, {name}")
        lake = work / "lake"
        usage = run_process(ingest(source, lake, "--policy", policy))
        record = json.loads(lake.with_suffix(".json").read_text())
        _check(Totals(**record["totals"]), truth)
        buckets = json.loads((lake / "meterveil.json").read_text())["bucket_count"]
        rows = {table: told["rows"] for table, told in record["tables"].items()}
        ingested[name] = {**usage.tell(), "bytes_out": count_bytes(lake), "buckets": buckets, "rows": rows}
        shutil.rmtree(lake)
    snapshot = run_process(python("benchmarks.snapshot", source / "reference", work / "snapshot", str(buckets)))
    shutil.rmtree(work / "snapshot")
    return {
        "points": points,
        "readings": truth["readings_delivered"],
        "bytes_in": count_bytes(source / "readings"),
        "generate": generated,
        "snapshot": snapshot.tell(),
        "ingest": ingested,
        "energy_mwh": truth["energy_final_mwh"],
        "conserved": True,
    }


def _check(totals: Totals, truth: dict[str, Any]) -> None:
    """Check both sides of the conservation rule again, and the ends against the truth of the generator."""
    check_conservation(totals)
    assert totals.count("delivered") == truth["readings_delivered"]
    assert totals.energy("delivered") == truth["energy_delivered_mwh"]
    assert totals.count("after") == truth["rows_final"]
    assert totals.energy("after") == truth["energy_final_mwh"]


def _print(measured: list[dict[str, Any]], console: Console) -> None:
    figures = ("wall s", "CPU s", "ns a reading", "M readings/s", "peak MB", "MB out")
    table = start_table("one day of quarter-hours", "what", "points", "readings", *figures)
    for day in measured:
        count = day["readings"]
        steps = {"generate": day["generate"], "reference snapshot": day["snapshot"], **day["ingest"]}
        for name, told in steps.items():
            if told:
                table.add_row(
                    name,
                    f"{day['points']:,}",
                    f"{count:,}",
                    f"{told['wall']:.1f}",
                    f"{told['cpu']:.1f}",
                    f"{told['wall'] / count * 1e9:,.0f}",
                    f"{count / told['wall'] / 1e6:.2f}",
                    f"{told['peak_bytes'] / 1e6:,.0f}",
                    f"{told['bytes_out'] / 1e6:,.0f}" if "bytes_out" in told else "",
                )
        table.add_section()
    console.print(table)
    console.print("conserved: readings and milliwatt-hours of every run are those of the generator's truth")
    console.print("the reference snapshot is measured alone; the runs have it in them")


if __name__ == "__main__":
    main()
