"""``meterveil publish``: sums over areas and months of points, of days that no longer change."""

import argparse
import json
from datetime import date
from typing import Any

from rich.console import Console

from pipeline.commands.shared import EPILOG, add_json, add_kek, as_place, print_rows
from pipeline.imports import quick_imports


def describe(commands: Any) -> None:
    """Describe the command and its options."""
    command = commands.add_parser(
        "publish",
        help="make sums over areas, and months, of days that are old enough",
        description="Makes sums over areas by hour, with disclosure control, and months of points, of the days that "
        "the policy's publish_after has become old enough. What is published stands: it is not published again.",
        epilog=EPILOG,
    )
    command.add_argument("--lake", type=as_place, required=True, help="the lake; both zones must be in reach")
    command.add_argument(
        "--until", type=date.fromisoformat, metavar="DATE", help="last local date (default: the policy's)"
    )
    command.add_argument(
        "--since", type=date.fromisoformat, metavar="DATE", help="first local date (default: the first)"
    )
    command.add_argument(
        "--again",
        action="store_true",
        help="publish again what is published. Who has both versions can subtract one from the other: what was "
        "corrected in between, perhaps of one site, is told. For a policy that changed, or sums that must not stand",
    )
    command.add_argument("--keyset", type=as_place, required=True, help="keyset file")
    add_kek(command)
    add_json(command)
    command.set_defaults(run=_publish, parser=command)


def _publish(arguments: argparse.Namespace) -> None:
    with quick_imports():
        from pipeline.begin import RunRequest
        from pipeline.keys import open_keyset
        from pipeline.publish import PublishRequest, run_publish
        from pipeline.publish_report import report_published
        from pipeline.summary import show_progress

    given = RunRequest(keyset=arguments.keyset, kek=arguments.kek)
    request = PublishRequest(arguments.lake, given, arguments.until, arguments.since, again=arguments.again)
    with show_progress("publishing"):
        record = run_publish(request)
    report = report_published(arguments.lake, record, open_keyset(arguments.keyset, arguments.kek))
    if arguments.json:
        print(json.dumps(report, indent=2))
        return
    console = Console(soft_wrap=True)
    if record is None:
        console.print("nothing is due")
        return
    for table in ("areas", "months", "risk"):
        if report[table]:
            print_rows(report[table], as_json=False)
    if report["risk"]:
        for measure, formula in report["formulas"].items():
            console.print(f"{measure}: {formula}", highlight=False)
