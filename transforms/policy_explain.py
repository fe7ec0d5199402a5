"""Why an audience sees a field, or why it doesn't, and what would grant it."""

from dataclasses import dataclass

from schemas.legal import LEGAL_BASES
from schemas.views import VIEWS
from transforms.grants import Access, audiences_of, list_access
from transforms.plan import Plan
from transforms.policy_errors import expect

#: Classes that every purpose may show.
_FREE = ("technical", "pseudonym")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a field is seen, in one column of one dataset and for one purpose.

    Attributes:
        access: the column.
        purpose: what for.
        legal_basis: of the purpose, with its place in the law.
        granted_to: users and groups who may act in the role; empty for a recipient.
    """

    access: Access
    purpose: str
    legal_basis: str
    granted_to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What there is to say of an audience and a field.

    Attributes:
        audience: the role, or the recipient.
        field: the field of the views.
        reasons: why it is seen; none if it isn't.
        others: audiences that see it.
        needed: what would grant it, a line each.
    """

    audience: str
    field: str
    reasons: tuple[Reason, ...]
    others: tuple[str, ...]
    needed: tuple[str, ...]


def explain_field(plan: Plan, audience: str, field: str) -> Explanation:
    """Explain.

    Args:
        plan: the policy.
        audience: a role or a recipient.
        field: a field of the views.

    Raises:
        PolicyError: there is no such audience or field.
    """
    expect(audience, audiences_of(plan), "role or recipient", ())
    expect(field, {name for view in VIEWS.values() for name in view}, "field", ())
    access = [row for row in list_access(plan) if row.field == field]
    reasons = [
        Reason(
            row,
            purpose,
            f"{plan.purposes[purpose].legal_basis}, {LEGAL_BASES[plan.purposes[purpose].legal_basis]}",
            tuple(sorted(who for who, roles in plan.grants.items() if audience in roles)),
        )
        for row in access
        if row.audience == audience
        for purpose in row.purposes
    ]
    others = tuple(sorted({row.audience for row in access} - {audience}))
    return Explanation(
        audience, field, tuple(reasons), others, () if reasons else tuple(_find_needed(plan, audience, field))
    )


def _find_needed(plan: Plan, audience: str, field: str) -> list[str]:
    """Say what is missing: a dataset, and a purpose that needs the field's class."""
    views = [name for name, view in VIEWS.items() if field in view]
    field_class = plan.classes.get(field, VIEWS[views[0]][field].field_class)
    own = [name for name, dataset in plan.datasets.items() if audience in dataset.audience and dataset.view in views]
    needing = [name for name, purpose in plan.purposes.items() if field_class in (*_FREE, *purpose.classes)]
    where = (
        f"{' or '.join(own)}, which {audience} reads" if own else f"a dataset of {' or '.join(views)} for {audience}"
    )
    needed = [f"a line for it among the fields of {where}"]
    if needing:
        needed.append(f"there, a purpose that needs a {field_class}: {', '.join(needing)}")
    else:
        needed.append(f"a purpose that needs a {field_class}: none does")
    return needed
