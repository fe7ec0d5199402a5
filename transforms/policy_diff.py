"""What another policy would change: who gains what, who loses what, what comes in another form, why and how long.

What a policy says of a dataset as a whole, of purposes, feeds or limits, is told once, not at every column that it is
about. Two policies that compile to different plans differ in what is told here.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from transforms.grants import Access, describe_groups, describe_where, list_access
from transforms.limits import MissingLimit, QuarantineLimit
from transforms.plan import Condition, Plan, Text

#: Parts of a policy in the order in which changes are told, each with its heading.
PARTS: Mapping[str, str] = {
    "columns": "Who sees what",
    "disclosure": "Who hands out to whom",
    "grants": "Who acts in which role",
    "datasets": "Datasets as a whole",
    "purposes": "Purposes",
    "roles": "Roles",
    "recipients": "Recipients",
    "domains": "Whose pseudonyms",
    "classes": "Classes of fields",
    "sources": "Feeds in use",
    "resolution": "Who is believed about a customer, first to last",
    "marketing": "Marketing",
    "target_groups": "Target groups",
    "limits": "Limits of a run",
    "publish_after": "Publication",
    "controller": "Who answers for the processing",
    "tables": "Tables of a lake",
}

#: What it is on; the value that tells whether it differs; the same in words.
_Said = tuple[str, Any, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        part: of the policy, of ``PARTS``.
        who: a role, a recipient, or a user or ``@group``; of a dataset as a whole its audience; empty where it is
            about nobody in particular.
        change: ``gains``, ``loses`` or ``changes``.
        what: a column of a dataset, ``disclosure to`` a recipient, ``role`` and its name, or what is said of what.
        before: how it was; empty where it was not there.
        after: how it is; empty where it is gone.
    """

    part: str
    who: str
    change: str
    what: str
    before: str
    after: str


def compare_policies(old: Plan, new: Plan) -> list[Change]:
    """List what a policy changes of another one, part by part as in ``PARTS``; nothing only if the plans are equal."""
    changes = [
        *_compare_columns(old, new),
        *_compare_given("disclosure", _list_disclosure(old), _list_disclosure(new)),
        *_compare_given("grants", _list_roles(old), _list_roles(new)),
        *_compare_datasets(old, new),
    ]
    for part, list_said in _SAID.items():
        changes += _compare_said(part, "", list_said(old), list_said(new))
    # Nothing else may tell of it: a field that is dropped aloud, say.
    if old.digest != new.digest:
        changes.append(Change("tables", "", "changes", "rows", "as they are", "made again by meterveil rebuild"))
    return changes


def _compare_columns(old: Plan, new: Plan) -> Iterator[Change]:
    before, after = ({(row.audience, row.dataset, row.column): row for row in list_access(plan)} for plan in (old, new))
    for key in {**before, **after}:
        had, has = before.get(key), after.get(key)
        was, now = (_describe_column(row) if row else "" for row in (had, has))
        if was != now:
            if had is None or has is None:
                # Where both have the column, what holds of all rows is told of the dataset.
                was, now = (f"{text}{_describe_rows(row)}" if row else "" for text, row in ((was, had), (now, has)))
            who, dataset, column = key
            yield Change("columns", who, _name(was, now), f"{dataset}.{column}", was, now)


def _compare_given(part: str, before: Iterable[tuple[str, str]], after: Iterable[tuple[str, str]]) -> Iterator[Change]:
    had, has = set(before), set(after)
    for who, what in sorted(had ^ has):
        was, now = ("granted" if (who, what) in having else "" for having in (had, has))
        yield Change(part, who, _name(was, now), what, was, now)


def _compare_said(part: str, who: str, before: Iterable[_Said], after: Iterable[_Said]) -> Iterator[Change]:
    had, has = ({what: (value, words) for what, value, words in said} for said in (before, after))
    for what in {**had, **has}:
        (was, was_said), (now, now_said) = (said.get(what, (None, "")) for said in (had, has))
        if was != now:
            yield Change(part, who, _name(was_said, now_said), what, was_said, now_said)


def _compare_datasets(old: Plan, new: Plan) -> Iterator[Change]:
    """Compare as wholes the datasets that both have; of another one its columns tell all."""
    for name, was in old.datasets.items():
        if now := new.datasets.get(name):
            who = ", ".join(sorted(was.audience | now.audience))
            said = (
                (
                    (f"{name}: view", one.view, one.view),
                    (f"{name}: rows", one.where, describe_where(one) or "all"),
                    (f"{name}: shared", (one.anonymity, one.disclosure), describe_groups(one) or "not asked for"),
                    (f"{name}: purposes", one.purposes, ", ".join(sorted(one.purposes))),
                    (f"{name}: retention", one.retention_days, _describe_days(one.retention_days)),
                    _say_order(f"{name}: order of columns", *([c.name for c in both.columns] for both in (one, other))),
                )
                for one, other in ((was, now), (now, was))
            )
            yield from _compare_said("datasets", who, *said)


def _list_disclosure(plan: Plan) -> Iterator[tuple[str, str]]:
    for name, recipient in plan.recipients.items():
        yield from ((role, f"disclosure to {name}") for role in recipient.disclosed_by)


def _list_roles(plan: Plan) -> Iterator[tuple[str, str]]:
    for who, roles in plan.grants.items():
        yield from ((who, f"role {role}") for role in roles or ("none",))


def _say_purposes(plan: Plan) -> Iterator[_Said]:
    for name, purpose in plan.purposes.items():
        yield f"{name}: legal basis", purpose.legal_basis, purpose.legal_basis
        yield from _say_text(f"{name}: ground", purpose.ground)
        yield f"{name}: origin", purpose.origin, purpose.origin
        yield from _say_text(name, purpose.description)
        yield f"{name}: classes", purpose.classes, ", ".join(sorted(purpose.classes)) or "none"


def _say_recipients(plan: Plan) -> Iterator[_Said]:
    for name, recipient in plan.recipients.items():
        yield f"{name}: kind", recipient.kind, recipient.kind
        yield from _say_text(name, recipient.description)


def _say_groups(plan: Plan) -> Iterator[_Said]:
    for name, group in plan.target_groups.items():
        conditions = group.conditions
        yield f"{name}: when", conditions, " and ".join(map(_describe_condition, conditions))
        yield from _say_text(name, group.description)
    # A customer is in the first group that fits.
    yield "order", tuple(plan.target_groups), ", ".join(plan.target_groups) or "no groups"


def _say_limits(plan: Plan) -> Iterator[_Said]:
    limits = plan.limits
    if limits.quarantined:
        yield "quarantined", limits.quarantined, _describe_limit(limits.quarantined)
    if limits.missing:
        yield "missing", limits.missing, "; ".join(map(_describe_limit, limits.missing))


def _say_controller(plan: Plan) -> Iterator[_Said]:
    controller = plan.controller
    for what, words in (
        ("name", controller.name),
        ("contact", controller.contact),
        ("business id", controller.business_id or "not said"),
    ):
        yield what, words, words


def _say_text(what: str, text: Text) -> Iterator[_Said]:
    for language, words in text.items():
        yield f"{what} ({language})", words, words or "not said"


def _say_names(names: Mapping[str, Iterable[str]]) -> Iterator[_Said]:
    for name, listed in names.items():
        yield name, listed, ", ".join(listed if isinstance(listed, tuple) else sorted(listed))


def _say_order(what: str, names: list[str], others: list[str]) -> _Said:
    """Say in which order names stand that others have too."""
    order = [name for name in names if name in others]
    return what, order, ", ".join(order)


_SAID = {
    "purposes": _say_purposes,
    "roles": lambda plan: chain.from_iterable(_say_text(name, text) for name, text in plan.roles.items()),
    "recipients": _say_recipients,
    "domains": lambda plan: _say_names(plan.domains),
    "classes": lambda plan: ((name, declared, declared) for name, declared in plan.classes.items()),
    "sources": lambda plan: chain.from_iterable(_say_text(name, text) for name, text in plan.sources.items()),
    "resolution": lambda plan: _say_names(plan.resolution),
    "marketing": lambda plan: [("age of the ban list", plan.ban_list_days, f"at most {plan.ban_list_days} days")],
    "target_groups": _say_groups,
    "limits": _say_limits,
    "publish_after": lambda plan: [("age of a day", plan.publish_after_days, f"{plan.publish_after_days} days")],
    "controller": _say_controller,
}


def _describe_column(row: Access) -> str:
    source = "" if row.field == row.column else f" of {row.field}"
    domain = f" in {row.domain}" if row.shown == "pseudonym" else ""
    epoch = f", new every {row.epoch}" if row.epoch and row.shown == "pseudonym" else ""
    return f"{row.form}{source}{domain}{epoch}"


def _describe_rows(row: Access) -> str:
    shared = f", {row.shared}" if row.shared else ""
    where = f", where {row.rows}" if row.rows else ""
    kept = "" if row.retention_days is None else f", for {_describe_days(row.retention_days)}"
    return f"{shared}{where}{kept}, for {', '.join(row.purposes)}"


def _describe_days(days: int | None) -> str:
    return "for ever" if days is None else f"{days} days"


def _describe_condition(condition: Condition) -> str:
    return f"{condition.feature} {condition.test.replace('_', ' ')} {condition.value}"


def _describe_limit(limit: QuarantineLimit | MissingLimit) -> str:
    when = f", from {limit.after_days} to {limit.until_days} days after" if isinstance(limit, MissingLimit) else ""
    return f"{limit.action} above a share of {limit.share}{when}"


def _name(was: str, now: str) -> str:
    return "changes" if was and now else "gains" if now else "loses"
