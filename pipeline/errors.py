"""The one exception that a user is meant to see, and how others become it."""

import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: How the libraries of stores say what a store answered.
_OF_STORE = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?|google::cloud::Status\((\w+)")


class MeterveilError(Exception):
    """A failure with a one-line explanation: what, where, which rule, what to do. Holds no identifier and no value.

    Args:
        problem: what is wrong, in the user's words.
        where: the file, row, range, option or table.
        remedy: what to do about it.
    """

    def __init__(self, problem: str, *, where: str = "", remedy: str = "") -> None:
        self.problem, self.where, self.remedy = problem, where, remedy
        line = f"{where}: {problem}" if where else problem
        super().__init__(f"{line}; {remedy}" if remedy else line)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.problem, self.where, self.remedy))


def _rebuild(kind: type[MeterveilError], problem: str, where: str, remedy: str) -> MeterveilError:
    return kind(problem, where=where, remedy=remedy)


class BadFileError(MeterveilError):
    """An input file that can't be read as what it claims to be; ``--skip-bad-files`` lists it and goes on."""


@contextmanager
def in_plain_words() -> Iterator[None]:
    """Let no error out but ``MeterveilError``: the words of others may hold values of rows, and workers log them.

    Raises:
        MeterveilError: the error itself, or its kind and place.
    """
    try:
        yield
    except MeterveilError:
        raise
    except OSError as error:
        problem = name_fault(error)
        raise MeterveilError(
            problem, where=str(error.filename or "a file"), remedy="mend that and run it again"
        ) from None
    except Exception as error:  # noqa: BLE001 - whatever nobody foresaw
        frames = traceback.extract_tb(error.__traceback__)
        logging.getLogger(__name__).debug("%s at:\n%s", type(error).__name__, "".join(frames.format()))
        own = next((frame for frame in reversed(frames) if _is_own(frame.filename)), frames[-1])
        raise MeterveilError(
            f"{type(error).__name__} in {Path(own.filename).name}, line {own.lineno}, which nobody foresaw",
            remedy="report it with what --log-level DEBUG says",
        ) from None


def name_fault(error: OSError) -> str:
    """Name what went wrong: of a store's error, which is several lines, the word that tells."""
    if word := _OF_STORE.search(str(error)):
        return f"the object store says {' '.join(said for said in word.groups() if said not in {None, 'UNKNOWN'})}"
    return error.strerror or type(error).__name__


def _is_own(file: str) -> bool:
    packages, here = Path(__file__).parent.parent, Path(file)
    is_ours = any(here.is_relative_to(packages / name) for name in ("pipeline", "transforms"))
    return is_ours and here != Path(__file__)
