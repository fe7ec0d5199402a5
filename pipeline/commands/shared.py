"""What the commands share: how they parse, open a lake and show rows."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from pipeline.errors import MeterveilError
from pipeline.imports import quick_imports
from pipeline.stores import locate

#: Width of tables that no terminal shows: nothing is cut.
_UNBOUNDED = 100_000
#: Exit code of a command that did what it was asked to, and found a limit of the policy exceeded.
WARNED = 3
WARNED_EPILOG = f"{WARNED}: done, but a limit of the policy that warns is exceeded."
EPILOG = "Exit code 0: done. 1: failed, with the reason in one line. 2: wrong usage."


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, then where to find help."""

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def add_json(command: argparse.ArgumentParser) -> None:
    """Offer the machine-readable result."""
    command.add_argument("--json", action="store_true", help="machine-readable result on standard output")


def add_kek(command: argparse.ArgumentParser) -> None:
    """Ask for the key-encryption key."""
    command.add_argument(
        "--kek",
        required=True,
        help="key-encryption key: a file of mode 0600, env:NAME, or a key of a KMS: aws-kms://ARN, gcp-kms://NAME",
    )


def as_place(text: str) -> Any:
    """Read where a file or a folder is: a path, or an address in a store."""
    try:
        return locate(text)
    except MeterveilError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def as_share(text: str) -> float:
    """Read a share: a number from 0 to 1, or a percentage."""
    with suppress(ValueError):
        value = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
        if 0 <= value <= 1:
            return value
    raise argparse.ArgumentTypeError("a share between 0 and 1, or a percentage")


def open_lake_and_plan(arguments: argparse.Namespace) -> Any:
    """Open the lake that the arguments name, with its own policy."""
    with quick_imports():
        from pipeline.lake import open_lake
        from pipeline.policy_file import DEFAULT_POLICY, load_policy

    lake = open_lake(arguments.lake)
    # Never a policy that the caller names: it could grant anything.
    return lake, load_policy(lake.stored_policy() or DEFAULT_POLICY)


def tell_warnings(warnings: Sequence[str]) -> int:
    """Say on standard error which limits of the policy are exceeded; the exit code."""
    console = Console(stderr=True, soft_wrap=True)
    for line in warnings:
        console.print(f"meterveil: warning: {line}", style="yellow", markup=False, highlight=False)
    return WARNED if warnings else 0


def show_record(record: dict[str, Any], started: float | None = None, *, as_json: bool) -> None:
    """Show the record of a run: as JSON, or its summary (``pipeline.summary.print_record``)."""
    from pipeline.summary import print_record

    if as_json:
        print(json.dumps(record, indent=2))
    else:
        print_record(record, Console(soft_wrap=True), started)


def print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Show rows of like keys as a table, or as JSON."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table()
    for name, value in (rows[0] if rows else {}).items():
        is_number = isinstance(value, int) and not isinstance(value, bool)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_as_cell(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else _UNBOUNDED).print(table)


def _as_cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
