"""``meterveil generate``: fleets to try things with."""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any


def describe(commands: Any) -> None:
    """Describe the command and its options."""
    command = commands.add_parser("generate", help="make a realistic fleet, with the truth beside it")
    command.add_argument("--points", type=int, default=10_000, help="metering points (default 10000)")
    command.add_argument("--days", type=int, default=2, help="local days (default 2)")
    command.add_argument("--start", type=date.fromisoformat, default=date(2026, 3, 28), help="first day (2026-03-28)")
    command.add_argument("--seed", type=int, default=7, help="the same seed gives the same fleet (default 7)")
    command.add_argument("--out", type=Path, required=True, help="folder for readings/, reference/ and truth.json")
    command.add_argument(
        "--hourly-share", type=float, default=0.28, help="share of points that still deliver hours (0.28)"
    )
    command.add_argument("--format", default="avro-series", help="avro-series, avro-readings, parquet, … (avro-series)")
    command.add_argument("--faults", default="none", help="all, none, or names joined by commas (default none)")
    command.add_argument("--file-faults", default="none", help="whole bad files: all, none or names (default none)")
    command.add_argument("--feeds", default="none", help="registers as well: all, none or names (default none)")
    command.set_defaults(run=_generate, parser=command)


def _generate(arguments: argparse.Namespace) -> None:
    from pipeline.fleet.generate import generate_fleet
    from pipeline.fleet.options import FILE_FAULTS, ROW_FAULTS, FleetOptions
    from schemas.registers import REGISTERS

    def names(text: str, every: Any) -> frozenset[str]:
        return frozenset(every) if text == "all" else frozenset(() if text == "none" else text.split(","))

    options = FleetOptions(
        points=arguments.points,
        days=arguments.days,
        start=arguments.start,
        seed=arguments.seed,
        hourly_share=arguments.hourly_share,
        format=arguments.format,
        faults=names(arguments.faults, ROW_FAULTS),
        file_faults=names(arguments.file_faults, FILE_FAULTS),
        feeds=names(arguments.feeds, REGISTERS),
    )
    truth = generate_fleet(options, arguments.out)
    figures = json.loads(truth.read_text(encoding="utf-8"))
    readings = f"{figures['readings_delivered']:,}"
    print(f"{readings} readings of {arguments.points:,} points in {arguments.out}, the truth in {truth}")
