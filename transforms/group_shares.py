"""Shares of target groups by area, so that a rule which singles out a neighbourhood is seen; nobody in them is.

A share tells of people twice: who is in a group, and who is not. So both counts go through the control of sums over
areas (``transforms.disclosure``), and a share is shown where both may be. What is hidden for one is then hidden for
the other, which only makes the rests greater. A count of none is hidden like a small one. How many are in no group at
all is never told: the groups' counts could be subtracted from it.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.disclosure import REASONS, Groups, suppress
from transforms.plan import Disclosure

Ints = npt.NDArray[np.int64]

#: Of each level, an area and a group: people whom marketing may reach, and those of them in the group.
SHARES_SCHEMA = pa.schema(
    [
        pa.field("level", pa.string(), nullable=False),
        pa.field("municipality", pa.string()),
        pa.field("postal_code", pa.string()),
        pa.field("target_group", pa.string(), nullable=False),
        pa.field("people", pa.int64()),
        pa.field("members", pa.int64()),
        pa.field("share", pa.float64()),
        pa.field("suppressed", pa.string()),
    ]
)


def share_groups(people: pa.Table, groups: list[str], rule: Disclosure) -> pa.Table:
    """Count the members of target groups by area.

    Args:
        people: a row for each whom marketing may reach, with ``municipality``, ``postal_code`` and ``target_group``;
            string, null where unknown or none.
        groups: the policy's target groups.
        rule: how many a group must have to be told; dominance is of no account here, a person counts as one.

    Returns:
        Rows of ``SHARES_SCHEMA``: by group, the whole, its municipalities, their postal codes; counts are null where
        ``suppressed`` says why.
    """
    places = pa.table({name: pc.fill_null(people[name], "") for name in ("municipality", "postal_code")})
    areas = places.group_by(["municipality", "postal_code"]).aggregate([([], "count_all")])
    areas = areas.sort_by([("municipality", "ascending"), ("postal_code", "ascending")]).combine_chunks()
    if not areas.num_rows or not groups:
        return SHARES_SCHEMA.empty_table()
    keys = [pc.binary_join_element_wise(table["municipality"], table["postal_code"], "\n") for table in (places, areas)]
    place = pc.index_in(keys[0], keys[1].combine_chunks()).to_numpy()
    group = pc.fill_null(pc.index_in(people["target_group"], pa.array(groups, pa.string())), len(groups)).to_numpy()
    members = np.zeros((len(groups) + 1, areas.num_rows), np.int64)
    np.add.at(members, (group, place), 1)
    return _protect(members[:-1], areas, groups, rule)


def _protect(members: Ints, areas: pa.Table, groups: list[str], rule: Disclosure) -> pa.Table:
    """Hide what may not be told of members, int64 [groups, areas]."""
    count, width = members.shape
    people = np.broadcast_to(areas["count_all"].to_numpy(), members.shape)
    names, of = np.unique(areas["municipality"].to_numpy(), return_inverse=True)
    table = np.repeat(np.arange(count), width)
    found = [
        suppress(table, np.tile(of, count), Groups(part.ravel(), part.ravel(), np.minimum(part, 1).ravel()), rule)
        for part in (members, people - members)
    ]
    into = np.eye(len(names), dtype=np.int64)[of]
    levels = (
        ("all", members.sum(axis=1, keepdims=True), people.sum(axis=1, keepdims=True), [one.wholes for one in found]),
        ("municipality", members @ into, people @ into, [one.municipalities for one in found]),
        ("postal_code", members, people, [one.areas for one in found]),
    )
    rows = []
    for level, some, all_, (reason, other) in levels:
        number = some.shape[1]
        hidden = np.where(reason == 0, other, reason)
        shown = pa.array(hidden == 0)
        counts = {"people": pa.array(all_.ravel()), "members": pa.array(some.ravel())}
        counts["share"] = pc.round(pc.divide(counts["members"].cast(pa.float64()), counts["people"]), 4)
        at = np.tile(np.arange(number), count)
        none = pa.nulls(len(at), pa.string())
        match level:
            case "all":
                municipality, code = none, none
            case "municipality":
                municipality, code = pa.array(names, pa.string()).take(pa.array(at)), none
            case _:
                municipality, code = (areas[name].take(pa.array(at)) for name in ("municipality", "postal_code"))
        columns = {
            "level": pa.repeat(level, len(at)),
            "municipality": municipality,
            "postal_code": code,
            "target_group": pa.array(groups).take(pa.array(np.repeat(np.arange(count), number))),
            **{name: pc.if_else(shown, values, None) for name, values in counts.items()},
            "suppressed": pc.if_else(shown, None, pa.array(REASONS).take(pa.array(hidden))),
        }
        rows.append(pa.table([columns[name] for name in SHARES_SCHEMA.names], schema=SHARES_SCHEMA))
    return pa.concat_tables(rows).combine_chunks()
