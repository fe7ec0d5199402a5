"""``meterveil inspect``: what files hold, before they are ingested."""

import argparse
import json
from typing import Any

from rich.console import Console

from pipeline.commands.shared import add_json, as_place, print_rows
from pipeline.errors import MeterveilError


def describe(commands: Any) -> None:
    """Describe the command and its options."""
    command = commands.add_parser(
        "inspect",
        help="say what files hold, and what ingest would do with them",
        description="Looks at readings of any format, or at reference feeds (sites.*, contracts.*, customers.*), and "
        "writes nothing. Identifiers are counted, and shown only where asked for.",
        epilog="Exit code 0: every file was looked at, whatever was found in it. 1: a file is not there, or an option "
        "is wrong. 2: wrong usage.",
    )
    command.add_argument("files", nargs="+", metavar="FILE", help="files of readings, or reference feeds")
    command.add_argument("--identifiers", action="store_true", help="also list the metering points")
    command.add_argument("--format", help="format of the readings (default: found from the content)")
    command.add_argument("--mapping", type=as_place, help="mapping file of a delimited format")
    command.add_argument("--registered-at", metavar="TIME", help="where a format has none: a time, now, or file-name")
    command.add_argument("--metering-point", metavar="ID", help="id for files whose id column is blank or 0")
    command.add_argument("--time-zone", default="Europe/Helsinki", help="whose local days to count (Europe/Helsinki)")
    add_json(command)
    command.set_defaults(run=_inspect, parser=command)


def _inspect(arguments: argparse.Namespace) -> None:
    from zoneinfo import ZoneInfoNotFoundError

    from pipeline.inspection import inspect_file
    from pipeline.sources.base import ReadOptions
    from transforms.calendar import local_calendar

    try:
        calendar = local_calendar(arguments.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise MeterveilError("there is no such zone", where="--time-zone", remedy="such as Europe/Helsinki") from None
    options = ReadOptions(
        registered_at=arguments.registered_at,
        metering_point=arguments.metering_point,
        mapping=str(arguments.mapping) if arguments.mapping else None,
        format=arguments.format,
    )
    found = [inspect_file(path, options, calendar, identifiers=arguments.identifiers) for path in arguments.files]
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    console = Console(soft_wrap=True)
    for file in found:
        _show(file, console)


def _show(file: dict[str, Any], console: Console) -> None:
    # Names of files may hold anything, the terminal's own commands too.
    name = "".join(character if character.isprintable() else "?" for character in file["name"])
    console.print(f"{name}: {file['format'] or 'of no known format'}, {file['bytes']:,} bytes", markup=False)
    if file["problem"]:
        console.print(f"  ingest would refuse it: {file['problem']}", style="red", markup=False, highlight=False)
    for label, text in _lines(file):
        console.print(f"  {label:<13}{text}", markup=False)
    if file.get("streams"):
        print_rows(file["streams"], as_json=False)


def _lines(file: dict[str, Any]) -> list[tuple[str, str]]:
    if "rows" in file:
        checked = file["check_digits"].items()
        return [("rows", f"{file['rows']:,}"), *((name, _say_counts(verdicts)) for name, verdicts in checked)]
    readings = file["readings"]
    lines = [
        ("delivered", f"{readings['delivered']:,} readings, {file['kwh']} kWh"),
        ("accepted", f"{readings['accepted']:,}"),
    ]
    if readings["quarantined"]:
        lines.append(("quarantined", _say_counts(readings["quarantined"])))
    if "points" not in file:
        return lines
    layers = (f"{layer['product']} {layer['resolution']} {layer['readings']:,}" for layer in file["layers"])
    gaps = file["gaps"]
    return [
        *lines,
        ("points", f"{file['points']:,}; check digits: {_say_counts(file['check_digits'])}"),
        ("layers", ", ".join(layers)),
        ("span", f"{file['first']} to {file['end']}, {file['local_days']:,} local days of {file['time_zone']}"),
        ("statuses", _say_counts(file["statuses"])),
        ("gaps", f"{gaps['readings']:,} readings in {gaps['stretches']:,} stretches"),
        ("repeated", f"{file['repeated']:,} readings that the file has more than once"),
    ]


def _say_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "none"
