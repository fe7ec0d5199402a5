"""Lines of a delimited text that say what an earlier line says, but for a clock and a number.

What a machine writes, it writes alike: from one line to the next, hours and minutes of times change, and a number.
Such a line is plain, and need not be parsed: of two that agree in all other bytes, the first tells what the second
says. They are found in whole columns. A parser is left those that tell, and those that are not plain.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.sources.text_rows import (
    LONGEST,
    REACH,
    WORD,
    Bytes,
    Ints,
    Mask,
    as_slice,
    cut_rows,
    find_repeats,
    read_clock,
    read_decimals,
)

#: Lines that are looked at together: their bytes, and what is made of them, are then still in the processor's cache.
_BLOCK = 1 << 14
#: A layout is not worth its search for one line in so many of a block: these are left to the parser.
_RARE = 64
#: Layouts that may be rare before the search is given up.
_MOST_RARE = 4
#: Bytes of a line, so that those of a block together are no more than some parts of the text.
_MOST_BYTES = 1 << 10
#: Days come before the clock, so that a word which ends with the clock begins in the same field.
_TIME = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T]([0-9]{2}:[0-9]{2})")
_CLOCK = len("00:00")


@dataclass(frozen=True, slots=True)
class Form:
    """What may change from one plain line to the next.

    Attributes:
        delimiter: between fields, one byte, and no digit.
        columns: how many fields a line has.
        times: columns of times that begin with a date and a clock.
        number: column of a decimal number.
        sign: its decimal sign, one byte.
    """

    delimiter: bytes
    columns: int
    times: tuple[int, ...]
    number: int
    sign: bytes


@dataclass(frozen=True, slots=True)
class Plain:
    """What was found of each line of a text.

    Attributes:
        found: bool, the plain lines, and those that tell what they say.
        teller: int64, index of the line that tells what each says; its own where it is not plain.
        minutes: int64 [times × lines], what the clock of a line shows that is found.
        digits: int64, its number without the decimal sign.
        decimals: int64, how many of these digits stand behind the sign.
    """

    found: Mask
    teller: Ints
    minutes: Ints
    digits: Ints
    decimals: Ints


@dataclass(frozen=True, slots=True)
class _Side:
    """What a line has before its number, or behind it.

    Attributes:
        width: of its rows, in whole words, beginning or ending with what is not of the side.
        used: the bytes of a row that are of the side.
        delimited: bool [used], where delimiters stand in them.
        clocks: where in a row a clock begins, by the place of its column in ``Form.times``.
        mask: 0xFF for the bytes that must agree.
    """

    width: int
    used: slice
    delimited: Mask
    clocks: dict[int, int]
    mask: bytes


@dataclass(frozen=True, slots=True)
class _Layout:
    """Lines with the same fields, each of the same length, but for the number.

    Attributes:
        before: bytes before the number.
        behind: bytes behind it.
        sides: those that have bytes, of these two, each with whether it is the one behind.
    """

    before: int
    behind: int
    sides: tuple[tuple[bool, _Side], ...]


def find_plain(data: bytes, begins: Ints, stops: Ints, form: Form) -> Plain | None:
    """Find the plain lines of a text without carriage returns; None where most lines of a long one are not.

    Args:
        data: the text.
        begins: int64, where each line begins.
        stops: int64, where it stops, before its line end.
        form: what may change.
    """
    count = len(begins)
    minutes = np.zeros((len(form.times), count), np.int64)
    digits, decimals = np.zeros((2, count), np.int64)
    plain = Plain(np.zeros(count, bool), np.arange(count), minutes, digits, decimals)
    telling = 0
    for first in range(0, count, _BLOCK):
        block = np.arange(first, min(first + _BLOCK, count))
        _find_in_block(block, data, (begins, stops), form, plain)
        telling += int(np.count_nonzero(plain.teller[block] == block))
        looked_at = first + len(block)
        if looked_at < count and 2 * telling > looked_at:
            return None
    return plain


def _find_in_block(block: Ints, data: bytes, spans: tuple[Ints, Ints], form: Form, plain: Plain) -> None:
    begins, stops = spans
    left, few, rare = block, len(block) // _RARE, 0
    while len(left) > few and rare < _MOST_RARE:
        before = len(left)
        begin = int(begins[left[0]])
        layout = _learn(data[begin : min(int(stops[left[0]]), begin + _MOST_BYTES)], form)
        if layout is not None:
            _match(layout, form, data, spans, left, plain)
        left = left[1:][~plain.found[left[1:]]]
        rare += before - len(left) <= few


def _learn(line: bytes, form: Form) -> _Layout | None:
    """Make a layout of a line; None if its fields, times or number have another form, or it is too long."""
    fields = line.split(form.delimiter)
    if len(fields) != form.columns or len(line) == _MOST_BYTES:
        return None
    number = fields[form.number]
    clocks = [found.start(1) for column in form.times if (found := _TIME.match(fields[column]))]
    if len(clocks) < len(form.times) or not number.replace(form.sign, b"", 1).isdigit():
        return None
    starts = np.cumsum([0, *(len(field) + 1 for field in fields)])
    clocks = [int(starts[column]) + clock for column, clock in zip(form.times, clocks, strict=True)]
    before = int(starts[form.number])
    end = before + len(number)
    first = _make_side(line[:before], [(at, clock) for at, clock in enumerate(clocks) if clock < before], 0, form)
    behind = [(at, clock - end) for at, clock in enumerate(clocks) if clock > end]
    last = _make_side(line[end:], behind, (end - len(line)) % WORD, form)
    sides = tuple((is_last, side) for is_last, side in ((False, first), (True, last)) if side.width)
    return _Layout(before, len(line) - end, sides)


def _make_side(text: bytes, clocks: Sequence[tuple[int, int]], pad: int, form: Form) -> _Side:
    """Make a side of its text, and of the clocks in it: their place among the times, and where each begins."""
    used = slice(pad, pad + len(text))
    mask = np.zeros(len(text) + -len(text) % WORD, np.uint8)
    mask[used] = 0xFF
    for _, clock in clocks:
        mask[pad + clock : pad + clock + _CLOCK] = 0
    delimited = np.frombuffer(text, np.uint8) == ord(form.delimiter)
    return _Side(len(mask), used, delimited, {at: pad + clock for at, clock in clocks}, mask.tobytes())


def _match(layout: _Layout, form: Form, data: bytes, spans: tuple[Ints, Ints], left: Ints, plain: Plain) -> None:
    """Find the lines of a layout, put what they say into ``plain``, and leave the others."""
    lines = _select(layout, form, data, spans, left)
    if len(lines) == 0:
        return
    begins, stops = (of[as_slice(lines)] for of in spans)
    ends = stops - layout.behind
    digits, decimals, good = read_decimals(data, ends, ends - begins - layout.before, form.sign)
    rows = [cut_rows(data, stops - side.width if last else begins, side.width) for last, side in layout.sides]
    minutes = np.zeros((len(form.times), len(lines)), np.int64)
    for of, (_, side) in zip(rows, layout.sides, strict=True):
        for at, clock in side.clocks.items():
            minutes[at], is_clock = read_clock(of, clock)
            good &= is_clock
    if not good.all():
        lines, minutes, digits, decimals = lines[good], minutes[:, good], digits[good], decimals[good]
        rows = [of[good] for of in rows]
    repeats = np.logical_and.reduce(
        [find_repeats(of, side.mask) for of, (_, side) in zip(rows, layout.sides, strict=True)]
    )
    tellers = np.flatnonzero(~repeats)
    sound = np.logical_and.reduce(
        [_is_sound(of[tellers, side.used], side, form) for of, (_, side) in zip(rows, layout.sides, strict=True)]
    )
    teller = np.cumsum(~repeats) - 1
    told = lines[tellers][teller]
    if not sound.all():
        kept = sound[teller]
        lines, told, minutes, digits, decimals = lines[kept], told[kept], minutes[:, kept], digits[kept], decimals[kept]
    places = as_slice(lines)
    plain.found[places] = True
    plain.teller[places] = told
    plain.minutes[:, places] = minutes
    plain.digits[places] = digits
    plain.decimals[places] = decimals


def _select(layout: _Layout, form: Form, data: bytes, spans: tuple[Ints, Ints], left: Ints) -> Ints:
    """Select the lines that can be of a layout, by the length and the borders of their number."""
    begins, stops = (of[as_slice(left)] for of in spans)
    ends = stops - layout.behind
    lengths = ends - begins - layout.before
    likely = (lengths > 0) & (lengths <= LONGEST) & (ends >= REACH)
    for last, side in layout.sides:
        likely &= stops >= side.width if last else begins <= len(data) - side.width
    lines, begins, ends = left[likely], begins[likely], ends[likely]
    text = np.frombuffer(data, np.uint8)
    bordered = np.ones(len(lines), bool)
    if layout.before:
        bordered &= text[begins + layout.before - 1] == ord(form.delimiter)
    if layout.behind:
        bordered &= text[ends] == ord(form.delimiter)
    return lines[bordered]


def _is_sound(rows: Bytes, side: _Side, form: Form) -> Mask:
    """Tell which rows have delimiters where their layout has them, and no quotes."""
    sound: Mask = ((rows == ord(form.delimiter)) == side.delimited).all(axis=1) & (rows != ord('"')).all(axis=1)
    return sound
