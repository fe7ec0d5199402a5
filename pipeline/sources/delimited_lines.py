"""Lines of a delimited text with one reading each, as columns.

What most lines say, an earlier one has said (``plain_lines``). So fields are parsed of the lines that tell it only, and
what a format makes of these fields is spread over all lines.
"""

import mmap
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import BadFileError
from pipeline.sources.base import Delivery, Split
from pipeline.sources.delimited import Header, blank_broken_quotes, cut_text, parse_fields, read_text
from pipeline.sources.deliver import Columns, Mask, Show, deliver_shown, reject_rows
from pipeline.sources.fields import scale_decimals
from pipeline.sources.plain_lines import Form, Plain, find_plain
from pipeline.sources.text_rows import Ints, as_slice, find_byte
from schemas.reasons import Reason
from transforms.calendar import US_PER_S

#: Bytes that are decoded at a time: memory that is new for each value costs as much as decoding it.
PART_BYTES = 8 << 20
_US_PER_MINUTE = 60 * US_PER_S
_REPLACED = "\ufffd"


@dataclass(frozen=True, slots=True)
class Own:
    """What each line says by itself, and which one tells the rest.

    Attributes:
        teller: int64, index of the line that tells, among those that do.
        later: int64 by column of times, microseconds by which its clock is later than that of the teller.
        found: bool, the lines whose number follows.
        digits: int64, the number without its decimal sign.
        decimals: int64, how many of these digits stand behind the sign.
    """

    teller: pa.Array
    later: dict[int, pa.Array]
    found: Mask
    digits: Ints
    decimals: Ints


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a part that hold readings.

    Attributes:
        fields: one column of strings for each column of the header, of the lines that tell.
        own: what each line says by itself; None where each of them tells.
        row: int64, number of each in the file, the header being line 1.
        faults: lines with bytes that are not of the encoding, as unreadable.
        broken: int64, numbers of the lines with another number of fields than the header, or with broken quotes.
        texts: all lines of the part as they stand, with their ends.
        place: int64, index of each line in ``texts``.
        header: of their file.
    """

    fields: Sequence[pa.Array]
    own: Own | None
    row: Ints
    faults: dict[Reason, Mask]
    broken: Ints
    texts: pa.Array
    place: Ints
    header: Header

    def spread(self, column: pa.Array) -> pa.Array:
        """Give each line what a column has for the line that tells."""
        return column if self.own is None else column.take(self.own.teller)

    def spread_times(self, times: pa.Array, column: int) -> pa.Array:
        """Give each line its time, in microseconds, from the times that the lines that tell have in a column."""
        told = self.spread(times)
        if self.own is None or column not in self.own.later:
            return told
        return pc.add(told.view(pa.int64()), self.own.later[column]).view(times.type)

    def spread_energy(self, energy: pa.Array, units: pa.Array) -> pa.Array:
        """Give each line its energy, from the number that it has, or else from the energy of the line that tells.

        Args:
            energy: int64, milliwatt-hours, of the lines that tell.
            units: strings, likewise.
        """
        if self.own is None:
            return energy
        said = scale_decimals(self.own.digits, self.own.decimals, self.spread(units.dictionary_encode()))
        return said if self.own.found.all() else pc.if_else(pa.array(self.own.found), said, self.spread(energy))

    def show(self, taken: pa.Array) -> Sequence[pa.Array]:
        """Give the fields of some lines, in ascending order, as they stand, by the columns of the header."""
        return parse_fields(_join(self.texts.take(pa.array(self.place[taken.to_numpy()]))), self.header)[0]

    def deliver(self, columns: Columns, show: Show, faults: dict[Reason, Mask]) -> Delivery:
        """Deliver the decoded columns of these lines, with the lines that have none."""
        delivery = deliver_shown(columns, show, faults)
        if self.broken.size == 0:
            return delivery
        return Delivery(delivery.series, pa.concat_batches([reject_rows(self.broken), delivery.rejected]))


def make_form(
    header: Header, *, times: Collection[int], number: int, others: Collection[int], decimal_sign: str
) -> Form | None:
    """Say what may change in plain lines; None where what changes is read as something else too, or digits are borders.

    Args:
        header: of the file.
        times: columns of times.
        number: column of the number.
        others: columns of all other fields that are read.
        decimal_sign: of the number.
    """
    if header.delimiter.isdigit() or number in times or not {*times, number}.isdisjoint(others):
        return None
    delimiter, sign = header.delimiter.encode(), decimal_sign.encode()
    return Form(delimiter, len(header.names), tuple(sorted(set(times))), number, sign)


def read_lines(
    split: Split, header: Header, form: Form | None, *, must_end: bool, at_once: bool = False
) -> Iterator[Lines]:
    """Read the lines of a split, in parts that are decoded one after the other, each in the memory of the last.

    Empty lines, and lines of empty fields only, hold no reading and are passed over. A quoted field can't span lines.

    Args:
        split: what to read.
        header: of its file.
        form: what may change in plain lines; None where each line is parsed.
        must_end: a last line without a line end is broken. Where a file was cut, so is the last field, and if that is a
            number or an id, nothing else tells.
        at_once: the split is one part.

    Raises:
        BadFileError: the text does not fall into lines as it must.
    """
    first_row, part_bytes = split.first_row, sys.maxsize if at_once else PART_BYTES
    with Path(split.path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for start, stop in cut_text(data, split.start, split.stop, part_bytes):
            text, clean = read_text(file, start, stop, header.encoding)
            ends = find_byte(text, ord("\n"))
            whole = text[: text.rfind(b"\n") + 1] if must_end else text
            part = _Part(whole, ends if whole.endswith(b"\n") else np.append(ends, len(whole)), first_row, clean)
            lines = _read_part(part, header, form)
            if lines is None:
                problem = "its text does not fall into lines"
                raise BadFileError(problem, where=split.path, remedy="deliver one reading a line")
            if text[len(whole) :].strip():
                lines = replace(lines, broken=np.append(lines.broken, first_row + len(ends)))
            yield lines
            first_row += len(ends)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a text.

    Attributes:
        text: its bytes.
        stops: int64, where each line stops, before its line end.
        first_row: number of the first line in the file.
        clean: all of it was of the file's encoding.
    """

    text: bytes
    stops: Ints
    first_row: int
    clean: bool


def _read_part(part: _Part, header: Header, form: Form | None) -> Lines | None:
    """Read a part; None if the parser finds other lines in it than there are."""
    begins = np.concatenate(([0], part.stops[:-1] + 1))
    plain = find_plain(part.text, begins, part.stops, form) if form else None
    texts = _as_texts(part.text, begins)
    telling, text = np.arange(len(begins)), part.text
    if plain is not None:
        telling = np.flatnonzero(plain.teller == telling)
        text = _join(texts.take(pa.array(telling)))
    text, broken = blank_broken_quotes(text, header.delimiter)
    fields, misfits = parse_fields(text, header)
    good = np.ones(len(telling), dtype=bool)
    good[misfits] = False
    if len(fields[0]) != good.sum():
        return None
    filled = _find_filled(fields)
    if not filled.all():
        fields = [field.filter(pa.array(filled)) for field in fields]
    lines, own = telling[good][filled], None
    faults = {} if part.clean else {Reason.UNREADABLE_ROW: _find_replaced(fields)}
    if form is not None and plain is not None:
        lines, own = _spread(plain, lines, form.times)
        faults = {reason: mask[own.teller.to_numpy()] for reason, mask in faults.items()}
    broken = part.first_row + np.sort(telling[np.concatenate((misfits, broken))])
    return Lines(fields, own, part.first_row + lines, faults, broken, texts, lines, header)


def _spread(plain: Plain, telling: Ints, times: Sequence[int]) -> tuple[Ints, Own]:
    """Find all lines that hold a reading, and what they say, from those that tell."""
    held = plain.found.copy()
    held[telling] = True
    lines = np.flatnonzero(held)
    at = as_slice(lines)
    teller = plain.teller[at]
    place = np.full(len(held), -1)
    place[telling] = np.arange(len(telling))
    later = {
        column: pa.array((minutes[at] - minutes[teller]) * _US_PER_MINUTE)
        for column, minutes in zip(times, plain.minutes, strict=True)
    }
    own = Own(pa.array(place[teller]), later, plain.found[at], plain.digits[at], plain.decimals[at])
    return lines, own


def _find_filled(fields: Sequence[pa.Array]) -> Mask:
    """Tell which lines have any text in their fields."""
    filled = np.zeros(len(fields[0]), dtype=bool)
    for field in fields:
        filled |= pc.greater(pc.binary_length(field), 0).to_numpy(zero_copy_only=False)
        if filled.all():  # mostly so with the first
            break
    return filled


def _find_replaced(fields: Sequence[pa.Array]) -> Mask:
    replaced: Mask = np.zeros(len(fields[0]), dtype=bool)
    for field in fields:
        replaced |= pc.match_substring(field, _REPLACED).to_numpy(zero_copy_only=False)
    return replaced


def _as_texts(text: bytes, begins: Ints) -> pa.Array:
    """Give the lines of a text, with their ends, as an array of binaries, without a copy."""
    offsets = pa.py_buffer(np.append(begins, len(text)))
    return pa.Array.from_buffers(pa.large_binary(), len(begins), [None, offsets, pa.py_buffer(text)])


def _join(texts: pa.Array) -> bytes:
    """Join lines that were taken to one text."""
    _, offsets, text = texts.buffers()
    return text.slice(0, np.frombuffer(offsets, np.int64)[len(texts)]).to_pybytes() if text else b""
