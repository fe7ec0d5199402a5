"""``meterveil query``: SQL under a role and for a purpose."""

import argparse
import sys
from pathlib import Path
from typing import Any

from pipeline.commands.shared import as_place, open_lake_and_plan
from pipeline.imports import quick_imports


def describe(commands: Any) -> None:
    """Describe the command and its options."""
    command = commands.add_parser("query", help="run SQL over the tables that a role may read for a purpose")
    command.add_argument("--lake", type=as_place, required=True, help="the lake, or its analytics folder alone")
    command.add_argument("--role", required=True, help="role of the policy that you act in")
    command.add_argument("--purpose", required=True, help="purpose of the policy that you read for")
    command.add_argument("--as-of", default="", metavar="TIME|RUN", help="answer as the lake was, by today's grants")
    command.add_argument("--format", default="table", help="table, csv, json or parquet (default table)")
    command.add_argument("--out", type=Path, help="file to write to (default: standard output)")
    command.add_argument("sql", help="one SELECT statement, such as 'SELECT count(*) FROM analytics.readings'")
    command.set_defaults(run=_query, parser=command)


def _query(arguments: argparse.Namespace) -> None:
    with quick_imports():
        from pipeline.access import current_user
        from pipeline.query import run_query
        from pipeline.results import write_result

    lake, plan = open_lake_and_plan(arguments)
    user = current_user()
    result = run_query(lake, plan, arguments.role, arguments.purpose, arguments.sql, user, arguments.as_of)
    if arguments.out:
        with arguments.out.open("wb") as stream:
            write_result(result, arguments.format, stream)
    else:
        write_result(result, arguments.format, sys.stdout.buffer)
