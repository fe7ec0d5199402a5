"""Columns of a policy's datasets: the rule of every field, and whether it fits the field."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa

from schemas.views import Field
from transforms.columns import ROUNDED
from transforms.plan import ENTITIES, Band, Column, Keep, Mask, PostalPrefix, Pseudonymise, Round, Rule, Year
from transforms.policy_errors import Path, PolicyError, expect

_MILLIONTHS = 1_000_000
#: No integer of a view is greater.
_GREATEST = 2**63 - 1


def compile_columns(fields: Mapping[str, Any], view: Mapping[str, Field], path: Path) -> Iterator[Column]:
    """Compile the fields of a dataset.

    Raises:
        PolicyError: a field that the view has not, or a rule that does not fit its field.
    """
    for name, spec in fields.items():
        if spec == "drop":
            expect(name, view, "field", (*path, name))
        else:
            yield _compile_column(name, spec, view, (*path, name))


def _compile_column(name: str, spec: Any, view: Mapping[str, Field], path: Path) -> Column:
    source = name if spec == "keep" else spec.get("from", name)
    expect(source, view, "field", path)
    field, rule = view[source], _read_rule(spec, path)
    match rule:
        case Keep():
            fits, made, doc = True, field.type, field.doc
        case Pseudonymise(entity):
            fits, made, doc = ENTITIES[entity] == source, pa.uuid(), f"pseudonym of: {field.doc}"
        case PostalPrefix(digits):
            fits, made, doc = source == "postal_code", pa.string(), f"first {digits} digits of: {field.doc}"
        case Band():
            fits, made, doc = pa.types.is_integer(field.type), pa.string(), f"band of: {field.doc}"
        case Year():
            fits, made, doc = pa.types.is_temporal(field.type), pa.int32(), f"year of: {field.doc}"
        case Round():
            fits, made, doc = pa.types.is_decimal(field.type), ROUNDED, f"rounded: {field.doc}"
        case Mask():
            fits, made, doc = pa.types.is_string(field.type), pa.string(), f"end of: {field.doc}"
    if not fits:
        raise PolicyError(path, f"this rule does not fit {source}", f"it is {field.doc} ({field.type})")
    # What is no postal code has no prefix.
    required = field.required and not isinstance(rule, PostalPrefix)
    return Column(name, source, rule, made, required, doc)


def _read_rule(spec: Any, path: Path) -> Rule:
    rule: Rule
    match spec:
        case {"pseudonymise": entity}:
            expect(entity, ENTITIES, "entity", path)
            rule = Pseudonymise(entity)
        case {"generalise": "year"}:
            rule = Year()
        case {"generalise": {"postal_prefix": digits}}:
            rule = PostalPrefix(int(digits))
        case {"generalise": {"band": edges}}:
            if not -_GREATEST <= min(edges) <= max(edges) <= _GREATEST:
                raise PolicyError(path, "an edge is greater than any value", "leave it out")
            if any(low >= high for low, high in pairwise(edges)):
                raise PolicyError(path, "the edges of a band do not ascend", "sort them, each once")
            rule = Band(tuple(map(int, edges)))
        case {"round": step}:
            millionths = Decimal(str(step)) * _MILLIONTHS
            if millionths % 1:
                raise PolicyError(path, "the step has more decimals than the values", "give it six at most")
            rule = Round(int(millionths))
        case {"mask": {"keep_last": keep_last}}:
            rule = Mask(int(keep_last))
        case _:
            rule = Keep()
    return rule
