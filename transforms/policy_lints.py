"""What is allowed in a policy and yet probably not meant: one line each, with what to do."""

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.views import FIELD_CLASSES, VIEW_KINDS
from transforms.grants import list_access
from transforms.plan import ENTITIES, Dataset, Keep, Plan, Pseudonymise, Rule


@dataclass(frozen=True, slots=True)
class Lint:
    """One finding.

    Attributes:
        code: what kind it is.
        place: keys from the root of the policy, joined by a slash.
        problem: what is there.
        remedy: what to do.
    """

    code: str
    place: str
    problem: str
    remedy: str


def find_lints(plan: Plan) -> list[Lint]:
    """Look a policy over.

    ``unread``: nobody is granted any role of a dataset's audience. ``unused``: a role, recipient, purpose, domain or
    class that no dataset needs. ``retention``: rows that are kept for ever. ``linkable``: somebody reads the same
    points, sites or customers by their ids and under pseudonyms, and can match the two by their values.
    ``differenced``: somebody reads sums over areas that are suppressed by two rules, and can subtract one from another.
    """
    return [
        *_find_unread(plan),
        *_find_unused(plan),
        *_find_kept_for_ever(plan),
        *_find_linkable(plan),
        *_find_differenced(plan),
    ]


def _find_unread(plan: Plan) -> Iterator[Lint]:
    granted = frozenset().union(*plan.grants.values()) | plan.recipients.keys()
    for name, dataset in plan.datasets.items():
        if not dataset.audience & granted:
            roles = ", ".join(sorted(dataset.audience))
            yield Lint("unread", f"datasets/{name}", f"nobody is granted {roles}", "grant it, or drop the dataset")


def _find_unused(plan: Plan) -> Iterator[Lint]:
    datasets = plan.datasets.values()
    read = frozenset().union(*(dataset.audience for dataset in datasets))
    meant = frozenset().union(*(dataset.purposes for dataset in datasets))
    domains = {dataset.domain for dataset in datasets}
    for section, names, used in (
        ("roles", plan.roles, read | frozenset().union(*(one.disclosed_by for one in plan.recipients.values()))),
        # An authority is answered when it asks.
        ("recipients", [name for name, one in plan.recipients.items() if one.kind != "authority"], read),
        ("purposes", plan.purposes, meant),
        ("domains", plan.domains, domains),
    ):
        for name in names:
            if name not in used:
                yield Lint("unused", f"{section}/{name}", "no dataset needs it", "give it a dataset, or take it out")
    access = list_access(plan)
    for name, purpose in plan.purposes.items():
        shown = {row.shown for row in access if name in row.purposes}
        for field_class in sorted(purpose.classes - shown, key=FIELD_CLASSES.index) if name in meant else ():
            problem = f"no dataset for it shows any {field_class}"
            yield Lint("unused", f"purposes/{name}/classes", problem, "take the class out: it needs less than it says")


def _find_kept_for_ever(plan: Plan) -> Iterator[Lint]:
    for name, dataset in plan.datasets.items():
        # What is of customers goes with the reference; a run's record has the digests of files that are there.
        if dataset.retention_days is None and VIEW_KINDS[dataset.view] != "entity" and dataset.view != "runs":
            yield Lint("retention", f"datasets/{name}", "its rows are kept for ever", "say how long: retention")


def _find_linkable(plan: Plan) -> Iterator[Lint]:
    for place, own in _list_readers(plan):
        for entity, field in ENTITIES.items():
            hidden = [dataset.name for dataset in own if _shows(dataset, field, Pseudonymise)]
            open_ones = [dataset.name for dataset in own if _shows(dataset, field, Keep)]
            if hidden and open_ones:
                problem = (
                    f"the {entity.replace('_', ' ')} is told in {', '.join(open_ones)} "
                    f"and stands under pseudonyms in {', '.join(hidden)}"
                )
                yield Lint("linkable", place, problem, "grant them to different people")


def _find_differenced(plan: Plan) -> Iterator[Lint]:
    for place, own in _list_readers(plan):
        names = [dataset.name for dataset in own if dataset.disclosure]
        if len({dataset.disclosure for dataset in own if dataset.disclosure}) > 1:
            problem = f"what one of {', '.join(names)} suppresses can be worked out from the others: their rules differ"
            yield Lint("differenced", place, problem, "give them one rule, or grant them to different people")


def _list_readers(plan: Plan) -> Iterator[tuple[str, list[Dataset]]]:
    """List places of the policy that make somebody a reader, each with all the datasets that this one reads."""
    # Who is in which groups stands elsewhere; but everybody has what everybody is granted.
    everybody = plan.grants.get("*", frozenset())
    readers = {f"grants/{who}": roles if who == "*" else roles | everybody for who, roles in plan.grants.items()}
    readers |= {f"recipients/{name}": frozenset({name}) for name in plan.recipients}
    for place, roles in readers.items():
        yield place, [dataset for dataset in plan.datasets.values() if dataset.audience & roles]


def _shows(dataset: Dataset, field: str, rule: type[Rule]) -> bool:
    return any(column.source == field and isinstance(column.rule, rule) for column in dataset.columns)
