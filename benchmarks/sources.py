"""How fast every format is decoded, beside the obvious way: ``python -m benchmarks.sources``.

The same day of the same fleet in each format (NEM12: as many values, random), one file each, decoded on one core from
bytes to batches of series, checks and digest included. Rounds take turns; both must find the same readings and energy.
``--large`` decodes one E66 message of a gigabyte instead, for its memory. The result is in ``results/sources.json``.
"""

import argparse
import csv
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.measure import UnfinishedError, generate, python, run_process
from benchmarks.report import RESULTS, open_console, start_table, take_median, take_turns, work_folder, write_part
from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions

DAY = date(2026, 3, 24)
ROUNDS = 5
#: Metering points of the file that is decoded first, so that everything is loaded.
WARM_POINTS = 100
#: Of a message of a gigabyte.
LARGE_POINTS = 175_000
_STAMP = "20260325T050000Z"
_MAPPING = """columns: {metering_point_id: meter, start: begins, energy: kwh}
unit: kWh
resolution: PT15M
status: OK
"""


@dataclass(frozen=True)
class Format:
    """A format: of which generated one a file is made, who else reads it, readings a second that are asked of us."""

    generated: str
    other: str
    target: float | None = None
    hourly_share: float = 0
    mapped: bool = False


FORMATS = {
    "portal CSV": Format("datahub-csv", "csv", 3e6),
    "E66 XML, 96 a series": Format("datahub-xml", "lxml iterparse", 1e6),
    "E66 XML, 24 a series": Format("datahub-xml", "lxml iterparse", 1e6, hourly_share=1),
    "NEM12": Format("nem12", "nemreader", 5e6),
    "Datahub JSON": Format("datahub-json", "json", 0.5e6),
    "mapped CSV": Format("datahub-csv", "csv mapped", 3e6, mapped=True),
    "Avro, series": Format("avro-series", "fastavro"),
    "Avro, readings": Format("avro-readings", "fastavro"),
    "Parquet, series": Format("parquet-series", "pyarrow"),
    "Parquet, readings": Format("parquet", "pyarrow"),
}


def main() -> None:
    """Measure every format, or the large message, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000, help="metering points of a day (10000)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"({ROUNDS})")
    parser.add_argument("--only", help="formats whose names begin so; the results keep the others")
    parser.add_argument("--large", action="store_true", help="one E66 message of a gigabyte, for memory (3 GB of disk)")
    parser.add_argument("--packages", type=Path, help="folder with lxml and nemreader, if they are not installed")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    arguments = parser.parse_args()
    console = open_console()
    with work_folder(arguments.work) as work:
        if arguments.large:
            _measure_large(work, console)
            return
        formats = {name: one for name, one in FORMATS.items() if name.startswith(arguments.only or "")}
        found = {
            name: _measure_format(one, work / str(index), arguments, console)
            for index, (name, one) in enumerate(formats.items())
        }
    _print(found, console)
    path = RESULTS / "sources.json"
    before = json.loads(path.read_text())["formats"]["measured"] if arguments.only and path.exists() else {}
    write_part("sources", "formats", {"points": arguments.points, "measured": {**before, **found}})


def _measure_format(one: Format, work: Path, arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    console.print(f"making {one.generated}")
    warm, file = (_make(one, work / kind, points) for kind, points in (("warm", WARM_POINTS), ("", arguments.points)))
    options = ["--warm", warm]
    if one.mapped:
        (work / "mapping.yaml").write_text(_MAPPING)
        options += ["--mapping", work / "mapping.yaml"]
    others = ["--path", arguments.packages] if arguments.packages else []
    variants = {
        "meterveil": partial(_decode, file, "meterveil", options),
        one.other: partial(_decode, file, one.other, options + others),
    }
    unfinished = None
    try:
        runs = take_turns(arguments.rounds, variants, console)
        if len({(run["readings"], run["energy_mwh"]) for of in runs.values() for run in of}) != 1:
            raise SystemExit(f"{one.generated}: not the same readings and energy")
    except UnfinishedError as error:  # a package is not installed
        unfinished = error.reason
        runs = take_turns(arguments.rounds, {"meterveil": variants["meterveil"]}, console)
    readings = runs["meterveil"][0]["readings"]
    rates = {who: readings / take_median(of, "cpu") for who, of in runs.items()}
    return {
        "bytes": file.stat().st_size,
        "readings": readings,
        "rates": rates,
        "ratio": rates["meterveil"] / rates[one.other] if one.other in rates else None,
        "target": one.target,
        "unfinished": unfinished,
        "runs": runs,
    }


def _decode(file: Path, who: str, options: list[str | Path], _turn: int = 0) -> dict[str, Any]:
    usage = run_process(python("benchmarks.source_decoders", who, file, *options), timeout=1200)
    return {**json.loads(usage.output), "peak_bytes": usage.peak_bytes}


def _make(one: Format, folder: Path, points: int) -> Path:
    """Make one file of a day."""
    folder.mkdir(parents=True, exist_ok=True)
    if one.generated == "nem12":
        return _write_nem12(folder / f"values-{_STAMP}.csv", points // 3)
    generate(
        folder / "fleet",
        points=points,
        days=1,
        start=DAY,
        format=one.generated,
        hourly_share=one.hourly_share,
        faults="none",
    )
    (file,) = (folder / "fleet" / "readings").iterdir()
    return _write_mapped(file, folder / f"mapped-{_STAMP}.csv") if one.mapped else file


def _write_mapped(portal: Path, path: Path) -> Path:
    with portal.open(encoding="utf-8-sig", newline="") as file, path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["meter", "begins", "kwh"])
        for row in csv.DictReader(file, delimiter=";"):
            writer.writerow([row["MeteringPointGSRN"], row["Start Time"], row["Quantity"].replace(",", ".")])
    return path


def _write_nem12(path: Path, days: int) -> Path:
    """Write days of five-minute values, each of a meter of its own."""
    draw = random.Random(7)  # noqa: S311 - values, not secrets

    def lines() -> Iterator[str]:
        yield "100,NEM12,202603250000,MDA1,RET1"
        for day in range(days):
            values = ",".join(f"{draw.randrange(3_000) / 1000:.3f}" for _ in range(288))
            yield f"200,NM{day:08d},E1,1,E1,,METER{day:05d},kWh,5,"
            yield f"300,{DAY:%Y%m%d},{values},A,,,20260325040000,"
        yield "900"

    path.write_text("\n".join(lines()) + "\n")
    return path


def _measure_large(work: Path, console: Console) -> None:
    console.print(f"making one message of {LARGE_POINTS:,} series")
    fleet = FleetOptions(
        points=LARGE_POINTS,
        days=1,
        start=DAY,
        hourly_share=0,
        format="datahub-xml",
        faults=frozenset(),
        file_points=LARGE_POINTS,
    )
    maker = get_context("spawn").Process(target=generate_fleet, args=(fleet, work / "fleet"))
    maker.start()
    maker.join()
    (file,) = (work / "fleet" / "readings").iterdir()
    run = _decode(file, "meterveil", [])
    console.print(
        f"{file.stat().st_size / 1e9:.2f} GB, {run['readings']:,} observations: {run['cpu']:.1f} s of one core, "
        f"{run['readings'] / run['cpu'] / 1e6:.2f} M/s, {run['peak_bytes'] / 1e6:,.0f} MB at most"
    )
    write_part("sources", "large", {"bytes": file.stat().st_size, **run})


def _print(found: dict[str, dict[str, Any]], console: Console) -> None:
    table = start_table("decoding, on one core", "format", "M readings/s", "target", "the obvious way", "M/s", "ratio")
    for name, of in found.items():
        other = FORMATS[name].other
        theirs = of["rates"].get(other)
        table.add_row(
            name,
            f"{of['rates']['meterveil'] / 1e6:.2f}",
            f"{of['target'] / 1e6:g}" if of["target"] else "",
            other,
            f"{theirs / 1e6:.3f}" if theirs else "–",
            f"{of['ratio']:.1f}" if of["ratio"] else "",
        )
    console.print(table)
    for name, of in found.items():
        if of["unfinished"]:
            console.print(f"{name}, {FORMATS[name].other}: {of['unfinished']}")


if __name__ == "__main__":
    main()
