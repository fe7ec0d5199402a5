"""The national day: one day of every metering point of Finland, ``python -m benchmarks.national [--points 3900000]``.

Smaller fleets go first, so that a table shows how cost and memory grow. Each fleet is generated (readings and
reference, no faults), ingested by the real command with the whole policy, compared with the truth that the generator
counted, and deleted. The largest needs some 5 GB of disk.
"""

import argparse
import json
import shutil
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Usage, count_bytes, describe_machine, ingest, meterveil, python, run_process
from benchmarks.run import RESULTS, open_console, work_folder
from pipeline.totals import Totals, check_conservation

#: An ordinary day of 24 hours.
DAY = date(2026, 3, 24)
#: About 2, 20 and 200 M readings.
SCALING = (25_000, 250_000, 2_500_000)


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
            measured.append(_measure_day(points, work, console))
            shutil.rmtree(work / f"lake-{points}")
            if not arguments.keep:
                shutil.rmtree(work / f"fleet-{points}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "national.json").write_text(json.dumps({"days": measured, **describe_machine()}, indent=1) + "\n")
    _print(measured, console)


def _measure_day(points: int, work: Path, console: Console) -> dict[str, Any]:
    """Generate, ingest and check the day of one fleet."""
    source, lake, scratch = (work / f"{name}-{points}" for name in ("fleet", "lake", "snapshot"))
    generated = None
    if not (source / "truth.json").exists():
        console.print(f"{points:,} points: generating into {source}")
        options = ("--points", str(points), "--days", "1", "--start", str(DAY), "--format", "parquet")
        generated = run_process(meterveil("generate", *options, "--out", source))
        keys = ("--keyset", source / "keyset.json", "--kek", source / "kek.bin")
        run_process(meterveil("keys", "create", *keys))
    console.print(f"{points:,} points: ingesting into {lake}")
    ingested = run_process(ingest(source, lake))
    record = json.loads(lake.with_suffix(".json").read_text())
    truth = json.loads((source / "truth.json").read_text())
    buckets = json.loads((lake / "meterveil.json").read_text())["bucket_count"]
    snapshot = run_process(python("benchmarks.snapshot", source / "reference", scratch, str(buckets)))
    shutil.rmtree(scratch)
    return {
        "points": points,
        "readings": truth["readings_delivered"],
        "buckets": buckets,
        "generate": generated and _tell(generated),
        "snapshot": _tell(snapshot),
        "ingest": _tell(ingested),
        "bytes_in": count_bytes(source / "readings"),
        "bytes_out": count_bytes(lake),
        "rows": {name: table["rows"] for name, table in record["tables"].items()},
        "conservation": _check(Totals(**record["totals"]), truth),
    }


def _tell(usage: Usage) -> dict[str, float]:
    return {"wall": usage.wall, "cpu": usage.cpu, "peak_bytes": usage.peak_bytes}


def _check(totals: Totals, truth: dict[str, Any]) -> str:
    """Check both sides of the conservation rule again, and the ends against the truth of the generator."""
    check_conservation(totals)
    assert totals.count("delivered") == truth["readings_delivered"]
    assert totals.energy("delivered") == truth["energy_delivered_mwh"]
    assert totals.count("after") == truth["rows_final"]
    assert totals.energy("after") == truth["energy_final_mwh"]
    return f"{totals.count('after')} readings and {totals.energy('after')} mWh in the tables, as in the truth"


def _print(measured: list[dict[str, Any]], console: Console) -> None:
    table = Table(title="one day, every table of the policy")
    names = (
        "points",
        "readings",
        "buckets",
        "generated, M/s",
        "snapshot s",
        "wall s",
        "ns a reading",
        "CPU s",
        "peak MB",
    )
    for name in (*names, "MB in", "MB out"):
        table.add_column(name, justify="right")
    for day in measured:
        of_ingest, generated = day["ingest"], day["generate"]
        table.add_row(
            f"{day['points']:,}",
            f"{day['readings']:,}",
            str(day["buckets"]),
            f"{day['readings'] / generated['wall'] / 1e6:.1f}" if generated else "",
            f"{day['snapshot']['wall']:.1f}",
            f"{of_ingest['wall']:.1f}",
            f"{of_ingest['wall'] / day['readings'] * 1e9:,.0f}",
            f"{of_ingest['cpu']:.1f}",
            f"{of_ingest['peak_bytes'] / 1e6:,.0f}",
            f"{day['bytes_in'] / 1e6:,.0f}",
            f"{day['bytes_out'] / 1e6:,.0f}",
        )
    console.print(table)
    console.print(f"conservation: {measured[-1]['conservation']}")
    console.print("snapshot s is measured alone; wall s has it in it")


if __name__ == "__main__":
    main()
