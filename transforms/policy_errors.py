"""What can be wrong with a policy: an error that names the place in the document, the problem and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches

#: Keys from the root of the document to a place in it.
Path = tuple[str, ...]


class PolicyError(ValueError):
    """A policy that can't be compiled.

    Attributes:
        path: keys from the root of the document to the place.
        problem: what is wrong there.
        remedy: what to do about it.
    """

    def __init__(self, path: Path, problem: str, remedy: str = "") -> None:
        self.path, self.problem, self.remedy = path, problem, remedy
        super().__init__(f"{'/'.join(path)}: {problem}")


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, or which there are."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known) or 'none'}"


def expect_all(given: Iterable[str], known: Iterable[str], what: str, path: Path) -> None:
    """Refuse names that are not known."""
    for name in given:
        expect(name, known, what, path)


def expect(name: str, known: Iterable[str], what: str, path: Path) -> None:
    """Refuse a name that is not known."""
    if name not in known:
        raise PolicyError(path, f"there is no {what} '{name}'", suggest_name(name, known))
