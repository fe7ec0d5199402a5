"""``meterveil quarantine``: what was set aside, and its way back after a fix."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.commands.shared import Parser, add_json, add_kek, as_place, open_lake_and_plan, print_rows, show_record


def describe(commands: Any) -> None:
    """Describe the command, its actions and their options."""
    command = commands.add_parser("quarantine", help="show what was set aside, and release it after a fix")
    actions = command.add_subparsers(required=True, metavar="ACTION", parser_class=Parser)
    _describe_list(actions)
    _describe_release(actions)


def _describe_list(actions: Any) -> None:
    command = actions.add_parser(
        "list",
        help="count what was set aside, by file and reason",
        description="Counts what was set aside, by file and reason, without names and identifiers. With --rows it "
        "gives the readings themselves, as CSV, to those whom the policy grants the quarantine.",
    )
    _choose(command)
    command.add_argument("--rows", action="store_true", help="give the readings; needs --role and --purpose")
    command.add_argument("--role", help="role of the policy that you act in")
    command.add_argument("--purpose", help="purpose of the policy that you read for")
    command.add_argument("--out", type=Path, help="file to write readings to (default: standard output)")
    add_json(command)
    command.set_defaults(run=_list, parser=command)


def _describe_release(actions: Any) -> None:
    command = actions.add_parser(
        "release",
        help="try readings in quarantine again, perhaps corrected; those that pass come into the tables",
        description="Tries readings in quarantine again by today's rules, perhaps corrected. Those that pass are "
        "merged as if they had been delivered so, and leave the quarantine, in one commit. The others stay there.",
    )
    _choose(command)
    command.add_argument("--keyset", type=as_place, required=True, help="keyset file")
    add_kek(command)
    command.add_argument("--metering-point", default="", metavar="ID", help="id of the readings whose id is mangled")
    command.add_argument(
        "--status", action="append", default=[], metavar="WORD=STATUS", help="what an unknown status word means"
    )
    command.add_argument(
        "--corrections", type=Path, metavar="CSV", help="what readings should say: list --rows gives such a file"
    )
    add_json(command)
    command.set_defaults(run=_release, parser=command)


def _choose(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lake", type=as_place, required=True, help="the lake; its operational zone must be in reach")
    command.add_argument("--file", default="", metavar="NAME", help="of this file: its name, or 8 digits of its digest")
    command.add_argument("--reason", default="", help="set aside for this reason")


def _list(arguments: argparse.Namespace) -> None:
    from pipeline.release import Chosen, summarise

    lake, plan = open_lake_and_plan(arguments)
    chosen = Chosen(arguments.file, arguments.reason)
    if not arguments.rows:
        print_rows(list(summarise(lake, plan, chosen)), as_json=arguments.json)
        return
    if not arguments.role or not arguments.purpose:
        arguments.parser.error("--rows needs --role and --purpose")
    from pipeline.access import current_user
    from pipeline.query import run_query
    from pipeline.release import select_rows
    from pipeline.results import write_result

    sql = select_rows(plan, chosen)
    result = run_query(lake, plan, arguments.role, arguments.purpose, sql, current_user())
    form = "json" if arguments.json else "csv"
    if arguments.out:
        with arguments.out.open("wb") as stream:
            write_result(result, form, stream)
    else:
        write_result(result, form, sys.stdout.buffer)


def _release(arguments: argparse.Namespace) -> None:
    from pipeline.begin import RunRequest
    from pipeline.release import Chosen, ReleaseRequest, read_corrections, run_release
    from schemas.status import STATUS_WORDS
    from transforms.fixes import CORRECTION_SCHEMA, Fix

    words = dict(word.rpartition("=")[::2] for word in arguments.status)
    if "" in words or not set(words.values()) <= set(STATUS_WORDS):
        arguments.parser.error(f"--status needs WORD=STATUS, with one of {', '.join(STATUS_WORDS)}")
    rows = read_corrections(arguments.corrections) if arguments.corrections else CORRECTION_SCHEMA.empty_table()
    request = ReleaseRequest(
        arguments.lake,
        RunRequest(arguments.keyset, arguments.kek),
        Chosen(arguments.file, arguments.reason),
        Fix(arguments.metering_point, words, rows),
    )
    started = time.monotonic()
    record = run_release(request)
    if record is None:
        print("null" if arguments.json else "no reading in quarantine passes: nothing was changed")
    else:
        show_record(record, started, as_json=arguments.json)
