"""What a run counts, and the conservation that must hold before anything is committed."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.errors import MeterveilError
from transforms.fold import FoldTally

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Totals:
    """Exact counts and sums of a part of a run; they travel as data and add up.

    Attributes:
        counts: ``delivered`` (readings decoded from files), ``delivered:from_quarantine`` (released from there),
            ``folded`` (readings that reached a cell), ``before`` (rows that the touched cells held), ``after`` (rows
            they hold now), ``cells``, ``cells_unchanged``, ``quarantined:<reason>``, ``released_before`` (would be set
            aside again, had they not been released), ``superseded:<kind>``, and ``dropped:<why>``: beyond the dataset's
            ``retention``, or ``erased``.
        energies: milliwatt-hours by the same names.
    """

    counts: Counts = field(default_factory=dict)
    energies: Counts = field(default_factory=dict)

    @classmethod
    def of(cls, **values: tuple[int, int]) -> "Totals":
        """Make totals from a (count, energy) pair by name."""
        return cls({name: pair[0] for name, pair in values.items()}, {name: pair[1] for name, pair in values.items()})

    @classmethod
    def of_fold(cls, tally: FoldTally, after: int, after_energy: int, *, changed: bool) -> "Totals":
        """Make the totals of one folded cell."""
        superseded = tally.superseded
        return cls(
            {
                "cells": 1,
                "cells_unchanged": int(not changed),
                "folded": tally.incoming,
                "before": tally.before,
                "after": after,
                **{f"superseded:{kind}": count for kind, count in superseded.counts.items()},
            },
            {
                "folded": tally.incoming_energy,
                "before": tally.before_energy,
                "after": after_energy,
                **{f"superseded:{kind}": energy for kind, energy in superseded.energies.items()},
            },
        )

    @classmethod
    def of_dropped(cls, why: str, arrived: tuple[int, int], held: tuple[int, int] = (0, 0)) -> "Totals":
        """Make the totals of readings that came for a cell, or that it held, and that it does not keep."""
        both = (arrived[0] + held[0], arrived[1] + held[1])
        return cls.of(folded=arrived, before=held, **{f"dropped:{why}": both})

    def count(self, name: str) -> int:
        """Give the count of a name, or of all names that begin with it and a colon."""
        return _sum(self.counts, name)

    def energy(self, name: str) -> int:
        """Give the energy of a name, or of all names that begin with it and a colon."""
        return _sum(self.energies, name)

    def by_kind(self, name: str) -> dict[str, int]:
        """Give the counts of a name by what follows the colon, the most first."""
        found = {key.partition(":")[2]: value for key, value in self.counts.items() if key.startswith(f"{name}:")}
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def _sum(values: Mapping[str, int], name: str) -> int:
    return sum(value for key, value in values.items() if key == name or key.startswith(f"{name}:"))


def add_totals(parts: Iterable[Totals]) -> Totals:
    """Add up the totals of parts of a run; exact, in any order."""
    counts: Counter[str] = Counter()
    energies: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
        energies.update(part.energies)
    return Totals(dict(counts), dict(energies))


def check_conservation(totals: Totals) -> None:
    """Check that no reading and no milliwatt-hour was lost or doubled.

    Delivered = folded + quarantined + released before + not set aside, and folded + before = after + superseded +
    dropped, in counts and in energy.

    Raises:
        MeterveilError: a side differs; nothing may be committed.
    """
    for what, of in (("readings", totals.count), ("milliwatt-hours", totals.energy)):
        for name, left, right in (
            (
                "delivered = folded + quarantined + released before + not set aside",
                of("delivered"),
                of("folded") + of("quarantined") + of("released_before") + of("not_set_aside"),
            ),
            (
                "folded + before = after + superseded + dropped",
                of("folded") + of("before"),
                of("after") + of("superseded") + of("dropped"),
            ),
        ):
            if left != right:
                raise MeterveilError(
                    f"conservation is broken: {name} does not hold, {left} against {right} {what}",
                    where="commit",
                    remedy="nothing was committed; report this with the run record",
                )
