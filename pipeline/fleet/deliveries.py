"""Delivered readings as rows of one numpy dtype, and when each delivery of a day is registered."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.fleet.days import HOUR_S, LocalDay
from schemas.reasons import Reason
from schemas.series import DAY_S

#: Delivered readings. ``point`` is the index in the fleet, ``start`` seconds since 1970 UTC, ``energy`` milliwatt-hours
#: as they were meant, ``status`` a code of ``schemas.status``, ``spoiled`` 0 or the code of the reason to set the row
#: aside (writers spoil it), ``layer`` keeps what is delivered again behind what it repeats.
ROW = np.dtype(
    [
        ("point", np.int64),
        ("start", np.int64),
        ("energy", np.int64),
        ("resolution", np.int32),
        ("status", np.int8),
        ("spoiled", np.int8),
        ("layer", np.int8),
    ],
    align=True,  # numpy copies what is not aligned before it works on it
)
Rows = npt.NDArray[Any]

_REASONS = tuple(Reason)


class Wave(IntEnum):
    """The deliveries of one local day, each in files of its own; in the order in which the files come."""

    FIRST = 0
    #: Registered at the same time as the first, in another file.
    AGAIN = 1
    #: Registered before the first, though its file comes after.
    EARLY = 2
    LATE = 3
    CORRECTION = 4

    def register(self, day: LocalDay) -> int:
        """Return when the wave of a day is registered, seconds since 1970 UTC: after the end of the day."""
        return day.end + _AFTER_S[self]


_AFTER_S = {
    Wave.FIRST: 7 * HOUR_S,
    Wave.AGAIN: 7 * HOUR_S,
    Wave.EARLY: 3 * HOUR_S,
    Wave.LATE: 3 * DAY_S + 8 * HOUR_S,
    Wave.CORRECTION: 11 * DAY_S + 9 * HOUR_S,
}


def code_reason(reason: Reason) -> int:
    """Return the code of a reason in ``spoiled``."""
    return 1 + _REASONS.index(reason)


def name_reason(code: int) -> Reason:
    """Return the reason of a code in ``spoiled``."""
    return _REASONS[code - 1]


def merge_rows(base: Rows, planted: Sequence[Rows], day: LocalDay) -> Rows:
    """Put planted rows into the base rows of a day, which are sorted; by point, layer and start.

    Sorting everything would cost more than making it; the planted rows are few.
    """
    extra = sort_rows(planted)
    if not len(extra):
        return base
    places = np.searchsorted(_place_rows(base, day), _place_rows(extra, day), side="right")
    order = np.insert(np.arange(len(base)), places, len(base) + np.arange(len(extra)))
    return join_rows([base, extra]).take(order)


def sort_rows(parts: Sequence[Rows]) -> Rows:
    """Join rows, sorted by point, layer and start."""
    rows = join_rows(parts)
    return rows[np.lexsort((rows["start"], rows["layer"], rows["point"]))]


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Join rows in the order given."""
    # As bytes: numpy copies records field by field, five times slower.
    return np.concatenate([np.empty(0, dtype=np.uint8), *(part.view(np.uint8) for part in parts)]).view(ROW)


def _place_rows(rows: Rows, day: LocalDay) -> npt.NDArray[np.int64]:
    """Number the places of rows in the order of a file: 32 bits of seconds, 2 of layer, the point above them."""
    places: npt.NDArray[np.int64] = (
        (rows["point"] << 34) + (rows["layer"].astype(np.int64) << 32) + (rows["start"] - day.start)
    )
    return places
