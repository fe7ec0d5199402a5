"""Compiles a policy, already parsed and of the right shape, into a plan; refuses what would not protect anybody."""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import pyarrow as pa

from schemas.registers import ATTRIBUTES, CUSTOMERS_FEED, REGISTERS, SPEAKERS
from schemas.views import FIELD_CLASSES, VIEW_KINDS, VIEWS, Field
from transforms.columns import ROUNDED
from transforms.limits import compile_limits
from transforms.plan import (
    ENTITIES,
    Band,
    Column,
    Dataset,
    Epoch,
    Keep,
    Mask,
    Plan,
    PostalPrefix,
    Pseudonymise,
    Round,
    Rule,
    Year,
    Zone,
)

#: What the merge needs to find again in the table that it wrote: the state of a cell.
STATE_TABLE = "operational.readings"
STATE_FIELDS = (
    "metering_point_id",
    "product",
    "direction",
    "resolution_s",
    "local_date",
    "start",
    "energy",
    "status",
    "flags",
    "registered_at",
    "rival_registered_at",
    "daily_rival_registered_at",
    "customer_id",
    "contract_id",
)

#: Classes that analytics may hold in a protected form only: the rules that protect enough, and the remedy.
_ANALYTICS_RULES: dict[str, tuple[tuple[type[Rule], ...], str]] = {
    "direct_identifier": ((Pseudonymise,), "pseudonymise or drop it"),
    "identity_code": ((), "drop it"),
    "contact": ((), "drop it"),
    "location": ((PostalPrefix,), "generalise it to a postal_prefix or drop it"),
}

_EPOCHS: dict[str, Epoch] = {"none": "", "year": "year", "quarter": "quarter", "month": "month"}
_DAYS = {"day": Decimal(1), "month": Decimal("365.25") / 12, "year": Decimal("365.25")}
_MILLIONTHS = 1_000_000

Path = tuple[str, ...]


class PolicyError(ValueError):
    """A policy that can't be compiled.

    Attributes:
        path: keys from the root of the document to the place.
        problem: what is wrong there.
        remedy: what to do about it.
    """

    def __init__(self, path: Path, problem: str, remedy: str = "") -> None:
        self.path, self.problem, self.remedy = path, problem, remedy
        super().__init__(f"{'/'.join(path)}: {problem}")


@dataclass(frozen=True, slots=True)
class _Names:
    """What the datasets of one policy may refer to."""

    classes: Mapping[str, str]
    roles: Iterable[str]
    purposes: Iterable[str]
    domains: Mapping[str, Iterable[str]]


def compile_plan(document: Mapping[str, Any]) -> Plan:
    """Compile a policy.

    Args:
        document: the parsed policy, valid by ``schemas/policy.schema.json``; the order of a dataset's fields is the
            order of its columns.

    Raises:
        PolicyError: a name that means nothing, a rule that does not fit its field, or a dataset that would hold what
            its zone must not.
    """
    roles, purposes, domains = document["roles"], document["purposes"], document.get("domains", {})
    classes = document.get("classes", {})
    _check_classes(classes)
    for section, audiences in (("grants", document["grants"]), ("domains", domains)):
        for name, granted in audiences.items():
            _expect_all(granted, roles, "role", (section, name))
    _check_limits(document.get("limits", {}).get("missing", ()))
    names = _Names(classes, roles, purposes, domains)
    datasets = {name: _compile_dataset(name, spec, names) for name, spec in document["datasets"].items()}
    _check_state(datasets)
    return Plan(
        digest=digest_policy(document),
        datasets=datasets,
        roles=dict(roles),
        purposes={name: purpose["legal_basis"] for name, purpose in purposes.items()},
        grants={name: frozenset(granted) for name, granted in document["grants"].items()},
        limits=compile_limits(document.get("limits", {})),
        resolution=_compile_resolution(document.get("resolution", {})),
    )


def digest_policy(document: Mapping[str, Any]) -> str:
    """Compute the SHA-256, hex, of what a policy says of rows.

    Comments, layout and limits do not count: they change no row. The order of columns does.
    """
    datasets = {name: spec | {"fields": list(spec["fields"].items())} for name, spec in document["datasets"].items()}
    said = {name: section for name, section in document.items() if name != "limits"}
    normalised = json.dumps({**said, "datasets": datasets}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(normalised.encode()).hexdigest()


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, or which there are."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known) or 'none'}"


def _check_limits(missing: Iterable[Mapping[str, Any]]) -> None:
    for limit in missing:
        if limit.get("until_days", limit["after_days"]) < limit["after_days"]:
            raise PolicyError(("limits", "missing"), "a limit ends before it begins", "make until_days the greater")


def _check_classes(classes: Mapping[str, str]) -> None:
    # FIELD_CLASSES goes from the most to the least sensitive: an earlier class is a tighter one.
    loosest: dict[str, int] = {}
    for field in (field for view in VIEWS.values() for field in view.values()):
        rank = FIELD_CLASSES.index(field.field_class)
        loosest[field.name] = min(rank, loosest.get(field.name, rank))
    for name, declared in classes.items():
        _expect(name, loosest, "field", ("classes", name))
        if FIELD_CLASSES.index(declared) > loosest[name]:
            actual = FIELD_CLASSES[loosest[name]]
            raise PolicyError(
                ("classes", name), f"{declared} loosens the class of {name}", f"it is {actual}: confirm or tighten that"
            )


def _compile_resolution(orders: Mapping[str, Iterable[str]]) -> Mapping[str, tuple[str, ...]]:
    for attribute, order in orders.items():
        path = ("resolution", attribute)
        _expect(attribute, ATTRIBUTES, "attribute", path)
        for feed in order:
            _expect(feed, (CUSTOMERS_FEED, *REGISTERS), "feed", path)
            if feed not in SPEAKERS[attribute]:
                said = ", ".join(SPEAKERS[attribute])
                raise PolicyError(path, f"{feed} says nothing of {attribute}", f"these do: {said}")
        if CUSTOMERS_FEED in SPEAKERS[attribute] and CUSTOMERS_FEED not in order:
            raise PolicyError(path, f"{CUSTOMERS_FEED} is not heard", "what customers say themselves has a place too")
    return {attribute: tuple(order) for attribute, order in orders.items()}


def _compile_dataset(name: str, spec: Mapping[str, Any], names: _Names) -> Dataset:
    path = ("datasets", name)
    zone: Zone = "analytics" if name.startswith("analytics.") else "operational"
    _expect(spec["view"], VIEWS, "view", (*path, "view"))
    _expect_all(spec["audience"], names.roles, "role", (*path, "audience"))
    _expect_all(spec["purposes"], names.purposes, "purpose", (*path, "purposes"))
    if zone == "analytics" and VIEW_KINDS[spec["view"]] != "cell":
        raise PolicyError((*path, "view"), f"analytics may not select from {spec['view']}", "use readings or daily")
    view = VIEWS[spec["view"]]
    _check_where(spec.get("where", {}), view, (*path, "where"))
    columns = tuple(_compile_columns(spec["fields"], view, (*path, "fields")))
    if not columns:
        raise PolicyError((*path, "fields"), "nothing is left in this dataset", "keep a field or remove the dataset")
    if zone == "analytics":
        for column in columns:
            field_class = names.classes.get(column.source, view[column.source].field_class)
            _check_protection(column, field_class, (*path, "fields", column.name))
    _check_domain(spec, columns, names, path)
    return Dataset(
        name=name,
        zone=zone,
        view=spec["view"],
        audience=frozenset(spec["audience"]),
        purposes=frozenset(spec["purposes"]),
        domain=spec.get("domain", ""),
        epoch=_EPOCHS[spec.get("epoch", "none")],
        where=dict(spec.get("where", {})),
        retention_days=_read_days(spec["retention"]) if "retention" in spec else None,
        columns=columns,
    )


def _compile_columns(fields: Mapping[str, Any], view: Mapping[str, Field], path: Path) -> Iterator[Column]:
    for name, spec in fields.items():
        if spec == "drop":
            _expect(name, view, "field", (*path, name))
        else:
            yield _compile_column(name, spec, view, (*path, name))


def _compile_column(name: str, spec: Any, view: Mapping[str, Field], path: Path) -> Column:
    source = name if spec == "keep" else spec.get("from", name)
    _expect(source, view, "field", path)
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
            _expect(entity, ENTITIES, "entity", path)
            rule = Pseudonymise(entity)
        case {"generalise": "year"}:
            rule = Year()
        case {"generalise": {"postal_prefix": digits}}:
            rule = PostalPrefix(digits)
        case {"generalise": {"band": edges}}:
            if any(low >= high for low, high in pairwise(edges)):
                raise PolicyError(path, "the edges of a band do not ascend", "sort them, each once")
            rule = Band(tuple(edges))
        case {"round": step}:
            millionths = Decimal(str(step)) * _MILLIONTHS
            if millionths % 1:
                raise PolicyError(path, "the step has more decimals than the values", "give it six at most")
            rule = Round(int(millionths))
        case {"mask": {"keep_last": keep_last}}:
            rule = Mask(keep_last)
        case _:
            rule = Keep()
    return rule


def _check_where(where: Mapping[str, str | bool], view: Mapping[str, Field], path: Path) -> None:
    for name, value in where.items():
        _expect(name, view, "field", (*path, name))
        fits = pa.types.is_boolean if isinstance(value, bool) else pa.types.is_string
        if not fits(view[name].type):
            raise PolicyError((*path, name), f"{name} has no such values", f"it is {view[name].type}")


def _check_protection(column: Column, field_class: str, path: Path) -> None:
    if field_class in _ANALYTICS_RULES:
        enough, remedy = _ANALYTICS_RULES[field_class]
        if not isinstance(column.rule, enough):
            raise PolicyError(path, f"analytics may not hold {column.source} ({field_class}) this way", remedy)


def _check_domain(spec: Mapping[str, Any], columns: tuple[Column, ...], names: _Names, path: Path) -> None:
    pseudonymised = any(isinstance(column.rule, Pseudonymise) for column in columns)
    if "domain" not in spec:
        if pseudonymised or "epoch" in spec:
            raise PolicyError(path, "pseudonyms and their epoch need a domain", "name one of the policy's domains")
        return
    _expect(spec["domain"], names.domains, "domain", (*path, "domain"))
    if not pseudonymised:
        raise PolicyError((*path, "domain"), "nothing is pseudonymised here", "leave the domain out")
    if set(spec["audience"]) != set(names.domains[spec["domain"]]):
        raise PolicyError(
            (*path, "domain"),
            f"{spec['domain']} belongs to another audience, and its pseudonyms would link the two",
            "give each audience a domain of its own",
        )


def _check_state(datasets: Mapping[str, Dataset]) -> None:
    path = ("datasets", STATE_TABLE)
    if STATE_TABLE not in datasets:
        raise PolicyError(path[:1], f"{STATE_TABLE} is missing", "readings are merged into it")
    state = datasets[STATE_TABLE]
    if state.view != "readings" or state.where:
        raise PolicyError(path, "every reading is merged into this table", "use the view readings without where")
    kept = {column.name for column in state.columns if isinstance(column.rule, Keep)}
    if missing := [name for name in STATE_FIELDS if name not in kept]:
        raise PolicyError(
            (*path, "fields"), f"the merge needs {', '.join(missing)} again", "keep every field of the state"
        )


def _read_days(retention: str) -> int:
    number, unit = retention.split()
    return math.ceil(int(number) * _DAYS[unit.rstrip("s")])


def _expect_all(given: Iterable[str], known: Iterable[str], what: str, path: Path) -> None:
    for name in given:
        _expect(name, known, what, path)


def _expect(name: str, known: Iterable[str], what: str, path: Path) -> None:
    if name not in known:
        raise PolicyError(path, f"there is no {what} '{name}'", suggest_name(name, known))
