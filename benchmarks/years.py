"""Whether a lake grows slower with its age: ``python -m benchmarks.years``.

A year of weekly runs over 200,000 points, with the whole policy. A week is one local day here, so that a year takes
minutes; each run brings the newest day, and corrections of every hundredth point in each of the five days before it.
Every fourth run is followed by housekeeping. Told are seconds, files and bytes of each run, how long it takes to list a
table's current files, and one customer's month, asked for in a running process.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from rich.console import Console

from benchmarks.measure import count_bytes, generate, list_days, measure_ingest, meterveil, run_process
from benchmarks.report import open_console, start_table, work_folder, write_results
from pipeline.access import User
from pipeline.lake import Lake, open_lake
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.query import run_query

START = date(2026, 1, 5)
RUNS, BACK = 52, 5
CORRECTED_ONE_IN = 100
#: Runs between two times of housekeeping.
HOUSEKEEPING = 4
TARGET, TARGET_MS = 1.15, 100
MONTH = """
SELECT local_date, sum(energy) AS kwh FROM operational.readings
WHERE metering_point_id = '{point}' AND local_date >= '{first}' AND local_date < '{last}' GROUP BY 1 ORDER BY 1
"""


def main() -> None:
    """Play the year and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=200_000, help="metering points (200000)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"weekly runs ({RUNS})")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    arguments = parser.parse_args()
    console = open_console()
    with work_folder(arguments.work) as work:
        source, policy = work / "fleet", _open_to_all(work / "policy.yaml")
        console.print(f"making {arguments.runs} days of {arguments.points:,} points")
        generate(source, points=arguments.points, days=arguments.runs, start=START, hourly_share=0.28)
        days = [sorted((source / "readings").glob(day.name)) for day in list_days(source)]
        runs = []
        for number, files in enumerate(days):
            readings = [
                *files,
                *(_correct(days[back], number, back, work) for back in range(max(0, number - BACK), number)),
            ]
            options = ("--policy", policy, *(() if number else ("--buckets", "2")))
            usage = measure_ingest(source, work / "lake", *options, readings=readings, reference=not number)
            if number % HOUSEKEEPING == HOUSEKEEPING - 1:
                run_process(meterveil("maintain", "--lake", work / "lake", "--yes"))
            runs.append({**usage, **_look(work / "lake")})
            console.print(f"run {number + 1}: {usage['wall']:.2f} s, lists files in {runs[-1]['plan_ms']:.1f} ms")
        month = _ask_for_months(open_lake(work / "lake"), policy, days[-1][0], arguments.runs)
    write_results("years", {"points": arguments.points, "runs": runs, **_judge(runs), "month_ms": month})
    _print(runs, month, console)


def _open_to_all(path: Path) -> Path:
    """Write the default policy with every role granted to whoever runs this."""
    policy = yaml.safe_load(DEFAULT_POLICY.read_text())
    policy["grants"] = {"*": sorted(policy["roles"])}
    path.write_text(yaml.safe_dump(policy, sort_keys=False))
    return path


def _correct(files: Sequence[Path], number: int, back: int, work: Path) -> Path:
    """Deliver some points of a day again, with more energy, registered as long after as this run is."""
    parts = []
    for path in files:
        table = (
            pq.read_table(path, read_dictionary=["metering_point_id", "product"]).unify_dictionaries().combine_chunks()
        )
        [ids] = table["metering_point_id"].chunks
        chosen = pa.array(ids.indices.to_numpy() % CORRECTED_ONE_IN == number % CORRECTED_ONE_IN)
        some = table.filter(chosen)
        later = pc.add(some["registered_at"], pa.scalar(timedelta(days=7 * (number - back)), pa.duration("us")))
        for name, values in (("energy", pc.add(some["energy"], 1000)), ("registered_at", later)):
            index = some.schema.get_field_index(name)
            some = some.set_column(index, some.schema.field(index), values)
        parts.append(some)
    out = work / "corrections" / f"{number:02d}-{back:02d}.parquet"
    out.parent.mkdir(exist_ok=True)
    pq.write_table(pa.concat_tables(parts), out, compression="zstd")
    return out


def _look(path: Path) -> dict[str, Any]:
    """See what a lake is made of by now, and how long it takes to list the files of its largest table."""
    lake = open_lake(path)
    times = [_time(lambda: lake.state("operational.readings").files()) for _ in range(5)]
    files = [file for file in path.rglob("*") if file.is_file()]
    kinds = {"data": ".parquet", "manifests": ".avro", "metadata": ".metadata.json"}
    counts = {f"{kind}_files": sum(file.name.endswith(end) for file in files) for kind, end in kinds.items()}
    return {**counts, "files": len(files), "bytes": count_bytes(path), "plan_ms": median(times) * 1e3}


def _ask_for_months(lake: Lake, policy: Path, day: Path, days: int) -> list[float]:
    """Ask for the last thirty days of some customers' points, one after the other, in this process: ms of each."""
    plan = load_policy(policy)
    points = pc.unique(pq.read_table(day, columns=["metering_point_id"])["metering_point_id"]).to_pylist()
    last = START + timedelta(days=days)
    user = User("benchmark", frozenset())
    taken = []
    for point in points[:: max(1, len(points) // 9)][:9]:
        sql = MONTH.format(point=point, first=last - timedelta(days=30), last=last)
        taken.append(_time(lambda sql=sql: run_query(lake, plan, "metering_operations", "metering", sql, user)) * 1e3)
    return taken


def _time(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _judge(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Compare the last runs with those around the tenth: medians of five, since one alone is noise."""
    tenth, last = (median(run["wall"] for run in some) for some in (runs[8:13], runs[-5:]))
    return {"tenth": tenth, "last": last, "ratio": last / tenth, "target": TARGET}


def _print(runs: Sequence[Mapping[str, Any]], month: Sequence[float], console: Console) -> None:
    table = start_table(
        "weekly runs", "run", "readings", "seconds", "peak MB", "data files", "files", "MB", "lists files ms"
    )
    for number, run in enumerate(runs, start=1):
        if number <= BACK + 1 or number % 5 == 0 or number == len(runs):
            table.add_row(
                str(number),
                f"{run['readings']:,}",
                f"{run['wall']:.2f}",
                f"{run['peak_bytes'] / 1e6:,.0f}",
                f"{run['data_files']:,}",
                f"{run['files']:,}",
                f"{run['bytes'] / 1e6:,.0f}",
                f"{run['plan_ms']:.1f}",
            )
    console.print(table)
    judged = _judge(runs)
    console.print(
        f"the last runs over those around the tenth: {judged['ratio']:.2f} (target: at most {TARGET})\n"
        f"one customer's month: {median(month):.0f} ms, at most {max(month):.0f} ms (target: under {TARGET_MS} ms)"
    )


if __name__ == "__main__":
    main()
