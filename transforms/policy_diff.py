"""What another policy would change: who gains what, who loses what, and what comes in another form."""

from collections.abc import Iterator
from dataclasses import dataclass

from transforms.grants import Access, list_access
from transforms.plan import Plan

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        who: a role, a recipient, or a user or ``@group`` who is granted a role.
        change: ``gains``, ``loses`` or ``changes``.
        what: a column of a dataset, ``disclosure to`` a recipient, or ``role`` and its name.
        before: its form and purposes before; empty where it was not there.
        after: its form and purposes after; empty where it is gone.
    """

    who: str
    change: str
    what: str
    before: str
    after: str


def compare_policies(old: Plan, new: Plan) -> list[Change]:
    """List what a policy changes of another one: for roles and recipients, what they hand out, for users and groups."""
    return [*_compare_access(old, new), *_compare_disclosure(old, new), *_compare_grants(old, new)]


def _compare_access(old: Plan, new: Plan) -> Iterator[Change]:
    before, after = ({_key(row): row for row in list_access(plan)} for plan in (old, new))
    for key in {**before, **after}:
        was, now = _describe(before.get(key)), _describe(after.get(key))
        if was != now:
            who, dataset, column = key
            yield Change(who, _name(was, now), f"{dataset}.{column}", was, now)


def _compare_disclosure(old: Plan, new: Plan) -> Iterator[Change]:
    before, after = (
        {(role, name) for name, recipient in plan.recipients.items() for role in recipient.disclosed_by}
        for plan in (old, new)
    )
    for role, name in sorted(before ^ after):
        was, now = ("granted" if (role, name) in having else "" for having in (before, after))
        yield Change(role, _name(was, now), f"disclosure to {name}", was, now)


def _compare_grants(old: Plan, new: Plan) -> Iterator[Change]:
    for who in {**old.grants, **new.grants}:
        had, has = old.grants.get(who, frozenset()), new.grants.get(who, frozenset())
        for role in sorted(had ^ has):
            was, now = ("granted" if role in roles else "" for roles in (had, has))
            yield Change(who, _name(was, now), f"role {role}", was, now)


def _key(row: Access) -> _Key:
    return row.audience, row.dataset, row.column


def _describe(row: Access | None) -> str:
    if row is None:
        return ""
    source = "" if row.field == row.column else f" of {row.field}"
    domain = f" in {row.domain}" if row.shown == "pseudonym" else ""
    epoch = f", new every {row.epoch}" if row.epoch and row.shown == "pseudonym" else ""
    shared = f", {row.shared}" if row.shared else ""
    where = f", where {row.rows}" if row.rows else ""
    kept = "" if row.retention_days is None else f", for {row.retention_days} days"
    return f"{row.form}{source}{domain}{epoch}{shared}{where}{kept}, for {', '.join(row.purposes)}"


def _name(was: str, now: str) -> str:
    return "changes" if was and now else "gains" if now else "loses"
