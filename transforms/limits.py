"""Limits of a night: how much may be set aside or missing before a run warns, or stops before it commits."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from transforms.completeness import DayCount

#: ``warn``: the run commits, says so, and ends with an exit code of its own. ``stop``: nothing is committed.
Action = Literal["warn", "stop"]


@dataclass(frozen=True, slots=True)
class QuarantineLimit:
    """Greatest share of the delivered readings that may be quarantined.

    Attributes:
        share: 0 to 1.
        action: what happens above.
    """

    share: float
    action: Action


@dataclass(frozen=True, slots=True)
class MissingLimit:
    """Greatest share of the minutes of a local day that may be missing at points under contract.

    Attributes:
        share: 0 to 1.
        action: what happens above.
        after_days: how old a day must be for this to hold, in days: 1 is yesterday.
        until_days: how old it may be.
    """

    share: float
    action: Action
    after_days: int
    until_days: int

    def covers(self, day: int, today: int) -> bool:
        """Tell whether this holds for a day; both in days since 1970-01-01."""
        return self.after_days <= today - day <= self.until_days


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that was exceeded.

    Attributes:
        problem: in one line, without identifiers.
        action: what the policy says to do.
    """

    problem: str
    action: Action


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a policy.

    Attributes:
        quarantined: of a run's readings; None for no limit.
        missing: of local days, in the order of the policy.
    """

    quarantined: QuarantineLimit | None = None
    missing: tuple[MissingLimit, ...] = field(default=())

    def due(self, today: int, held: Collection[int]) -> set[int]:
        """List the days that come under a limit today, whether or not anything came for them.

        Args:
            today: days since 1970-01-01.
            held: the days that the lake holds: it began with the first. If the last is too old for a limit, old days
                are being brought in, and nobody waits for yesterday's.
        """
        return {
            today - limit.after_days
            for limit in self.missing
            if held and min(held) <= today - limit.after_days and max(held) >= today - limit.until_days
        }

    def check_quarantined(self, delivered: int, by_reason: Mapping[str, int]) -> Iterator[Breach]:
        """Check how many of the readings that were delivered were quarantined, by reason."""
        quarantined = sum(by_reason.values())
        if self.quarantined and quarantined > self.quarantined.share * delivered:
            reasons = ", ".join(f"{count} {reason}" for reason, count in by_reason.items())
            yield Breach(
                f"{quarantined} of {delivered} readings quarantined ({reasons}), "
                f"more than {self.quarantined.share:.4%}",
                self.quarantined.action,
            )

    def check_days(self, days: Iterable[DayCount], today: int) -> Iterator[Breach]:
        """Check how much of each day is missing; of the limits that a day exceeds, the strictest is told."""
        for day in days:
            exceeded = [
                limit
                for limit in self.missing
                if limit.covers(day.local_date, today) and day.missing_minutes > limit.share * day.expected_minutes
            ]
            if exceeded:
                worst = min(exceeded, key=lambda limit: (limit.action != "stop", limit.share))
                yield Breach(
                    f"{day.missing_minutes} of {day.expected_minutes} minutes of {day.date} are missing "
                    f"({day.silent_points} of {day.points} points silent), more than {worst.share:.4%}",
                    worst.action,
                )


#: Where a policy says nothing.
NO_LIMITS = Limits()
#: How old a day may be for a limit that does not say.
_UNTIL_DAYS = 60


def compile_limits(spec: Mapping[str, Any]) -> Limits:
    """Compile the ``limits`` of a policy, valid by ``schemas/policy.schema.json``."""
    quarantined = spec.get("quarantined")
    missing = (
        MissingLimit(
            limit["share"],
            limit["action"],
            limit["after_days"],
            limit.get("until_days", max(_UNTIL_DAYS, limit["after_days"])),
        )
        for limit in spec.get("missing", ())
    )
    return Limits(quarantined and QuarantineLimit(quarantined["share"], quarantined["action"]), tuple(missing))
