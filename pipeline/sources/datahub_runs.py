"""Runs of plain observations in an E66 message, proven to be such and then decoded all at once.

A run holds nothing but observations in their common forms: no attributes, entities, comments or other elements, and one
prefix. Without its digits, points and white space it then is a row of few fixed texts, which is what proves it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

#: Between runs that are proven together; no character of XML.
_BETWEEN = b"\0"
_BEGIN = re.compile(rb"<((?:[A-Za-z_][\w.-]*:)?)OBS>")
#: Left out.
_VALUES = b"0123456789. \t\n"
#: What is left of an observation, by the sign that stands for it: a quantity; with a quality of digits; of Z and
#: digits; a missing value, said by a word; by a digit, or by nothing.
_FORMS = {
    sign: b"<OBS><SEQ></SEQ><EOBS>" + inside + b"</EOBS></OBS>"
    for sign, inside in (
        (b"A", b"<QTY></QTY>"),
        (b"B", b"<QTY></QTY><QQ></QQ>"),
        (b"C", b"<QTY></QTY><QQ>Z</QQ>"),
        (b"D", b"<QM>true</QM>"),
        (b"E", b"<QM></QM>"),
    )
}
#: Tags of an observation by its sign, and which of them its fields stand behind.
_TAGS = np.zeros(128, np.int64)
_TAGS[list(b"ABCDE")] = 8, 10, 10, 8, 8
_SEQ, _FIRST, _SECOND = 1, 4, 6
#: Characters of a text in a run; it bounds what is decoded at once to what offsets of 32 bits reach.
_LONGEST_TEXT = 100


@dataclass(frozen=True, slots=True)
class Run:
    """A proven run.

    Attributes:
        content: its bytes.
        signs: the form of each of its observations, a byte each.
    """

    content: bytes
    signs: bytes


def find_runs(data: bytes) -> Iterator[tuple[int, int]]:
    """Find where observations of one prefix begin and, within their series and ``data``, end."""
    place = 0
    while found := _BEGIN.search(data, place):
        prefix = found.group(1)
        end = data.find(b"</" + prefix + b"Transaction", found.start())
        last = b"</" + prefix + b"OBS>"
        stop = data.rfind(last, found.start(), end if end >= 0 else len(data))
        if stop < 0:
            return
        place = stop + len(last)
        yield found.start(), place


def prove_runs(data: bytes, spans: Sequence[tuple[int, int]]) -> list[Run | None]:
    """Prove which parts of ``data`` are runs: all at once, or else one by one."""
    contents = [data[start:stop] for start, stop in spans]
    if runs := _prove(contents):
        return [*runs]
    alone = (_prove([content]) for content in contents)
    return [found[0] if found else None for found in alone]


def _prove(contents: Sequence[bytes]) -> list[Run] | None:
    """Prove that parts are runs, or give None."""
    content = _BETWEEN.join(contents)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n")
    if prefix := content[1 : content.find(b"OBS>")]:
        whole, tags = len(content), content.count(b"<")
        content = content.replace(b"<" + prefix, b"<").replace(b"</" + prefix, b"</")
        if whole - len(content) != tags * len(prefix):  # not each has it
            return None
    bare = signs = content.translate(None, _VALUES)
    for sign, form in _FORMS.items():
        signs = signs.replace(form, sign)
    parts = signs.split(_BETWEEN)
    if len(parts) != len(contents) or not all(parts) or signs.strip(b"ABCDE" + _BETWEEN):
        return None
    marks = np.frombuffer(content, np.uint8)
    begins, ends = np.flatnonzero(marks == ord("<")), np.flatnonzero(marks == ord(">"))
    # What was left out must not have stood in a tag: the lengths of the tags say so.
    others = signs.count(b"C") + len(b"true") * signs.count(b"D") + len(parts) - 1
    if (ends - begins + 1).sum() != len(bare) - others or (begins[1:] - ends[:-1]).max() > _LONGEST_TEXT:
        return None
    return [Run(*both) for both in zip(content.split(_BETWEEN), parts, strict=True)]


def decode_runs(runs: Sequence[Run]) -> list[pa.Array]:
    """Decode runs to the texts of number, quantity, quality and missing; null where there is none."""
    content = b"".join(run.content for run in runs)
    signs = np.frombuffer(b"".join(run.signs for run in runs), np.uint8)
    marks = np.frombuffer(content, np.uint8)
    begins, ends = np.flatnonzero(marks == ord("<")), np.flatnonzero(marks == ord(">"))
    # Tags and the texts behind them take turns, and fill the content: an array of both without a copy of any.
    offsets = np.empty(2 * len(begins) + 1, np.int32)
    offsets[:-1:2], offsets[1::2], offsets[-1] = begins, ends + 1, len(content)
    texts = pa.StringArray.from_buffers(2 * len(begins), pa.py_buffer(offsets), pa.py_buffer(content))
    tags = _TAGS[signs]
    first = np.cumsum(tags) - tags
    quality, missing = (signs == ord("B")) | (signs == ord("C")), signs >= ord("D")

    def take(tag: int, absent: NDArray[np.bool_]) -> pa.Array:
        return pc.utf8_trim_whitespace(texts.take(pa.array(2 * (first + tag) + 1, mask=absent)))

    return [take(_SEQ, signs == 0), take(_FIRST, missing), take(_SECOND, ~quality), take(_FIRST, ~missing)]
