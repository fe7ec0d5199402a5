"""``meterveil init``, ``tables``, ``verify``, ``maintain``, ``rebuild``: the lake itself."""

import argparse
import json
import time
from dataclasses import asdict
from typing import Any

from rich.console import Console

from pipeline.commands.shared import EPILOG, add_json, add_kek, as_place, open_lake_and_plan, print_rows, show_record
from pipeline.errors import MeterveilError
from pipeline.imports import quick_imports


def describe(commands: Any) -> None:
    """Describe the commands and their options."""
    _describe_init(commands)
    _describe_tables(commands)
    _describe_verify(commands)
    _describe_migrate(commands)
    _describe_maintain(commands)
    _describe_rebuild(commands)


def _describe_init(commands: Any) -> None:
    command = commands.add_parser("init", help="make a lake; the first ingest does it too")
    command.add_argument("--lake", type=as_place, required=True, help="folder to make")
    command.add_argument("--time-zone", default="Europe/Helsinki", help="of its local days (Europe/Helsinki)")
    command.add_argument("--buckets", type=int, required=True, help="a power of two; about one per 100,000 points")
    command.add_argument("--catalog", default="", metavar="URI", help="for many machines: postgresql://HOST/DATABASE")
    command.set_defaults(run=_init, parser=command)


def _init(arguments: argparse.Namespace) -> None:
    from pipeline.lake import create_lake

    lake = create_lake(
        arguments.lake,
        time_zone=arguments.time_zone,
        bucket_count=arguments.buckets,
        catalog=arguments.catalog,
    )
    print(f"lake at {lake.root}: {lake.settings.bucket_count} buckets, {lake.settings.time_zone}")


def _describe_tables(commands: Any) -> None:
    command = commands.add_parser("tables", help="list the tables of a lake, and what a role may read")
    command.add_argument("--lake", type=as_place, required=True, help="the lake, or its analytics folder alone")
    command.add_argument("--role", help="tell which tables this role may read")
    add_json(command)
    command.set_defaults(run=_tables, parser=command)


def _tables(arguments: argparse.Namespace) -> None:
    from pipeline.tables import list_tables

    lake, plan = open_lake_and_plan(arguments)
    rows = [
        {
            "table": info.name,
            "rows": info.rows,
            "bytes": info.bytes,
            "files": info.files,
            "audience": ", ".join(info.audience),
            "purposes": ", ".join(info.purposes),
            **({} if info.readable is None else {"readable": info.readable}),
        }
        for info in list_tables(lake, plan, arguments.role)
    ]
    print_rows(rows, as_json=arguments.json)


def _describe_verify(commands: Any) -> None:
    command = commands.add_parser(
        "verify",
        help="check that a lake is as it was written; changes nothing",
        description="Checks every file against its digest, and every table against what it derives from. Changes "
        "nothing. What runs that died left over is shown and breaks no rule.",
        epilog="Exit code 0: clean. 1: something was found, or the lake can't be verified. 2: wrong usage.",
    )
    command.add_argument("--lake", type=as_place, required=True, help="the lake; both zones must be in reach")
    add_json(command)
    command.set_defaults(run=_verify, parser=command)


def _describe_migrate(commands: Any) -> None:
    command = commands.add_parser(
        "migrate",
        help="bring a lake of an older format to the one that this version writes",
        description="Brings a lake of an older format to the one that this version writes. Older versions refuse it "
        "then, so back it up first. What dies half-way is begun again.",
    )
    command.add_argument("--lake", type=as_place, required=True, help="the lake; both zones must be in reach")
    command.set_defaults(run=_migrate, parser=command)


def _migrate(arguments: argparse.Namespace) -> None:
    from pipeline.lake import open_lake
    from pipeline.migrate import migrate

    had, has = migrate(open_lake(arguments.lake))
    print(f"format {has}, as it was" if had == has else f"format {has}; it had {had}")


def _verify(arguments: argparse.Namespace) -> None:
    from pipeline.summary import print_findings
    from pipeline.verify import verify_lake

    findings = verify_lake(*open_lake_and_plan(arguments))
    if arguments.json:
        print(json.dumps(findings.describe(), indent=2))
    else:
        print_findings(findings, Console(soft_wrap=True))
    if findings.violations:
        raise MeterveilError(
            f"{findings.violations} violations", where=str(arguments.lake), remedy="restore what is damaged from a copy"
        )


def _describe_maintain(commands: Any) -> None:
    command = commands.add_parser(
        "maintain",
        help="expire old snapshots, drop days beyond retention, delete what nothing needs",
        description="Shows what there is to do; does it with --yes. Safe beside runs that are at work.",
    )
    command.add_argument("--lake", type=as_place, required=True, help="the lake; both zones must be in reach")
    command.add_argument("--yes", action="store_true", help="do it")
    command.add_argument(
        "--keep", type=_as_days, default=30, metavar="DAYS", help="days back that query --as-of can ask for (30)"
    )
    add_json(command)
    command.set_defaults(run=_maintain, parser=command)


def _maintain(arguments: argparse.Namespace) -> None:
    from pipeline.maintain import describe_upkeep, maintain

    lake, plan = open_lake_and_plan(arguments)
    chores = (maintain if arguments.yes else describe_upkeep)(lake, plan, arguments.keep)
    print_rows([asdict(chore) for chore in chores], as_json=arguments.json)
    if not arguments.yes and not arguments.json:
        print("nothing is changed; --yes does it")


def _describe_rebuild(commands: Any) -> None:
    command = commands.add_parser(
        "rebuild",
        help="derive every table again, after a change of policy, key or reference",
        description="Derives every table again from operational.readings, by the policy, key and reference that are "
        "named. Readers see the tables as they were until all are done, then all change at once. If it is interrupted, "
        "the same command goes on.",
        epilog=EPILOG,
    )
    command.add_argument("--lake", type=as_place, required=True, help="the lake; both zones must be in reach")
    command.add_argument("--policy", type=as_place, help="policy file (default: the lake's)")
    command.add_argument(
        "--reference", type=as_place, help="folder of sites, contracts, customers (default: the lake's)"
    )
    command.add_argument("--keyset", type=as_place, required=True, help="keyset file")
    add_kek(command)
    add_json(command)
    command.set_defaults(run=_rebuild, parser=command)


def _rebuild(arguments: argparse.Namespace) -> None:
    with quick_imports():
        from pipeline.begin import RunRequest
        from pipeline.rebuild import RebuildRequest, run_rebuild
        from pipeline.summary import show_progress

    started = time.monotonic()
    given = RunRequest(keyset=arguments.keyset, kek=arguments.kek, reference=arguments.reference)
    with show_progress("rebuilding"):
        record = run_rebuild(RebuildRequest(arguments.lake, given, arguments.policy))
    show_record(record, started, as_json=arguments.json)


def _as_days(text: str) -> int:
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError("a number of days, 1 or more")
