"""``meterveil mirror``: a lake's tables in a Glue or REST catalog, which engines of analysts know."""

import argparse
from dataclasses import asdict
from typing import Any

from pipeline.commands.shared import EPILOG, add_json, as_place, print_rows


def describe(commands: Any) -> None:
    """Describe the command and its options."""
    command = commands.add_parser(
        "mirror",
        help="bring where a zone's tables are now to a Glue or Iceberg REST catalog, for other engines",
        description="Brings where a zone's tables are now to a Glue or Iceberg REST catalog, for engines that look "
        "tables up there: now, or with --always after each commit from now on. What that catalog is and how it lets "
        "one in is pyiceberg's configuration: PYICEBERG_CATALOG__NAME__TYPE=glue or rest and so on in the environment, "
        "or ~/.pyiceberg.yaml; with --always, wherever runs commit.",
        epilog=EPILOG,
    )
    command.add_argument("--lake", type=as_place, required=True, help="the lake, or its analytics folder alone")
    command.add_argument("--to", required=True, metavar="NAME", help="the catalog's name in pyiceberg's configuration")
    command.add_argument(
        "--zone", default="analytics", choices=["analytics", "operational"], help="whose tables (analytics)"
    )
    command.add_argument("--namespace", help="where they are to be there; made if it is missing (the zone's name)")
    command.add_argument(
        "--always",
        action=argparse.BooleanOptionalAction,
        help="also after each commit from now on, by whoever makes it; --no-always ends that",
    )
    add_json(command)
    command.set_defaults(run=_mirror, parser=command)


def _mirror(arguments: argparse.Namespace) -> None:
    from pipeline.kept_mirrors import Mirror, keep_mirror
    from pipeline.lake import open_lake
    from pipeline.mirror import bring_tables

    lake, namespace = open_lake(arguments.lake), arguments.namespace or arguments.zone
    brought = bring_tables(lake, arguments.zone, arguments.to, namespace)
    if arguments.always is not None:
        keep_mirror(lake, Mirror(arguments.zone, arguments.to, namespace), always=arguments.always)
    print_rows([asdict(entry) for entry in brought], as_json=arguments.json)
