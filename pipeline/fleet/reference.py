"""The metering points of a fleet, their sites and who held the contracts, as arrays."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import MeterveilError
from pipeline.fleet import load
from pipeline.fleet.draws import draw_below, draw_uniform
from pipeline.fleet.options import POINT_FAULTS, FleetOptions

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: ``valid_to`` of an open contract, in days since 1970: later than any day.
OPEN = np.iinfo(np.int64).max
#: Of the points that still deliver hours, the share that changes to quarter-hours within the days.
_CHANGING_SHARE = 5 / 14
#: Points that a fault of points is planted on: this share, and at least so many.
_POINT_FAULT_SHARE, _POINT_FAULT_LEAST = 0.002, 3

#: Every twelfth metering point is the producing point of the site before it.
_GROUP = 12
_ARCHETYPE_SHARES = (0.45, 0.2, 0.1, 0.15, 0.0, 0.1)
#: Offices of so many neighbouring sites belong to one company.
_COMPANY_SITES = 40

#: GSRNs are 6430, the range of Finland, and 13 digits that begin with 07; neighbours are 15 to 179 apart, so that ids
#: ascend with the index and differ in more than their last digit.
_FIRST_GSRN = 64300_700_000_000_000
_GSRN_STRIDE, _GSRN_JITTER = 97, 83


@dataclass(frozen=True, eq=False)
class Contracts:
    """One contract of every metering point; all arrays are ``[point]``.

    Attributes:
        customer: number of the customer, -1 where there is no contract.
        valid_from: first local day, in days since 1970.
        valid_to: first local day after, ``OPEN`` while it lasts.
        signed_at: seconds since 1970 UTC.
    """

    customer: Ints
    valid_from: Ints
    valid_to: Ints
    signed_at: Ints

    def cover(self, points: Ints, day: int) -> Bools:
        """Tell which of the points the contract covers on a day."""
        covered: Bools = (self.customer[points] >= 0) & (self.valid_from[points] <= day) & (day < self.valid_to[points])
        return covered


@dataclass(frozen=True, eq=False)
class Fleet:
    """All metering points; all arrays are ``[point]``.

    Attributes:
        options: what was asked for.
        site: number of the usage site.
        archetype: index into ``load.ARCHETYPES``.
        fuse_a: main fuse in ampere.
        gsrn: the first 17 digits of the id.
        wrong_digit: whether the check digit is wrong.
        shortened: whether the id has 16 digits only and is no GSRN.
        known: whether the reference knows the point.
        quarters_from: first day on which it is metered by quarter-hours, in days since 1970.
        changes_at: the hour of that day from which it is.
        contracts: the contracts, older first; a point has none, the first or both.
    """

    options: FleetOptions
    site: Ints
    archetype: npt.NDArray[np.int8]
    fuse_a: Ints
    gsrn: Ints
    wrong_digit: Bools
    shortened: Bools
    known: Bools
    quarters_from: Ints
    changes_at: Ints
    contracts: tuple[Contracts, Contracts]

    @cached_property
    def producing(self) -> Bools:
        """Whether the points feed in, ``[point]``."""
        producing: Bools = self.archetype == load.PLANT
        return producing

    def name_points(self, points: Ints) -> Any:
        """Return the ids of metering points as an Arrow string array."""
        number = self.gsrn[points]
        digit = (compute_check_digit(number) + self.wrong_digit[points]) % 10
        whole = np.where(self.shortened[points], number // 10, number * 10 + digit)
        return pa.array(whole).cast(pa.string())


def name_numbers(prefix: str, numbers: Ints) -> Any:
    """Return ids such as ``C-10000042``; equal lengths, so that no id is a part of another. -1 becomes null."""
    digits = pa.array(numbers + 10_000_000, mask=numbers < 0).cast(pa.string())
    return pc.binary_join_element_wise(prefix, digits, "-")


def compute_check_digit(number: Ints) -> Ints:
    """Compute the check digit of GS1 ids: weights 3, 1, 3 … from the right of the digits given."""
    total, rest = np.zeros_like(number), number.copy()
    weight = 3
    while rest.any():
        total += rest % 10 * weight
        rest //= 10
        weight = 4 - weight
    return -total % 10


def build_fleet(options: FleetOptions) -> Fleet:
    """Build the fleet.

    Raises:
        MeterveilError: too few metering points for the faults asked for.
    """
    seed = options.seed
    points = np.arange(options.points)
    group, place = np.divmod(points, _GROUP)
    site = group * (_GROUP - 1) + np.minimum(place, _GROUP - 2)
    kinds = np.searchsorted(np.cumsum(_ARCHETYPE_SHARES), draw_uniform(seed, "archetype", site), side="right")
    kinds = np.where(place == _GROUP - 2, load.SOLAR, np.minimum(kinds, load.OFFICE))
    archetype = np.where(place == _GROUP - 1, load.PLANT, kinds).astype(np.int8)
    faulty = _choose_faulty_points(options, archetype != load.PLANT)
    odd = draw_below(2, seed, "no gsrn", points) == 1
    wrong_id = _mark(options.points, faulty["check_digit"])
    quarters_from, changes_at = _draw_metering(options, points)
    return Fleet(
        options=options,
        site=site,
        archetype=archetype,
        fuse_a=_draw_fuses(seed, site, archetype),
        gsrn=_FIRST_GSRN
        + draw_below(10**9, seed, "first gsrn")
        + points * _GSRN_STRIDE
        + draw_below(_GSRN_JITTER, seed, "gsrn", points),
        wrong_digit=wrong_id & ~odd,
        shortened=wrong_id & odd,
        known=~_mark(options.points, faulty["unknown_point"]),
        quarters_from=quarters_from,
        changes_at=changes_at,
        contracts=_draw_contracts(
            options, site, archetype, _mark(options.points, faulty["unknown_point"], faulty["no_contract"])
        ),
    )


def resolve_customers(fleet: Fleet, points: Ints, day: int) -> tuple[Ints, Bools]:
    """Resolve who held the contract at each of the points on a day.

    Returns:
        The number of the customer, -1 for none, and whether two contracts covered the day; both as long as ``points``.
    """
    older, newer = fleet.contracts
    by_older, by_newer = older.cover(points, day), newer.cover(points, day)
    newer_counts = by_newer & (~by_older | (newer.signed_at[points] > older.signed_at[points]))
    customer = np.where(newer_counts, newer.customer[points], np.where(by_older, older.customer[points], -1))
    return customer, by_older & by_newer


def _choose_faulty_points(options: FleetOptions, consuming: Bools) -> dict[str, Ints]:
    asked = [name for name in POINT_FAULTS if name in options.faults]
    each = max(_POINT_FAULT_LEAST, round(options.points * _POINT_FAULT_SHARE))
    candidates = np.flatnonzero(consuming)
    if len(candidates) < each * len(asked):
        raise MeterveilError(
            "too few metering points for the faults asked for", where="points", remedy="ask for more points"
        )
    chosen = np.random.default_rng([options.seed, 1]).choice(candidates, each * len(asked), replace=False)
    parts = dict(zip(asked, chosen.reshape(len(asked), each), strict=True))
    return {name: parts.get(name, np.array([], dtype=np.int64)) for name in POINT_FAULTS}


def _mark(count: int, *chosen: Ints) -> Bools:
    marked = np.zeros(count, dtype=np.bool_)
    marked[np.concatenate(chosen)] = True
    return marked


def _draw_fuses(seed: int, site: Ints, archetype: npt.NDArray[np.int8]) -> Ints:
    widest = max(len(kind.fuses_a) for kind in load.ARCHETYPES)
    table = np.array([np.resize(kind.fuses_a, widest) for kind in load.ARCHETYPES], dtype=np.int64)
    return np.asarray(table[archetype, draw_below(widest, seed, "fuse", site)])


def _draw_metering(options: FleetOptions, points: Ints) -> tuple[Ints, Ints]:
    """Draw from when a point is metered by quarter-hours: always, never, or from within the days."""
    first, last = _day_numbers(options)
    share = draw_uniform(options.seed, "metering", points)
    changing = first + draw_below(options.days, options.seed, "changes on", points)
    hourly = options.hourly_share
    quarters_from = np.select(
        [share < 1 - hourly, share < 1 - hourly * _CHANGING_SHARE], [first - 1000, last + 1], changing
    )
    return quarters_from, 1 + draw_below(22, options.seed, "changes at", points)


def _draw_contracts(
    options: FleetOptions, site: Ints, archetype: npt.NDArray[np.int8], without: Bools
) -> tuple[Contracts, Contracts]:
    """Draw an old contract, and for some sites a second one: a move, a move after a gap, or an overlap."""
    seed = options.seed
    first, last = _day_numbers(options)
    share = draw_uniform(seed, "moves", site)
    moves, gaps, overlaps = share < 0.06, (share >= 0.06) & (share < 0.1), (share >= 0.1) & (share < 0.14)
    edge = np.minimum(first + 1 + draw_below(max(1, options.days - 1), seed, "moves on", site), last)
    since = first - 30 - draw_below(4000, seed, "since", site)
    signed = since * 86_400 - draw_below(30 * 86_400, seed, "signed", site)
    length = 1 + draw_below(3, seed, "for days", site)
    owner = np.where(np.isin(archetype, [load.OFFICE]), site // _COMPANY_SITES * _COMPANY_SITES + options.points, site)
    older = Contracts(
        customer=np.where(without, -1, 2 * owner),
        valid_from=since,
        valid_to=np.select([moves | gaps, overlaps], [edge, edge + length], OPEN),
        signed_at=signed,
    )
    signed_first = overlaps & (draw_below(2, seed, "signed first", site) == 1)
    newer = Contracts(
        customer=np.where((moves | gaps | overlaps) & ~without, 2 * owner + 1, -1),
        valid_from=np.where(gaps, edge + length, edge),
        valid_to=np.full_like(since, OPEN),
        signed_at=np.where(signed_first, signed - 86_400, (edge - 20) * 86_400 + draw_below(86_400, seed, "at", site)),
    )
    return older, newer


def _day_numbers(options: FleetOptions) -> tuple[int, int]:
    first = options.start.toordinal() - 719_163
    return first, first + options.days - 1
