"""Progress of a run on this machine: counters that the terminal shows. Totals never come from here."""

from collections import Counter
from threading import Lock


class Progress:
    """Counters that workers of this process advance."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[str] = Counter()

    def advance(self, what: str, by: int) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[what] += by

    def read(self) -> dict[str, int]:
        """Give all counters."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Begin anew."""
        with self._lock:
            self._counts.clear()


PROGRESS = Progress()
