"""Reads policy files: YAML with line numbers, checked against the JSON Schema, compiled to a plan."""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from pipeline.errors import MeterveilError
from transforms.plan import Plan
from transforms.policy import compile_plan
from transforms.policy_errors import PolicyError, suggest_name

#: The policy that serves where none is named.
DEFAULT_POLICY = Path(str(files("schemas") / "policies" / "retailer.yaml"))

_SCHEMA = Path(str(files("schemas") / "policy.schema.json"))

#: In C where PyYAML was built with it, as its wheels are: a tenth of the time.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: A policy has six levels.
_DEEPEST = 50

#: Keys from the root of the document to a place in it.
_Place = tuple[str, ...]


def load_policy(path: str | Path) -> Plan:
    """Load, check and compile a policy file.

    Args:
        path: a YAML file.

    Raises:
        MeterveilError: with file, line, field, rule and what was probably meant.
    """
    document, lines = _read_yaml(Path(path))
    validator = Draft202012Validator(json.loads(_SCHEMA.read_text(encoding="utf-8")))
    if faults := list(validator.iter_errors(document)):
        # A misspelt key is also a missing one: what is there comes first, then what is not.
        present = [fault for fault in faults if fault.validator != "required"] or faults
        raise _locate(min(map(_explain, present), key=lambda error: _find_line(lines, error.path)), path, lines)
    try:
        return compile_plan(document)
    except PolicyError as error:
        raise _locate(error, path, lines) from None


def _read_yaml(path: Path) -> tuple[Any, dict[_Place, int]]:
    """Read a YAML file and, for every key in it, its line from 1."""
    try:
        text = path.read_text(encoding="utf-8")
        _check_shape(text)
        loader = _Loader(text)
        lines: dict[_Place, int] = {(): 1}
        node = loader.get_single_node()
        return (_construct(loader, node, (), lines) if node else None), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise MeterveilError(error.problem or "no YAML", where=f"{path}:{line}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this is no YAML in UTF-8"
        raise MeterveilError(str(reason), where=str(path), remedy="name a policy file") from None


def _check_shape(text: str) -> None:
    """Refuse aliases, since what stands in a place of a policy is what holds there; and what no stack can hold."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="a policy has no aliases: write it out", problem_mark=mark)
        if depth > _DEEPEST:
            raise yaml.MarkedYAMLError(problem="nested too deep to be a policy", problem_mark=mark)


def _construct(loader: yaml.SafeLoader, node: yaml.Node, place: _Place, lines: dict[_Place, int]) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, item, place, lines) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    made = {}
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else "?"
        if name in made:
            raise yaml.MarkedYAMLError(problem=f"'{name}' stands here twice", problem_mark=key.start_mark)
        lines[*place, name] = key.start_mark.line + 1
        made[name] = _construct(loader, value, (*place, name), lines)
    return made


def _explain(error: ValidationError) -> PolicyError:
    """Say what a JSON Schema rule wants, in the words of the schema's descriptions."""
    place = tuple(str(key) for key in error.absolute_path if isinstance(key, str))
    schema, instance = cast("Mapping[str, Any]", error.schema), cast("Any", error.instance)
    expected = f"expected {schema['description']}"
    if "propertyNames" in error.absolute_schema_path:
        return PolicyError((*place, instance), f"this name can't be used: {expected}")
    match error.validator:
        case "additionalProperties":
            unknown = next(key for key in instance if key not in schema["properties"])
            remedy = suggest_name(unknown, schema["properties"])
            return PolicyError((*place, unknown), f"there is no '{unknown}' here", remedy)
        case "enum" if isinstance(instance, str):
            return PolicyError(place, f"there is no '{instance}' here", suggest_name(instance, schema["enum"]))
        case "required":
            missing = ", ".join(key for key in schema["required"] if key not in instance)
            return PolicyError(place, f"{missing} missing", expected)
        case _:
            return PolicyError(place, expected)


def _find_line(lines: Mapping[_Place, int], place: _Place) -> int:
    while place not in lines:
        place = place[:-1]
    return lines[place]


def _locate(error: PolicyError, path: str | Path, lines: Mapping[_Place, int]) -> MeterveilError:
    where = f"{path}:{_find_line(lines, error.path)}"
    field = "/".join(error.path)
    return MeterveilError(error.problem, where=f"{where}: {field}" if field else where, remedy=error.remedy)
