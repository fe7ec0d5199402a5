"""Plain observations of an E66 message, proven to be such and decoded many at a time.

An observation is plain in the common forms: a number and a quantity in digits, a quality, or a missing value; without
attributes, entities, comments or other elements. A sender writes most of them alike but for the digits. The first of
its kind is read by an expression and becomes a layout: its bytes, and where its digits stand. Whatever agrees with a
layout in all the other bytes, and has digits there, says the same with other numbers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.sources.text_rows import WORD, Ints, cut_rows, differ, find_all, read_digits

#: Quantity (empty for any), quality, and what is said of a missing value; None where there is none.
Kind = tuple[str | None, str | None, str | None]

#: Decimal places of a quantity here.
PLACES = 6
#: Layouts that are kept: every count of digits of number and quantity, times the qualities of a message.
_MOST_LAYOUTS = 200
#: White space before an observation, which is a part of it.
_MOST_SPACE = 100
_SPACE = b" \t\r\n"
_BEGIN = re.compile(rb"<((?:[A-Za-z_][\w.-]*:)?)OBS>")
#: Number, digits before and behind the point, quality, and what is said of a missing value; ``@`` is a prefix.
_PLAIN = (
    rb"<@OBS>\s*<@SEQ>([0-9]{1,6})</@SEQ>\s*<@EOBS>\s*"
    rb"(?:<@QTY>([0-9]{1,8})(?:\.([0-9]{0,6}))?</@QTY>(?:\s*<@QQ>([0-9A-Z]{0,9})</@QQ>)?"
    rb"|<@QM>([0-9a-z]{0,9})</@QM>|<@QM()/>)\s*</@EOBS>\s*</@OBS>"
).replace(rb"\s", b"[" + _SPACE + b"]")


@dataclass(frozen=True, slots=True)
class Run:
    """Plain observations, in the order of the text.

    Attributes:
        content: the text.
        begins: int64, where each begins in it.
        stops: int64, where each stops.
        number: int64.
        quantity: int64, in millionths; 0 where it is missing.
        kind: int64, what each says besides its numbers, as an index of ``kinds``.
        kinds: all that the layouts of the message have.
    """

    content: bytes
    begins: Ints
    stops: Ints
    number: Ints
    quantity: Ints
    kind: Ints
    kinds: Sequence[Kind]

    def __len__(self) -> int:
        """Count the observations."""
        return len(self.begins)

    def cut(self, first: int, stop: int) -> "Run":
        """Give a part of the run, without a copy."""
        part = slice(first, stop)
        return Run(
            self.content,
            self.begins[part],
            self.stops[part],
            self.number[part],
            self.quantity[part],
            self.kind[part],
            self.kinds,
        )

    def show(self, index: int) -> tuple[str | None, ...]:
        """Show one as it stands: number, quantity, quality, what is said of a missing value; None: it has none."""
        found = _read(self.content, int(self.begins[index]))
        assert found is not None  # as every one of its layout
        number, whole, decimals = (_as_text(one) for one in found.group(1, 2, 3))
        return number, whole if decimals is None else f"{whole}.{decimals}", *_read_words(found)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Observations that differ in their digits only.

    Attributes:
        space: bytes of white space that it begins with.
        length: of all its bytes.
        pattern: its bytes, in whole words.
        mask: 0xFF for those that must agree.
        digits: where those of the number, and those of the quantity before and behind the point, stop, and how many
            they are.
        kind: index of ``Run.kinds``.
    """

    space: int
    length: int
    pattern: bytes
    mask: bytes
    digits: tuple[tuple[int, int], ...]
    kind: int


class Layouts:
    """The layouts that were learned."""

    def __init__(self) -> None:
        """Begin without a layout."""
        self._kinds: list[Kind] = []
        self._layouts: list[_Layout] = []

    def find(self, data: bytes) -> Run:
        """Find the plain observations of a text that have the prefix of its first one."""
        begun = _BEGIN.search(data)
        places = find_all(data, begun.group()) if begun else np.zeros(0, np.int64)
        found = np.zeros((5, len(places)), np.int64)
        left = np.arange(len(places))
        uses = {}
        for layout in self._layouts:
            before = len(left)
            left = _match(layout, data, places, left, found)
            uses[layout] = before - len(left)
        self._layouts.sort(key=lambda layout: -uses[layout])
        while len(left) and len(self._layouts) < _MOST_LAYOUTS:
            if learned := self._learn(data, int(places[left[0]])):
                self._layouts.append(learned)
                left = _match(learned, data, places, left, found)
            else:
                left = left[1:]
        begins, stops, number, quantity, kind = found[:, found[1] > 0]
        return Run(data, begins, stops, number, quantity, kind, self._kinds)

    def _learn(self, data: bytes, place: int) -> _Layout | None:
        """Make a layout of the observation at a place; None if it is not plain, or what is around it was cut off."""
        before = data[max(place - _MOST_SPACE, 0) : place]
        space = len(before) - len(before.rstrip(_SPACE))
        found = _read(data, place)
        if found is None or space == len(before):
            return None
        start = place - space
        length = found.end() - start
        pad = -length % WORD
        if start + length + pad > len(data):
            return None
        mask = np.repeat(np.array([0xFF, 0], np.uint8), (length, pad))
        digits = []
        for group in (1, 2, 3):
            first, stop = (end - start for end in found.span(group)) if found[group] else (WORD, WORD)
            mask[first:stop] = 0
            digits.append((stop, stop - first))
        kind = (None if found[2] is None else "", *_read_words(found))
        if kind not in self._kinds:
            self._kinds.append(kind)
        pattern = data[start : start + length + pad]
        return _Layout(space, length, pattern, mask.tobytes(), tuple(digits), self._kinds.index(kind))


def _match(layout: _Layout, data: bytes, places: Ints, left: Ints, found: Ints) -> Ints:
    """Put observations that fit a layout into ``found``, by the columns of ``Run``; give those that are left."""
    width = len(layout.pattern)
    if len(data) < width:
        return left
    starts = places[left] - layout.space
    inside = (starts >= 0) & (starts <= len(data) - width)
    starts = np.where(inside, starts, 0)
    rows = cut_rows(data, starts, width)
    fits = inside & ~differ(rows, layout.pattern, layout.mask)
    numbers: list[Ints] = []
    for stop, count in layout.digits:
        values, good = read_digits(rows, stop, count)
        fits &= good
        numbers.append(values * 10 ** (PLACES - count) if len(numbers) == 2 else values)
    number, whole, decimals = numbers
    quantity = whole * 10**PLACES + decimals
    for column, values in zip(found, (starts, starts + layout.length, number, quantity), strict=False):
        column[left[fits]] = values[fits]
    found[4, left[fits]] = layout.kind
    return left[~fits]


def _read(data: bytes, place: int) -> re.Match[bytes] | None:
    """Read one observation, and the white space before it."""
    begun = _BEGIN.search(data, place)
    return _compile(begun[1]).match(data, begun.start()) if begun else None


def _read_words(found: re.Match[bytes]) -> tuple[str | None, str | None]:
    """Read the quality, and what is said of a missing value, of an observation."""
    quality, word, empty = (_as_text(one) for one in found.group(4, 5, 6))
    return quality, empty if word is None else word


def _as_text(one: bytes | None) -> str | None:
    return None if one is None else one.decode()


@lru_cache(maxsize=16)
def _compile(prefix: bytes) -> re.Pattern[bytes]:
    return re.compile(_PLAIN.replace(b"@", re.escape(prefix)))
