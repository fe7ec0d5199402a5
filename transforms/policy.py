"""Compiles a policy, already parsed and of the right shape, into a plan; refuses what would not protect anybody."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa

from schemas.registers import ATTRIBUTES, CUSTOMERS_FEED, REGISTERS, SPEAKERS
from schemas.views import OF_EACH_READING, VIEWS, Field
from transforms.limits import compile_limits
from transforms.load_features import find_months, list_sources, list_used
from transforms.plan import PUBLISH_AFTER_DAYS, Dataset, Epoch, Keep, Plan, TargetGroup, Zone
from transforms.policy_columns import compile_columns
from transforms.policy_errors import Path, PolicyError, expect, expect_all
from transforms.policy_groups import compile_anonymity, compile_disclosure
from transforms.policy_use import (
    ANALYTICS_RULES,
    Names,
    check_audience,
    check_classes,
    check_domain,
    check_domains,
    check_protection,
    check_restricted,
    check_use,
    compile_controller,
    compile_groups,
    compile_purposes,
    compile_recipients,
    compile_sources,
    read_text,
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

#: What a dataset says of its rows, besides its fields.
_OF_ROWS = ("view", "domain", "epoch", "where", "anonymity", "disclosure")
#: Views that analytics may select from.
ANALYTICS_VIEWS = ("readings", "daily", "sites", "months", "area_hours")
_EPOCHS: dict[str, Epoch] = {"none": "", "year": "year", "quarter": "quarter", "month": "month"}
_DAYS = {"day": Decimal(1), "month": Decimal("365.25") / 12, "year": Decimal("365.25")}


def compile_plan(document: Mapping[str, Any]) -> Plan:
    """Compile a policy.

    Args:
        document: the parsed policy, valid by ``schemas/policy.schema.json``; the order of a dataset's fields is the
            order of its columns.

    Raises:
        PolicyError: a name that means nothing, a rule that does not fit its field, or a dataset that would hold what
            its zone must not.
    """
    roles, domains = document["roles"], document.get("domains", {})
    classes = document.get("classes", {})
    recipients = compile_recipients(document.get("recipients", {}), roles)
    purposes = compile_purposes(document["purposes"])
    sources = compile_sources(document["sources"])
    check_classes(classes)
    for name, granted in document["grants"].items():
        expect_all(granted, roles, "role", ("grants", name))
    names = Names(classes, roles, recipients, purposes, domains)
    for name, audience in domains.items():
        check_audience(audience, names, ("domains", name))
    _check_limits(document.get("limits", {}))
    datasets = {name: _compile_dataset(name, spec, names) for name, spec in document["datasets"].items()}
    check_domains(datasets)
    _check_state(datasets)
    groups = compile_groups(document.get("target_groups", {}))
    _check_load(groups, datasets)
    return Plan(
        digest=digest_policy(document),
        datasets=datasets,
        roles={name: read_text(text) for name, text in roles.items()},
        purposes=purposes,
        grants={name: frozenset(granted) for name, granted in document["grants"].items()},
        controller=compile_controller(document["controller"]),
        recipients=recipients,
        sources=sources,
        classes=dict(classes),
        domains={name: frozenset(audience) for name, audience in domains.items()},
        target_groups=groups,
        ban_list_days=_read_days(document["marketing"]["ban_list"]) if "marketing" in document else 0,
        limits=compile_limits(document.get("limits", {})),
        publish_after_days=_read_days(document["publish_after"]) if "publish_after" in document else PUBLISH_AFTER_DAYS,
        resolution=_compile_resolution(document.get("resolution", {}), sources),
    )


def digest_policy(document: Mapping[str, Any]) -> str:
    """Compute the SHA-256, hex, of what a policy says of rows: the order of columns, too.

    Texts, purposes, audiences, grants, retention and limits change no row, so a lake takes them with its next run.
    """
    datasets = {
        name: {key: spec[key] for key in _OF_ROWS if key in spec} | {"fields": list(spec["fields"].items())}
        for name, spec in document["datasets"].items()
    }
    groups = {name: spec["when"] for name, spec in document.get("target_groups", {}).items()}
    said = {
        "version": document["version"],
        "datasets": datasets,
        "resolution": document.get("resolution", {}),
        "marketing": document.get("marketing", {}),
        "target_groups": list(groups.items()),
    }
    normalised = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(normalised.encode()).hexdigest()


def _check_load(groups: Mapping[str, TargetGroup], datasets: Mapping[str, Dataset]) -> None:
    """Refuse rules by the load of months that no dataset keeps: the policy would not show what they go by."""
    for name, group in groups.items():
        if (used := list_used({name: group})) and find_months(datasets, list_used(groups)) is None:
            raise PolicyError(
                ("target_groups", name, "when"),
                f"no operational dataset of the view months keeps what {', '.join(sorted(used))} is made from",
                f"keep {', '.join(list_sources(list_used(groups)))} in one, of all contracts",
            )


def _check_limits(limits: Mapping[str, Any]) -> None:
    missing = limits.get("missing", ())
    if any(math.isnan(limit["share"]) for limit in (*missing, limits.get("quarantined", {"share": 0}))):
        raise PolicyError(("limits",), "a share is no number, and would hold for nothing", "give one from 0 to 1")
    for limit in missing:
        if limit.get("until_days", limit["after_days"]) < limit["after_days"]:
            raise PolicyError(("limits", "missing"), "a limit ends before it begins", "make until_days the greater")


def _compile_resolution(orders: Mapping[str, Iterable[str]], sources: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    for attribute, order in orders.items():
        path = ("resolution", attribute)
        expect(attribute, ATTRIBUTES, "attribute", path)
        for feed in order:
            expect(feed, (CUSTOMERS_FEED, *REGISTERS), "feed", path)
            if feed not in sources:
                raise PolicyError(path, f"{feed} is not among the sources", "list it there, or leave it out here")
            if feed not in SPEAKERS[attribute]:
                said = ", ".join(SPEAKERS[attribute])
                raise PolicyError(path, f"{feed} says nothing of {attribute}", f"these do: {said}")
        if CUSTOMERS_FEED in SPEAKERS[attribute] and CUSTOMERS_FEED not in order:
            raise PolicyError(path, f"{CUSTOMERS_FEED} is not heard", "what customers say themselves has a place too")
    return {attribute: tuple(order) for attribute, order in orders.items()}


def _check_periods(spec: Mapping[str, Any], path: Path) -> None:
    if spec["view"] != "sites":
        return
    if "retention" not in spec:
        raise PolicyError(path, "sites have a row for every year that is kept", "say how long: retention")
    if spec.get("epoch", "none") not in {"none", "year"}:
        raise PolicyError((*path, "epoch"), "rows of sites are of years", "use year or none")


def _compile_dataset(name: str, spec: Mapping[str, Any], names: Names) -> Dataset:
    path = ("datasets", name)
    zone: Zone = "analytics" if name.startswith("analytics.") else "operational"
    expect(spec["view"], VIEWS, "view", (*path, "view"))
    check_audience(spec["audience"], names, (*path, "audience"))
    expect_all(spec["purposes"], names.purposes, "purpose", (*path, "purposes"))
    if zone == "analytics" and spec["view"] not in ANALYTICS_VIEWS:
        remedy = f"use {', '.join(ANALYTICS_VIEWS[:-1])} or {ANALYTICS_VIEWS[-1]}"
        raise PolicyError((*path, "view"), f"analytics may not select from {spec['view']}", remedy)
    view = VIEWS[spec["view"]]
    _check_periods(spec, path)
    _check_where(zone, spec.get("where", {}), view, names, (*path, "where"))
    columns = tuple(compile_columns(spec["fields"], view, (*path, "fields")))
    if not columns:
        raise PolicyError((*path, "fields"), "nothing is left in this dataset", "keep a field or remove the dataset")
    check_protection(zone, columns, view, names, path)
    check_use(columns, view, names, spec, path)
    check_restricted(spec, columns, view, names, path)
    check_domain(spec, columns, names, path)
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
        anonymity=compile_anonymity(spec, zone, columns, view, names, path),
        disclosure=compile_disclosure(spec, path),
    )


def _check_where(
    zone: Zone, where: Mapping[str, str | bool], view: Mapping[str, Field], names: Names, path: Path
) -> None:
    for name, value in where.items():
        expect(name, view, "field", (*path, name))
        fits = pa.types.is_boolean if isinstance(value, bool) else pa.types.is_string
        if not fits(view[name].type):
            raise PolicyError((*path, name), f"{name} has no such values", f"it is {view[name].type}")
        if view is VIEWS["readings"] and name in OF_EACH_READING:
            raise PolicyError((*path, name), f"readings of a day differ in {name}", "filter by what holds all day")
        # All rows would be of one customer, or of one street: what no column may show, the filter would tell.
        if zone == "analytics" and isinstance(value, str) and names.class_of(view[name]) in ANALYTICS_RULES:
            raise PolicyError((*path, name), f"this tells {name} of every row", "leave it out")


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
