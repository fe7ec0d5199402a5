"""YAML that a person writes: with the line of every key, checked against a JSON Schema, and refused in a line.

The messages are made of the schema's descriptions: whatever can be wrong in it has one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from pipeline.errors import MeterveilError
from pipeline.stores import Place, locate
from transforms.policy_errors import PolicyError, suggest_name

#: In C where PyYAML was built with it, as its wheels are: a tenth of the time.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: A policy has six levels.
_DEEPEST = 50

#: A word that is too long for a message.
_LONG = re.compile(r"(\S{60})\S{20,}")

#: Keys from the root of the document to a place in it.
_Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A document that its schema allows.

    Attributes:
        content: mappings, lists and values.
        path: the file.
        lines: the line of every key, from 1.
    """

    content: Any
    path: str
    lines: Mapping[_Place, int]

    def find_line(self, place: _Place) -> int:
        """Find the line of a place, or of what it would stand in."""
        while place not in self.lines:
            place = place[:-1]
        return self.lines[place]

    def locate(self, error: PolicyError) -> MeterveilError:
        """Make an error of a place in the document one of a line in the file."""
        where, field = f"{self.path}:{self.find_line(error.path)}", "/".join(map(_shorten, error.path))
        return MeterveilError(
            _shorten(error.problem), where=f"{where}: {field}" if field else where, remedy=error.remedy
        )


def load_document(path: str | Place, schema: Mapping[str, Any]) -> Document:
    """Load a YAML file.

    Raises:
        MeterveilError: there is none, it is no YAML, or not what the schema wants; with file, line and field.
    """
    document = _read_yaml(locate(path))
    if faults := list(Draft202012Validator(schema).iter_errors(document.content)):
        # A misspelt key is also a missing one: what is there comes first, then what is not.
        present = [fault for fault in faults if fault.validator != "required"] or faults
        raise document.locate(min(map(_explain, present), key=lambda error: document.find_line(error.path)))
    return document


def _shorten(text: str) -> str:
    """Cut words that a person can tell by less, and make of any text one line."""
    return _LONG.sub(r"\1…", " ".join(text.split()))


def _read_yaml(path: Place) -> Document:
    try:
        text = path.read_text(encoding="utf-8")
        _check_shape(text)
        loader = _Loader(text)
        lines: dict[_Place, int] = {(): 1}
        node = loader.get_single_node()
        return Document(_construct(loader, node, (), lines) if node else None, str(path), lines)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise MeterveilError(error.problem or "no YAML", where=f"{path}:{line}") from None
    except OSError as error:
        raise MeterveilError(str(error.strerror), where=str(path), remedy="check the path") from None
    except Exception:  # noqa: BLE001 - a tag that does not fit its value leads PyYAML into errors of every kind
        raise MeterveilError("this is no YAML in UTF-8", where=str(path), remedy="name another file") from None


def _check_shape(text: str) -> None:
    """Refuse aliases, since what stands in a place is what holds there; and what no stack can hold."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="there are no aliases here: write it out", problem_mark=mark)
        if depth > _DEEPEST:
            raise yaml.MarkedYAMLError(problem="nested too deep", problem_mark=mark)


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
