"""``meterveil backup`` and ``restore``: a copy of the lake elsewhere, and the lake from it."""

import argparse
import json
from pathlib import Path
from typing import Any

from pipeline.commands.shared import add_json


def describe(commands: Any) -> None:
    """Describe the commands and their options."""
    command = commands.add_parser(
        "backup",
        help="copy a lake as it is at this moment; only what a backup before it lacks",
        description="Copies a lake, while runs are at work. The keyset is no part of it: back that up elsewhere.",
    )
    command.add_argument("--lake", type=Path, required=True, help="the lake; both zones must be in reach")
    command.add_argument("--out", type=Path, required=True, help="folder of this lake's backups, on another disk")
    add_json(command)
    command.set_defaults(run=_backup, parser=command)
    command = commands.add_parser("restore", help="bring a lake back from a backup, where it was")
    command.add_argument("--backup", type=Path, required=True, help="folder of backups")
    command.add_argument("--of", default="", metavar="STAMP", help="which of them (default: the newest)")
    command.add_argument("--lake", type=Path, required=True, help="the lake's path, as it was; nothing may be there")
    add_json(command)
    command.set_defaults(run=_restore, parser=command)


def _backup(arguments: argparse.Namespace) -> None:
    from datetime import UTC, datetime

    from pipeline.backup import back_up
    from pipeline.lake import open_lake

    done = back_up(open_lake(arguments.lake), arguments.out, datetime.now(UTC))
    new = f"{done['new_files']:,} files and {done['new_bytes']:,} bytes of them new"
    _tell(arguments, done, f"backup {done['backup']}: {done['files']:,} files, {done['bytes']:,} bytes; {new}")


def _restore(arguments: argparse.Namespace) -> None:
    from pipeline.backup import restore

    done = restore(arguments.backup, arguments.lake, arguments.of)
    told = f"{done['files']:,} files, {done['bytes']:,} bytes"
    _tell(arguments, done, f"restored backup {done['backup']}: {told}; check it with: meterveil verify")


def _tell(arguments: argparse.Namespace, done: dict[str, Any], line: str) -> None:
    print(json.dumps(done, indent=2) if arguments.json else line)
