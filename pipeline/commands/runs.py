"""``meterveil runs``: what became of runs, also of those that nobody waited for."""

import argparse
from dataclasses import asdict
from typing import Any

from pipeline.commands.shared import EPILOG, WARNED_EPILOG, add_json, as_place, print_rows, show_record, tell_warnings
from pipeline.imports import quick_imports


def describe(commands: Any) -> None:
    """Describe the command and its options."""
    command = commands.add_parser(
        "runs",
        help="tell what became of runs: committed, at work, dead",
        description="Lists the newest runs that committed, and all that are at work or died; changes nothing.",
        epilog=f"With --run: as ingest would have ended, had it waited. {EPILOG} {WARNED_EPILOG}",
    )
    command.add_argument("--lake", type=as_place, required=True, help="the lake; both zones must be in reach")
    command.add_argument("--run", dest="run_id", metavar="ID", help="show the record of this run, which has committed")
    add_json(command)
    command.set_defaults(run=_runs, parser=command)


def _runs(arguments: argparse.Namespace) -> int:
    with quick_imports():
        from pipeline.lake import open_lake
        from pipeline.runs import find_record, list_runs

    lake = open_lake(arguments.lake)
    if arguments.run_id is None:
        print_rows([asdict(run) for run in list_runs(lake)], as_json=arguments.json)
        return 0
    record = find_record(lake, arguments.run_id)
    show_record(record, as_json=arguments.json)
    return tell_warnings(record["warnings"])
