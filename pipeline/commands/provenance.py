"""``meterveil explain-customer``: who said what of a customer, and why one of them is believed."""

import argparse
from typing import Any

from pipeline.commands.shared import add_json, as_place, open_lake_and_plan, print_rows
from pipeline.imports import quick_imports


def describe(commands: Any) -> None:
    """Describe the command and its options."""
    command = commands.add_parser("explain-customer", help="who said what of a customer, when, and who is believed")
    command.add_argument("--lake", type=as_place, required=True, help="the lake")
    command.add_argument("--role", required=True, help="role of the policy that you act in")
    command.add_argument("--purpose", required=True, help="purpose of the policy that you ask for")
    command.add_argument("customer", help="id of the customer")
    add_json(command)
    command.set_defaults(run=_explain, parser=command)


def _explain(arguments: argparse.Namespace) -> None:
    with quick_imports():
        from pipeline.access import current_user
        from pipeline.provenance import explain_customer

    lake, plan = open_lake_and_plan(arguments)
    rows = explain_customer(lake, plan, arguments.role, arguments.purpose, arguments.customer, current_user())
    for row in rows:
        row["received_at"] = row["received_at"].isoformat() if row["received_at"] else None
    print_rows(rows, as_json=arguments.json)
