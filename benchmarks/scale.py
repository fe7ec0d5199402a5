"""What a day costs where nobody has measured: ``python -m benchmarks.scale``; ``--write`` keeps it in its page.

A small model. Its rates come from the two middle fleets of ``results/national.json``, so the whole country, which was
measured too, tells how well it foresees. Shuffle and storage are bytes for each reading, files follow from buckets,
and a year's listing comes from ``results/years.json``. The page is ``deploy/scale.md``.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.table_state import is_cell_dataset
from transforms.buckets import default_bucket_count

PAGE = Path(__file__).parents[1] / "deploy" / "scale.md"
#: A large supplier, Finland, a large country of the Union, every meter of several of them.
POINTS = (600_000, 3_900_000, 37_000_000, 500_000_000)
_A_DAY, _YEAR = 96, 365
#: Processors of the machine that was measured.
_MEASURED_ON = 2
#: Processors of a cluster.
MANY = 64
_HOUR_S = 3600
#: An hour of one processor with 4 GiB and a month of a gigabyte in an object store, in euros: a price list's order of
#: magnitude; put your own here.
EUR_A_CORE_HOUR, EUR_A_GB_MONTH = 0.07, 0.02
#: Between them stands the table.
BEGIN, END = "<!-- made by benchmarks/scale.py -->", "<!-- end -->"


@dataclass(frozen=True, slots=True)
class Rates:
    """What was measured.

    Attributes:
        start_s: seconds until the first reading is read, and from the last to the end.
        wall_s: seconds for each reading on the machine that was measured, both processors at work.
        memory: greatest resident bytes of the process.
        bytes_in: of the delivered files, for each reading.
        bytes_out: of all tables, for each reading.
        staged: bytes that go from reading to folding, for each reading.
        listing_s: seconds to list a file of a table.
    """

    start_s: float
    wall_s: float
    memory: int
    bytes_in: float
    bytes_out: float
    staged: float
    listing_s: float


@dataclass(frozen=True, slots=True)
class Day:
    """A day of a fleet, as foreseen.

    Attributes:
        points: metering points.
        readings: of the day.
        seconds: on the machine that was measured.
        many_seconds: on ``MANY`` such processors, in as many workers.
        gigabytes: that the day adds to the lake.
        shuffled: gigabytes from reading to folding.
        buckets: of the lake.
        files: data files of the day's cells.
        listing: seconds to list one table's year.
        euros: for processors, and to keep the day for a month.
    """

    points: int
    readings: int
    seconds: float
    many_seconds: float
    gigabytes: float
    shuffled: float
    buckets: int
    files: int
    listing: float
    euros: float


def measure_rates(national: Mapping[str, Any], years: Mapping[str, Any], flink: Mapping[str, Any]) -> Rates:
    """Take the rates from results; of the national ones without the largest fleet, which is for checking."""
    small, large = national["days"][1:3]
    before, after = (day["ingest"]["whole policy"] for day in (small, large))
    more = large["readings"] - small["readings"]
    wall = (after["wall"] - before["wall"]) / more
    first, last = years["runs"][0], years["runs"][-1]
    listed = len(years["runs"]) * default_bucket_count(years["points"])
    return Rates(
        start_s=before["wall"] - wall * small["readings"],
        wall_s=wall,
        memory=max(before["peak_bytes"], after["peak_bytes"]),
        bytes_in=large["bytes_in"] / large["readings"],
        bytes_out=after["bytes_out"] / large["readings"],
        staged=flink["staged_bytes_per_reading"],
        listing_s=(last["plan_ms"] - first["plan_ms"]) / 1e3 / listed,
    )


def foresee(points: int, rates: Rates) -> Day:
    """Foresee a day of quarter-hours."""
    readings, buckets = points * _A_DAY, default_bucket_count(points)
    datasets = [dataset for dataset in load_policy(DEFAULT_POLICY).datasets.values() if is_cell_dataset(dataset)]
    # Of a machine's processors as much is idle as on the one that was measured.
    core_s = rates.wall_s * _MEASURED_ON * readings
    gigabytes = rates.bytes_out * readings / 1e9
    return Day(
        points=points,
        readings=readings,
        seconds=rates.start_s + rates.wall_s * readings,
        many_seconds=rates.start_s + core_s / MANY,
        gigabytes=gigabytes,
        shuffled=rates.staged * readings / 1e9,
        buckets=buckets,
        files=buckets * len(datasets),
        listing=rates.listing_s * buckets * _YEAR,
        euros=core_s / _HOUR_S * EUR_A_CORE_HOUR + gigabytes * EUR_A_GB_MONTH,
    )


def read_rates() -> Rates:
    """Take the rates from the results that are kept."""
    return measure_rates(
        *(json.loads((RESULTS / f"{name}.json").read_text()) for name in ("national", "years", "flink"))
    )


def draw_table(days: list[Day]) -> str:
    """Draw days as a table of Markdown."""
    columns = {
        "points": lambda day: f"{day.points:,}",
        "readings a day": lambda day: f"{day.readings / 1e6:,.0f} M",
        "two processors": lambda day: _say(day.seconds),
        f"{MANY} processors": lambda day: _say(day.many_seconds),
        "shuffled": lambda day: f"{day.shuffled:,.1f} GB",
        "written": lambda day: f"{day.gigabytes:,.1f} GB",
        "buckets": lambda day: f"{day.buckets:,}",
        "files a day": lambda day: f"{day.files:,}",
        "a year's listing": lambda day: _say(day.listing),
        "a day's cost": lambda day: f"{day.euros:,.2f} €",
    }
    lines = [list(columns), ["---:"] * len(columns), *([tell(day) for tell in columns.values()] for day in days)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _say(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def main() -> None:
    """Print the table, or keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the table in deploy/scale.md")
    arguments = parser.parse_args()
    table = draw_table([foresee(points, read_rates()) for points in POINTS])
    if arguments.write:
        head, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n{table}{END}{rest.partition(END)[2]}")
    print(table, end="")


if __name__ == "__main__":
    main()
