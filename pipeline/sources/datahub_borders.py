"""Borders between series of an E66 message: the end of one, and the next up to its observations.

A sender writes all series alike. A border that the parser has read becomes a pattern: its tags, as they stand, with
plain text of the same length between them. Whatever matches it the parser would read in the same way, so the fields of
all that do are taken at once.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.sources.text_rows import WORD, Bytes, Ints, Mask, cut_rows, differ

#: A field by the element that holds it and its own.
Field = tuple[str, str]
#: What stands in the fields of a series.
Fields = tuple[str, ...]

_TAG = re.compile(rb"<[^<>]*>")
_SPACE = b"\t\n\r "
#: What a byte can be a part of, as bits: text that stands for itself and, having no quotes, can't be a part of a tag;
#: a field, which has no white space either.
_TEXT, _FIELD = 1, 2
_CLASSES = np.zeros(256, np.uint8)
_CLASSES[[*_SPACE]] = _TEXT
_CLASSES[[*(byte for byte in range(ord("!"), ord("~") + 1) if byte not in b"\"&'<>")]] = _TEXT | _FIELD
#: Patterns that are kept, borders that are looked at for one, and bytes of one.
_MOST_PATTERNS, _MOST_LOOKS, _MOST_BYTES = 32, 200, 8_000
#: Characters of a field.
_LONGEST_FIELD = 1_000


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Borders that differ in their text only.

    Attributes:
        length: of each, in bytes.
        closing: the tag with which they begin, and which ends the series that they begin.
        form: one of them, in whole words.
        mask: 0xFF where a tag stands.
        text: int64, places of the bytes of text.
        classes: uint8, the class that each of these must have.
        fields: where the text of each field begins and stops.
    """

    length: int
    closing: bytes
    form: bytes
    mask: bytes
    text: Ints
    classes: Bytes
    fields: Sequence[tuple[int, int]]


class Borders:
    """Patterns of the borders that were learned."""

    def __init__(self, message: str, series: str, fields: Sequence[Field], others: Collection[str]) -> None:
        """Begin without a pattern.

        Args:
            message: local name of the element that holds the series.
            series: local name of a series.
            fields: of a series, in the order in which ``find`` gives them.
            others: local names of elements that no border has, since more than fields hangs on them.
        """
        self._message, self._series, self._fields, self._others = message, series, fields, others
        self._patterns: list[_Pattern] = []
        self._looks = 0

    def learn(self, border: bytes) -> bool:
        """Make a pattern of a border that the parser has read, if it is as plain as a pattern can say; tell whether."""
        self._looks += 1
        if len(self._patterns) >= _MOST_PATTERNS or self._looks > _MOST_LOOKS or len(border) > _MOST_BYTES:
            return False
        tags = list(_TAG.finditer(border))
        places = self._find_places([tag.group().decode("latin-1") for tag in tags])
        if places is None:
            return False
        pad = -len(border) % WORD
        classes = np.full(len(border), _TEXT, np.uint8)
        for tag in tags:
            classes[slice(*tag.span())] = 0
        fields = []
        for field in self._fields:
            begin, stop = tags[places[field] - 1].end(), tags[places[field]].start()
            classes[begin:stop] = _FIELD
            fields.append((begin, stop))
        text = np.flatnonzero(classes)
        if not _fits(np.frombuffer(border, np.uint8)[text], classes[text]).all():
            return False
        if any(stop - begin > _LONGEST_FIELD for begin, stop in fields):
            return False
        mask = np.concatenate((np.where(classes == 0, 0xFF, 0).astype(np.uint8), np.zeros(pad, np.uint8)))
        closing = tags[0].group()
        form = border + bytes(pad)
        self._patterns.append(_Pattern(len(border), closing, form, mask.tobytes(), text, classes[text], fields))
        return True

    def find(self, data: bytes, starts: Ints, stops: Ints, closing: bytes) -> list[Fields | None]:
        """Read those stretches of a text that are borders, as they were learned, behind series with a closing tag.

        Returns:
            Of each the fields of the series that begins there; None: only the parser can read it.
        """
        found: list[Fields | None] = [None] * len(starts)
        lengths = stops - starts
        for pattern in self._patterns:
            if pattern.closing != closing:
                continue
            width = len(pattern.form)
            chosen = np.flatnonzero((lengths == pattern.length) & (starts <= len(data) - width))
            if len(chosen) == 0:
                continue
            rows = cut_rows(data, starts[chosen], width)
            fits = ~differ(rows, pattern.form, pattern.mask)
            fits &= _fits(rows[:, pattern.text], pattern.classes).all(axis=1)
            rows, chosen = rows[fits], chosen[fits]
            columns = [_list_text(rows[:, begin:stop]) for begin, stop in pattern.fields]
            for index, fields in zip(chosen.tolist(), zip(*columns, strict=True), strict=True):
                found[index] = fields
        return found

    def _find_places(self, tags: Sequence[str]) -> dict[Field, int] | None:
        """Find behind how many tags the text of each field stands.

        Returns:
            The places; None where it is not just the end of a series and the beginning of another with all fields.
        """
        if not tags:
            return None
        places: dict[Field, int] = {}
        names, begun = [self._message], []
        for place, tag in enumerate(tags[1:], 2):
            if tag.startswith("</"):
                names.pop()
                if not names:
                    return None
                continue
            whole = tag[1:-1].removesuffix("/").split(None, 1)[0]
            name = whole.rpartition(":")[2]
            field, empty = (names[-1], name), tag.endswith("/>")
            if name in self._others or field in places:
                return None
            if name == self._series:
                begun.append(f"</{whole}>")
            if field in self._fields and not empty:
                places[field] = place
            if not empty:
                names.append(name)
        # Whatever else begins it would be of the series that ends; comments and the like are names that never end.
        whole_border = begun == [tags[0]] and names == [self._message, self._series]
        return places if whole_border and len(places) == len(self._fields) else None


def _fits(text: Bytes, classes: Bytes) -> Mask:
    fits: Mask = _CLASSES[text] & classes != 0
    return fits


def _list_text(rows: Bytes) -> list[str]:
    count, width = rows.shape
    if (rows == rows[:1]).all():  # as product, unit, resolution and start mostly are
        return [rows[:1].tobytes().decode()] * count
    text = rows.tobytes().decode()
    return [text[row * width : (row + 1) * width] for row in range(count)]
