"""``meterveil policy``: what a policy says."""

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.shared import Parser, add_json, print_rows


def describe(commands: Any) -> None:
    """Describe the command and its options."""
    command = commands.add_parser("policy", help="check a policy")
    actions = command.add_subparsers(required=True, metavar="ACTION", parser_class=Parser)
    check = actions.add_parser("check", help="validate a policy file and list its datasets")
    check.add_argument("--policy", type=Path, help="policy file (default: the one that comes with meterveil)")
    add_json(check)
    check.set_defaults(run=_check_policy, parser=check)


def _check_policy(arguments: argparse.Namespace) -> None:
    from pipeline.policy_file import DEFAULT_POLICY, load_policy

    plan = load_policy(arguments.policy or DEFAULT_POLICY)
    rows = [
        {
            "dataset": name,
            "audience": ", ".join(sorted(dataset.audience)),
            "purposes": ", ".join(sorted(dataset.purposes)),
            "domain": dataset.domain,
            "epoch": dataset.epoch,
            "columns": len(dataset.columns),
        }
        for name, dataset in plan.datasets.items()
    ]
    print_rows(rows, as_json=arguments.json)
