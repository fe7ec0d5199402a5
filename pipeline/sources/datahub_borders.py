"""Borders between series of an E66 message: the end of one, and the next up to its observations.

A sender writes all series alike. A border that the parser has read becomes a pattern: its tags, as they stand, with
plain text between them. Whatever matches it the parser would read in the same way, so its fields are taken at once.
"""

import re
from collections.abc import Collection, Sequence

#: A field by the element that holds it and its own.
Field = tuple[str, str]

_TAG = re.compile(r"<[^<>]*>")
#: Text that stands for itself and, having no quotes, can't be a part of a tag.
_TEXT = r"[\t\n\r !#-%(-;=?-~]*"
#: Of a field: the same without white space, as long as one can be.
_FIELD = r"([!#-%(-;=?-~]{0,1000})"
#: Patterns that are kept, and borders that are looked at for one.
_MOST_PATTERNS, _MOST_LOOKS = 8, 100


class Borders:
    """Patterns of the borders that were learned."""

    def __init__(self, message: str, series: str, fields: Sequence[Field], others: Collection[str]) -> None:
        """Begin without a pattern.

        Args:
            message: local name of the element that holds the series.
            series: local name of a series.
            fields: of a series, in the order in which ``read`` gives them.
            others: local names of elements that no border has, since more than fields hangs on them.
        """
        self._message, self._series, self._fields, self._others = message, series, fields, others
        self._patterns: list[tuple[re.Pattern[str], Sequence[int]]] = []
        self._looks = 0

    def learn(self, border: bytes) -> None:
        """Make a pattern of a border that the parser has read, if it is as plain as a pattern can say."""
        self._looks += 1
        if len(self._patterns) >= _MOST_PATTERNS or self._looks > _MOST_LOOKS:
            return
        text = border.decode("latin-1")
        tags = _TAG.findall(text)
        places = self._find_places(tags)
        if places is None or not all(re.fullmatch(_TEXT, part) for part in _TAG.split(text)):
            return
        order = sorted(places.values())
        form = [(_FIELD if place in order else _TEXT) + re.escape(tag) for place, tag in enumerate([*tags, ""])]
        self._patterns.append((re.compile("".join(form)), [1 + order.index(places[field]) for field in self._fields]))

    def read(self, border: bytes) -> Sequence[str] | None:
        """Read the fields of the series that begins in a border; None: only the parser can."""
        text = border.decode("latin-1")
        for pattern, groups in self._patterns:
            if found := pattern.fullmatch(text):
                return found.group(*groups)
        return None

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
