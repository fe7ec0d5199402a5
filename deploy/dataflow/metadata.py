"""Says what a flex template's parameters are, from the command's own options: ``python metadata.py --write``.

Without ``--write`` it is an error if ``metadata.json`` says anything else.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from template import list_options

from pipeline.commands.shared import as_place

FILE = Path(__file__).with_name("metadata.json")
_PLACE, _NUMBER, _SWITCH = "^gs://.+$", "^[0-9]+$", "^(true|false)$"
#: What the console offers for a place; other places are files to read.
_FOLDERS = {"reference": "GCS_READ_FOLDER", "lake": "GCS_WRITE_FOLDER"}
#: Nothing is on a launcher's disk, so some options take less here than elsewhere.
_NARROWER: dict[str, dict[str, Any]] = {
    "readings": {
        "regexes": ["^gs://[^ ]+( +gs://[^ ]+)*$"],
        "helpText": "files or patterns in Cloud Storage, separated by blanks; none for a reference alone",
    },
    "kek": {
        "regexes": ["^(env:[A-Z][A-Z0-9_]*|gcp-kms://.+)$"],
        "helpText": "key-encryption key: a variable that the image fills from a secret (env:NAME), or gcp-kms://NAME",
    },
    "catalog": {"regexes": ["^postgresql://[^/]+/.+$"]},
}
#: Options of Beam's that a template's environment has no field for, or must not leave out.
_OF_BEAM = (
    {
        "name": "sdk_container_image",
        "label": "Image of the workers",
        "helpText": "the image of this template: workers run what the launcher wrote down",
        "paramType": "TEXT",
        "isOptional": False,
        "regexes": ["^[^ ]+/[^ ]+$"],
    },
    {
        "name": "number_of_worker_harness_threads",
        "label": "Threads for each processor",
        "helpText": "2 where a processor has 4 GiB; Beam's default is a dozen, and memory goes by the thread",
        "paramType": "NUMBER",
        "isOptional": True,
        "regexes": [_NUMBER],
    },
)


def describe_template() -> dict[str, Any]:
    """Describe the template, in the form of Dataflow's ``TemplateMetadata``."""
    parameters = [_describe(name, option) for name, option in list_options().items()]
    return {
        "name": "meterveil ingest",
        "description": "Reads readings, joins them to contracts, and writes every table of the policy in one commit.",
        "parameters": [*parameters, *_OF_BEAM],
    }


def _describe(name: str, option: argparse.Action) -> dict[str, Any]:
    kind, regexes = _tell_kind(name, option)
    label = name.replace("_", " ")
    return {
        "name": name,
        "label": label[0].upper() + label[1:],
        "helpText": (option.help or "").replace("%%", "%"),
        "paramType": kind,
        "isOptional": not option.required,
        **({"regexes": regexes} if regexes else {}),
    } | _NARROWER.get(name, {})


def _tell_kind(name: str, option: argparse.Action) -> tuple[str, list[str]]:
    if option.nargs == 0:
        return "BOOLEAN", [_SWITCH]
    if option.type is int:
        return "NUMBER", [_NUMBER]
    if option.type is as_place:
        return _FOLDERS.get(name, "GCS_READ_FILE"), [_PLACE]
    return "TEXT", []


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(description=re.split(r"\n\n", __doc__ or "")[0])
    parser.add_argument("--write", action="store_true", help=f"keep it in {FILE.name}")
    text = json.dumps(describe_template(), indent=2) + "\n"
    if parser.parse_args(argv).write:
        FILE.write_text(text, encoding="utf-8")
    elif text != FILE.read_text(encoding="utf-8"):
        print(f"{FILE.name} is not of these options; --write makes it anew", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
