"""Disclosure control of sums over areas: which cells may be shown, so that nothing can be subtracted out.

Areas nest: postal areas in municipalities, these in the whole. Whatever cells are shown, all that can be worked out of
them by adding and subtracting are sums over what each shown area has besides the shown areas within it: its *rest*.
Rests do not overlap. So a table is safe if every rest is, by the same rule that a cell must obey to be shown: enough
sites, none of them too great. That rule, with a total next to a single suppressed cell suppressed too, is what
statistical offices know as minimum frequency, dominance and secondary suppression (A. Hundepool et al., Statistical
Disclosure Control, Wiley 2012, chapter 4); for energy it is the 15/15 rule.

Values that cannot be negative also bound each other. So a rest is made so great that its total is no good estimate of
any cell in it either: what is suppressed can't be told more exactly than by the share that a site may have.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transforms.plan import Disclosure

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Why a cell is not shown, in the order of their codes; 0 is shown.
REASONS = ("", "minimum", "dominance", "complementary")
_SHOWN, _MINIMUM, _DOMINANCE, _COMPLEMENTARY = range(len(REASONS))
#: Shares are compared in integers, as so many parts.
_PARTS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Groups of sites; aligned int64 arrays.

    Attributes:
        sites: distinct sites, at least so many as in the weakest of the tables that show who belongs to a group.
        size: sum of the absolute values of the sites' values.
        top: greatest absolute value of a site.
    """

    sites: Ints
    size: Ints
    top: Ints

    def take(self, chosen: npt.NDArray[np.generic]) -> "Groups":
        """Take groups by indices or a mask."""
        return Groups(self.sites[chosen], self.size[chosen], self.top[chosen])

    def merge(self, into: Ints, count: int, members: Mask | None = None) -> "Groups":
        """Merge groups, or those of them that are named, into groups 0 to ``count`` - 1."""
        one = slice(None) if members is None else members
        sites, size, top = (np.zeros(count, np.int64) for _ in range(3))
        np.add.at(sites, into[one], self.sites[one])
        np.add.at(size, into[one], self.size[one])
        np.maximum.at(top, into[one], self.top[one])
        return Groups(sites, size, top)


@dataclass(frozen=True, slots=True, eq=False)
class Suppression:
    """What is not shown, and why: codes of ``REASONS``, int8.

    Attributes:
        areas: one per postal area given.
        municipality: place of each area's municipality in the next two.
        tables: int64, the table of each municipality.
        municipalities: one per municipality and table.
        wholes: one per table.
    """

    areas: npt.NDArray[np.int8]
    municipality: Ints
    tables: Ints
    municipalities: npt.NDArray[np.int8]
    wholes: npt.NDArray[np.int8]


def suppress(table: Ints, municipality: Ints, areas: Groups, rule: Disclosure) -> Suppression:
    """Choose the cells that are not shown.

    Args:
        table: int64, which table each postal area stands in, 0 to the number of tables - 1: tables have no value in
            common, such as the hours of a day.
        municipality: int64, the municipality of each.
        areas: the postal areas that have sites.
        rule: when a group may be shown.
    """
    _, first, of = np.unique(np.stack([table, municipality]), axis=1, return_index=True, return_inverse=True)
    of, count = of.ravel(), len(first)
    tables, wholes = table[first], int(table.max()) + 1 if len(table) else 0
    reasons = _judge(areas, rule)
    unsafe = reasons != _SHOWN
    taken, closed = _cover(of, count, unsafe, areas.sites, areas, _needs(areas.size, areas.size, rule), rule)
    reasons[taken & ~unsafe] = _COMPLEMENTARY

    # A municipality whose rest can't be made safe is not shown, and its rest is part of the whole's.
    whole = areas.merge(of, count)
    rest = areas.merge(of, count, taken)
    complete = rest.sites == 0
    smallest = _find_smallest(of, count, areas.sites)
    offered = Groups(
        *(np.where(complete, getattr(areas, name)[smallest], getattr(rest, name)) for name in ("sites", "size", "top"))
    )
    # Such a one is cheap to suppress that has a rest already; of another one an area has to be suppressed with it.
    cost = offered.sites + np.where(complete, areas.sites.sum(), 0)
    hidden, whole_closed = _cover(tables, wholes, ~closed, cost, offered, _needs(rest.size, whole.size, rule), rule)
    municipalities = np.where(closed, np.int8(_SHOWN), _name(_judge(whole, rule)))
    municipalities[hidden & closed] = _COMPLEMENTARY
    reasons[smallest[hidden & closed & complete]] = _COMPLEMENTARY
    of_whole = _name(_judge(whole.merge(tables, wholes), rule))
    return Suppression(reasons, of, tables, municipalities, np.where(whole_closed, np.int8(_SHOWN), of_whole))


def _judge(groups: Groups, rule: Disclosure) -> npt.NDArray[np.int8]:
    """Say of groups by themselves whether they may be shown."""
    reasons = np.full(len(groups.sites), _SHOWN, np.int8)
    reasons[~_is_even(groups.size, groups.top, rule)] = _DOMINANCE
    reasons[groups.sites < rule.minimum] = _MINIMUM
    return reasons


def _name(reasons: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Give a reason for what is not shown though it could be, by itself."""
    return np.where(reasons == _SHOWN, np.int8(_COMPLEMENTARY), reasons)


def _is_even(size: Ints, top: Ints, rule: Disclosure) -> Mask:
    even: Mask = top * _PARTS <= size * _parts(rule)
    return even


def _parts(rule: Disclosure) -> int:
    return round(rule.dominance * _PARTS)


def _needs(left: Ints, size: Ints, rule: Disclosure) -> Ints:
    """Tell how great a rest must be to say little of a cell in it that has ``left`` there, and is ``size`` itself.

    Nothing would be as exact as a rest of zero: values are not negative, so all would be known.
    """
    needs: Ints = left + np.maximum(1, -(-size * _parts(rule) // _PARTS))
    return needs


def _cover(
    into: Ints, count: int, unsafe: Mask, cost: Ints, groups: Groups, needs: Ints, rule: Disclosure
) -> tuple[Mask, Mask]:
    """Merge unsafe groups with the cheapest others until what they make together is safe.

    Args:
        into: the area that each group is part of, 0 to ``count`` - 1.
        count: number of areas.
        unsafe: groups that must not be shown.
        cost: what is taken first.
        groups: the groups.
        needs: how great a rest must be with an unsafe group in it.
        rule: when a group is safe.

    Returns:
        The groups that are not to be shown, and the areas that can be shown then. Of an area whose rest can't be made
        safe, no other group is taken.
    """
    order = np.lexsort((cost, ~unsafe, into))
    area, ordered, first = into[order], groups.take(order), unsafe[order]
    begins = np.searchsorted(area, np.arange(count))
    sums = Groups(
        _add_up(ordered.sites, area, begins), _add_up(ordered.size, area, begins), _greatest(ordered.top, area)
    )
    safe = (_judge(sums, rule) == _SHOWN) & (sums.size >= _greatest(np.where(first, needs[order], 0), area))
    place = np.arange(len(order)) - begins[area]
    least = np.bincount(into[unsafe], minlength=count)  # all that is unsafe is part of it, whatever else is
    ends = np.full(count, len(order))
    possible = np.flatnonzero(safe & (place >= least[area] - 1))
    np.minimum.at(ends, area[possible], place[possible])
    closed = (least == 0) | (ends < len(order))
    until = np.where(least == 0, -1, np.where(closed, ends, least - 1))
    taken = np.empty(len(order), bool)
    taken[order] = place <= until[area]
    return taken, closed


def _add_up(values: Ints, area: Ints, begins: Ints) -> Ints:
    """Add up within each area, row by row; areas stand together."""
    sums = np.cumsum(values)
    up: Ints = sums - (sums - values)[begins[area]] if len(values) else values
    return up


def _greatest(values: Ints, area: Ints) -> Ints:
    """Find the greatest value so far within each area, row by row; areas ascend."""
    distinct, rank = np.unique(values, return_inverse=True)
    found: Ints = distinct[np.maximum.accumulate(area * len(distinct) + rank) - area * len(distinct)]
    return found


def _find_smallest(into: Ints, count: int, sites: Ints) -> Ints:
    """Find the group with the fewest sites in each area."""
    order = np.lexsort((sites, into))
    smallest: Ints = order[np.searchsorted(into[order], np.arange(count))]
    return smallest
