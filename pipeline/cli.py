"""The command line: ``meterveil --help``."""

import argparse
import logging
from collections.abc import Sequence
from typing import NoReturn

from rich.console import Console

from pipeline.commands import (
    backup,
    completeness,
    disclose,
    generate,
    ingest,
    inspect,
    keys,
    lake,
    mirror,
    policy,
    provenance,
    publish,
    quarantine,
    query,
    runs,
)
from pipeline.commands.shared import EPILOG, Parser
from pipeline.errors import MeterveilError, in_plain_words


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes longer than all else that ``--help`` does."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002 - argparse's name
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        parser.exit(message=f"meterveil {version('meterveil')}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process if None.

    Returns:
        The exit code.
    """
    arguments, rest = build_parser().parse_known_args(argv)
    if rest and "beam_options" not in arguments:
        arguments.parser.error(f"unknown option {rest[0]}")
    arguments.beam_options = rest
    _set_up_logs(arguments.log_level)
    try:
        with in_plain_words():
            return arguments.run(arguments) or 0
    except MeterveilError as error:
        _say_failure(str(error))
        return 1
    except KeyboardInterrupt as interruption:
        _say_failure(str(interruption) or "interrupted; nothing was committed that the tables do not show whole")
        return 130


def _say_failure(line: str) -> None:
    console = Console(stderr=True, soft_wrap=True)
    # Names of files may hold anything, line feeds and the terminal's own commands too.
    shown = "".join(character if character.isprintable() else "?" for character in f"meterveil: {line}")
    console.print(shown, style="red", markup=False, highlight=False)


def _set_up_logs(level: str) -> None:
    """Log to standard error; Beam repeats every error with its stack, which helps at DEBUG only."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    debug = level == "DEBUG"
    logging.getLogger("apache_beam").setLevel(logging.DEBUG if debug else logging.CRITICAL)
    # At DEBUG the workers would log the elements themselves.
    logging.getLogger("apache_beam.runners.worker").setLevel(logging.INFO if debug else logging.CRITICAL)
    logging.getLogger("pyiceberg").setLevel(logging.DEBUG if debug else logging.ERROR)


def build_parser() -> argparse.ArgumentParser:
    """Describe every command and option."""
    parser = Parser(
        prog="meterveil", description="Smart-meter ingestion and pseudonymisation on Apache Beam.", epilog=EPILOG
    )
    parser.add_argument("--version", action=_Version, help="show the version, and exit")
    parser.add_argument("--log-level", default="ERROR", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=Parser)
    subjects = (
        generate,
        keys,
        policy,
        lake,
        inspect,
        ingest,
        runs,
        completeness,
        quarantine,
        query,
        publish,
        provenance,
        disclose,
        backup,
        mirror,
    )
    for subject in subjects:
        subject.describe(commands)
    return parser
