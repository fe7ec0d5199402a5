"""What a policy grants, as rows: who may see which field, in which form, for which purpose, and how long."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from schemas.views import VIEWS
from transforms.plan import (
    Band,
    Column,
    Dataset,
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
from transforms.policy_use import class_shown

_MILLIONTHS = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Access:
    """One column of one dataset, for one audience.

    Attributes:
        audience: a role, or a recipient.
        zone: where the dataset is.
        dataset: its name.
        column: the column's name.
        field: the field of the view that it is made from.
        field_class: how sensitive that is, by the policy.
        shown: class of what a reader sees: ``pseudonym``, or one of ``schemas.views.FIELD_CLASSES``.
        form: what becomes of the field, in words.
        rows: which rows the dataset has, in words; empty for all.
        shared: how many sites share what it tells, in words; empty where that is not asked for.
        purposes: what the audience may read it for.
        domain: pseudonymisation domain of the dataset, or empty.
        epoch: after which its pseudonyms change, or empty.
        retention_days: how long a row is kept, or None.
    """

    audience: str
    zone: Zone
    dataset: str
    column: str
    field: str
    field_class: str
    shown: str
    form: str
    rows: str
    shared: str
    purposes: tuple[str, ...]
    domain: str
    epoch: str
    retention_days: int | None


def list_access(plan: Plan) -> list[Access]:
    """List all that a policy grants, by audience, dataset and column in their order; what is not here nobody has."""
    rows = [row for dataset in plan.datasets.values() for row in _list_dataset(plan, dataset)]
    order = list(audiences_of(plan))
    return sorted(rows, key=lambda row: (order.index(row.audience), row.zone == "analytics"))


def audiences_of(plan: Plan) -> Mapping[str, str]:
    """List roles and then recipients, each with what it is: ``role``, or the kind of recipient."""
    return dict.fromkeys(plan.roles, "role") | {name: recipient.kind for name, recipient in plan.recipients.items()}


def class_of(plan: Plan, dataset: Dataset, column: Column) -> str:
    """Give the class of the field that a column is made from, by the policy."""
    field = VIEWS[dataset.view][column.source]
    return plan.classes.get(field.name, field.field_class)


def describe_rule(rule: Rule) -> str:
    """Say what a rule makes of a value."""
    match rule:
        case Keep():
            made = "kept"
        case Pseudonymise(entity):
            made = f"pseudonym of the {entity.replace('_', ' ')}"
        case PostalPrefix(digits):
            made = f"first {digits} digits" if digits > 1 else "first digit"
        case Band(edges):
            made = f"band, from {', '.join(map(str, edges))}"
        case Year():
            made = "year"
        case Round(step):
            made = f"rounded to {(step / _MILLIONTHS).normalize():f}"
        case Mask(keep_last):
            made = f"hidden but for the last {keep_last}" if keep_last else "hidden"
    return made


def describe_where(dataset: Dataset) -> str:
    """Say which rows a dataset has; empty for all."""
    return " and ".join(
        f"{field} is {json.dumps(value, ensure_ascii=False)}" for field, value in sorted(dataset.where.items())
    )


def describe_groups(dataset: Dataset) -> str:
    """Say how many sites share what a dataset tells; empty where that is not asked for."""
    if dataset.anonymity:
        columns = ", ".join(dataset.anonymity.columns)
        return f"coarser until {dataset.anonymity.k} sites share {columns}"
    if dataset.disclosure:
        rule = dataset.disclosure
        return f"of {rule.minimum} sites or more, none with more than {_percent(rule.dominance)}"
    return ""


def _percent(share: float) -> str:
    # By its shortest digits: another share is another text.
    return f"{(Decimal(repr(share)) * 100).normalize():f} %"


def _list_dataset(plan: Plan, dataset: Dataset) -> Iterator[Access]:
    for audience in sorted(dataset.audience):
        for column in dataset.columns:
            field_class = class_of(plan, dataset, column)
            yield Access(
                audience=audience,
                zone=dataset.zone,
                dataset=dataset.name,
                column=column.name,
                field=column.source,
                field_class=field_class,
                shown=class_shown(column, field_class),
                form=describe_rule(column.rule),
                rows=describe_where(dataset),
                shared=describe_groups(dataset),
                purposes=tuple(sorted(dataset.purposes)),
                domain=dataset.domain,
                epoch=dataset.epoch,
                retention_days=dataset.retention_days,
            )
