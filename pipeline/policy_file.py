"""Reads policy files: YAML with line numbers, checked against the JSON Schema, compiled to a plan."""

import json
from importlib.resources import files
from pathlib import Path

from pipeline.checked_yaml import load_document
from pipeline.stores import Place
from transforms.plan import Plan
from transforms.policy import compile_plan
from transforms.policy_errors import PolicyError

#: The policy that serves where none is named.
DEFAULT_POLICY = Path(str(files("schemas") / "policies" / "retailer.yaml"))

_SCHEMA = Path(str(files("schemas") / "policy.schema.json"))


def load_policy(path: str | Place) -> Plan:
    """Load, check and compile a policy file.

    Args:
        path: a YAML file.

    Raises:
        MeterveilError: with file, line, field, rule and what was probably meant.
    """
    document = load_document(path, json.loads(_SCHEMA.read_text(encoding="utf-8")))
    try:
        return compile_plan(document.content)
    except PolicyError as error:
        raise document.locate(error) from None
