"""``meterveil disclose``: data for somebody outside the company."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.commands.shared import EPILOG, add_json, as_place, open_lake_and_plan, print_rows
from pipeline.imports import quick_imports


def describe(commands: Any) -> None:
    """Describe the command and its options."""
    command = commands.add_parser(
        "disclose",
        help="hand out a recipient's datasets, or answer an authority; logged with its basis",
        description="Writes what the policy has for a recipient: its own datasets, as they are now. With --sql it "
        "writes the answer to one query instead, for an authority, under a role and purpose of yours. Whoever "
        "discloses needs a role that the policy lets do it; the log keeps who, to whom, on which basis, how many rows.",
        epilog=EPILOG,
    )
    command.add_argument("--lake", type=as_place, required=True, help="the lake")
    command.add_argument("--recipient", required=True, help="a recipient of the policy")
    command.add_argument(
        "--basis", required=True, help="why: a contract, a paragraph of a law, a short reference; no names"
    )
    command.add_argument("--out", type=Path, required=True, help="folder to make; with --sql, a Parquet file")
    command.add_argument("--sql", help="one SELECT statement; its answer is what is handed out")
    command.add_argument("--role", help="with --sql: role of the policy that you act in")
    command.add_argument("--purpose", help="with --sql: purpose of the policy that you read for")
    add_json(command)
    command.set_defaults(run=_disclose, parser=command)


def _disclose(arguments: argparse.Namespace) -> None:
    with quick_imports():
        from pipeline.access import current_user
        from pipeline.disclose import check_disclosure, disclose_answer, disclose_datasets

    if bool(arguments.sql) != bool(arguments.role and arguments.purpose):
        arguments.parser.error("--sql needs --role and --purpose, and they need it")
    lake, plan = open_lake_and_plan(arguments)
    user, to, basis = current_user(), arguments.recipient, arguments.basis
    if arguments.sql:
        from pipeline.query import run_query

        check_disclosure(plan, to, basis, user)
        answer = run_query(lake, plan, arguments.role, arguments.purpose, arguments.sql, user)
        done = disclose_answer(lake, plan, to, basis, answer, arguments.out, user)
    else:
        done = disclose_datasets(lake, plan, to, basis, arguments.out, user)
    print_rows([asdict(one) for one in done], as_json=arguments.json)
