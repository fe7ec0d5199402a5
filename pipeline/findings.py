"""What a verification found: by check, how much was looked at, what breaks a rule, and what is worth a note."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.stores import Place

#: Places that a check shows; all are counted.
_SHOWN = 5


@dataclass(slots=True)
class Check:
    """One check over the lake.

    Attributes:
        name: what is checked.
        looked_at: how many files, cells, runs … it looked at.
        violations: what it found to break a rule.
        notes: what it found that breaks none.
        places: the first few of each: (place, problem, whether it breaks a rule).
    """

    name: str
    root: Place
    looked_at: int = 0
    violations: int = 0
    notes: int = 0
    places: list[tuple[str, str, bool]] = field(default_factory=list)

    def find(self, place: str | Place, problem: str) -> None:
        """Count something that breaks a rule. Place and problem hold no identifier and no value."""
        self._show(self.violations, place, problem, breaks=True)
        self.violations += 1

    def note(self, place: str | Place, problem: str) -> None:
        """Count something that is worth knowing."""
        self._show(self.notes, place, problem, breaks=False)
        self.notes += 1

    def _show(self, before: int, place: str | Place, problem: str, *, breaks: bool) -> None:
        if before < _SHOWN:
            shown = str(place).removeprefix(f"{self.root}/")
            self.places.append((shown, problem, breaks))


class Findings:
    """The checks of one verification, in their order."""

    def __init__(self, root: Place) -> None:
        self._root = root
        self._checks: dict[str, Check] = {}

    def __getitem__(self, name: str) -> Check:
        return self._checks.setdefault(name, Check(name, self._root))

    def __iter__(self) -> Iterator[Check]:
        return iter(self._checks.values())

    @property
    def violations(self) -> int:
        """How much breaks a rule."""
        return sum(check.violations for check in self)

    def describe(self) -> dict[str, Any]:
        """Say it all as JSON has it."""
        return {
            "lake": str(self._root),
            "violations": self.violations,
            "checks": [
                {
                    "check": check.name,
                    "looked_at": check.looked_at,
                    "violations": check.violations,
                    "notes": check.notes,
                    "places": [
                        {"place": place, "problem": problem, "violation": breaks}
                        for place, problem, breaks in check.places
                    ],
                }
                for check in self
            ],
        }
