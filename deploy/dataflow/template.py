"""What a flex template's launcher starts: parameters of the template become options of the ordinary command.

    python template.py --lake=gs://… --skip_bad_files=true … --template_location=gs://…

Google's launcher gives every parameter, and every option of Beam's, as ``--name=value``. The command only writes the
graph down then, and leaves (``--detach``); the service begins the job. Secrets are opened first, since this launcher is
started beside the image's entry point.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.commands import ingest

#: Options that are no parameters, and why.
LEFT_OUT = {
    "help": "for a terminal",
    "json": "for a terminal",
    "dry_run": "for a terminal",
    "run_record": "there is none yet when the launcher leaves",
    "metering_point": "the console shows parameters, and this is a person's",
    "runner": "always the same",
    "detach": "always there",
}
#: What the command is always given: the image has all that workers need, and they have no public address.
FIXED = ("--detach", "--runner=DataflowRunner", "--sdk_location=container", "--no_use_public_ips")


def list_options() -> dict[str, argparse.Action]:
    """List the command's options that are parameters, by the parameter's name."""
    commands = argparse.ArgumentParser().add_subparsers()
    ingest.describe(commands)
    actions = commands.choices["ingest"]._actions  # noqa: SLF001 - argparse has no other list
    return {action.dest: action for action in actions if action.dest not in LEFT_OUT}


def make_arguments(given: Sequence[str]) -> list[str]:
    """Make the command's arguments.

    Args:
        given: parameters and Beam's options, as ``--name=value``; an empty value is as none. Several readings are
            separated by blanks.

    Raises:
        ValueError: a switch is neither true nor false.
    """
    options = list_options()
    arguments = ["ingest", *FIXED]
    for argument in given:
        name, _, value = argument.removeprefix("--").partition("=")
        if name not in options:
            arguments.append(f"--{name}" if value == "true" else argument)  # Beam's switches stand alone
        elif value:
            arguments += _say(options[name], name, value)
    return arguments


def _say(option: argparse.Action, name: str, value: str) -> list[str]:
    said = option.option_strings[0]
    if option.nargs == "+":
        return [said, *value.split()]
    if option.nargs != 0:
        return [f"{said}={value}"]
    if value not in {"true", "false"}:
        raise ValueError(f"{name} is true or false")
    return [said] if value == "true" else []


if __name__ == "__main__":
    try:
        command = ["meterveil", *make_arguments(sys.argv[1:])]
    except ValueError as error:
        sys.exit(f"template: {error}")
    opener = str(Path(__file__).with_name("with_secrets.py"))
    os.execv(sys.executable, [sys.executable, opener, *command])  # noqa: S606 - what the image has
