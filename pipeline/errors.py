"""The one exception that a user is meant to see."""


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
