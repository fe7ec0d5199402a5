"""``meterveil completeness``: is last night complete?"""

import argparse
import json
from datetime import date
from typing import Any

from pipeline.commands.shared import (
    EPILOG,
    WARNED_EPILOG,
    add_json,
    as_place,
    open_lake_and_plan,
    print_rows,
    tell_warnings,
)


def describe(commands: Any) -> None:
    """Describe the command and its options."""
    command = commands.add_parser(
        "completeness",
        help="say of local days how many points under contract are silent, and how much is missing",
        description="Counts the days of all points under contract: points without a value, and minutes without one.",
        epilog=f"{EPILOG} {WARNED_EPILOG}",
    )
    command.add_argument("--lake", type=as_place, required=True, help="the lake; its operational zone must be in reach")
    days = command.add_mutually_exclusive_group()
    days.add_argument("--date", type=date.fromisoformat, help="the local day, 2026-03-29 (default: yesterday)")
    days.add_argument("--from", type=date.fromisoformat, dest="first", metavar="DATE", help="first local day")
    command.add_argument("--to", type=date.fromisoformat, dest="last", metavar="DATE", help="last one (yesterday)")
    add_json(command)
    command.set_defaults(run=_completeness, parser=command)


def _completeness(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from pipeline.completeness import count_lake, describe_days
    from transforms.calendar import local_day, to_day

    lake, plan = open_lake_and_plan(arguments)
    today = local_day(datetime.now(UTC), lake.settings.time_zone)
    if arguments.last and not arguments.first:
        arguments.parser.error("--to needs --from")
    last = arguments.date or arguments.last
    until = to_day(last) if last else today - 1
    since = to_day(arguments.first) if arguments.first else until
    if since > until:
        arguments.parser.error("the first day comes after the last")
    days = count_lake(lake, plan, range(since, until + 1))
    warnings = [breach.problem for breach in plan.limits.check_days(days, today)]
    rows: list[dict[str, Any]] = list(describe_days(days))
    if arguments.json:
        print(json.dumps({"days": rows, "warnings": warnings}, indent=2))
    else:
        shares = [f"{day.missing_share:.4%}" for day in days]
        print_rows([row | {"missing": share} for row, share in zip(rows, shares, strict=True)], as_json=False)
    return tell_warnings(warnings)
