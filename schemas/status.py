"""The one scale of reading quality that every format is translated to."""

from enum import IntEnum


class Status(IntEnum):
    """Quality of a reading, weak to strong; the number is what series batches and frames carry (int8)."""

    MISSING = 0
    PARTIAL = 1
    UNCERTAIN = 2
    ESTIMATED = 3
    CALCULATED = 4
    OK = 5
    REVISED = 6


#: Status words by code, as they are written to tables.
STATUS_WORDS: tuple[str, ...] = tuple(status.name for status in Status)
