"""Target groups: by rules that anybody can read, all of whose conditions must hold; with the reason in words."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.plan import Condition, TargetGroup

Mask = npt.NDArray[np.bool_]


def assign_groups(
    features: Mapping[str, pa.Array], owner: npt.NDArray[np.int64], count: int, groups: Mapping[str, TargetGroup]
) -> tuple[pa.Array, pa.Array]:
    """Assign the first group whose conditions all hold.

    Args:
        features: feature of ``schemas.features.FEATURES`` to its values: a row for each contract of a customer, and one
            for a customer without any. ``interest`` has lists.
        owner: int64 [rows], the customer of each row.
        count: number of customers.
        groups: in the order in which they are tried.

    Returns:
        Group and reason, string [customers]; null where no group fits. A reason is the rule, never a value of a
        person's own.
    """
    chosen = np.full(count, -1, np.int64)
    for number, group in enumerate(groups.values()):
        rows = np.ones(len(owner), bool)
        for condition in group.conditions:
            rows &= _holds(features[condition.feature], condition)
        fits = np.zeros(count, bool)
        fits[owner[rows]] = True
        chosen[fits & (chosen < 0)] = number
    names = pa.array(list(groups), pa.string())
    reasons = pa.array([_tell(group.conditions) for group in groups.values()], pa.string())
    place = pa.array(chosen, mask=chosen < 0)
    return names.take(place), reasons.take(place)


def _holds(values: pa.Array, condition: Condition) -> Mask:
    """Tell where a condition holds; never where nothing is known."""
    if pa.types.is_list(values.type):
        found = np.zeros(len(values), bool)
        inside = pc.list_parent_indices(values).filter(pc.equal(pc.list_flatten(values), condition.value))
        found[inside.to_numpy()] = True
        return found
    compare = {"is": pc.equal, "at_least": pc.greater_equal, "below": pc.less}[condition.test]
    known: Mask = pc.fill_null(compare(values, pa.scalar(condition.value)), False).to_numpy(zero_copy_only=False)
    return known


def _tell(conditions: Sequence[Condition]) -> str:
    return "; ".join(f"{one.feature} {one.test.replace('_', ' ')} {one.value}" for one in conditions)
