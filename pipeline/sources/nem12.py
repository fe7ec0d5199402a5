"""Interval readings of the Australian market: NEM12 (AEMO, Meter Data File Format Specification NEM12 & NEM13).

A file has a header (100), data streams (200), their days (300: one line with every value of the day), qualities of
parts of a day (400), notes between businesses (500), and an end (900), without which it was cut short.

* One metering point of the market (NMI) has several streams, which its suffix tells apart: E1 is energy out of the grid
  (consumption), B1 into it, Q1 and K1 are reactive. Each is a metering point here, ``<NMI>-<suffix>``; a stream without
  a suffix is its NMI's only one, and named by that.
* Times are those of UTC+10 all the year, wherever in the market the meter is.
* A day that comes again replaces the one before as a whole, by its update time, so its null values are MISSING.
* NEM13 holds what a register counted between two visits, months apart. Nothing says on which day: it is refused.
"""

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import BadFileError
from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.delimited import MOST_BYTES, as_utf8
from pipeline.sources.deliver import Columns, deliver_series, reject_rows
from pipeline.sources.fields import parse_energy, parse_local, require_registration
from schemas.series import ACTIVE_ENERGY, DAY_S
from schemas.status import Status
from transforms.series import canonical_ids, find_mangled

Ints = NDArray[np.int64]

#: Bytes that one worker reads at a time: about three million values.
SPLIT_BYTES = 16 << 20
#: Reactive energy, in kilovar-hours where active energy has kilowatt-hours; the suffix says its direction.
REACTIVE_ENERGY = "8716867000047"
#: Units that are energy, in upper case: what they count, and the unit of active energy of the same power of ten.
_UNITS = {
    "WH": (ACTIVE_ENERGY, "Wh"),
    "KWH": (ACTIVE_ENERGY, "kWh"),
    "MWH": (ACTIVE_ENERGY, "MWh"),
    "VARH": (REACTIVE_ENERGY, "Wh"),
    "KVARH": (REACTIVE_ENERGY, "kWh"),
    "MVARH": (REACTIVE_ENERGY, "MWh"),
}
#: Qualities: actual, forward estimate, substituted, finally substituted, null. Two digits of a method may follow.
_QUALITIES = {
    "A": Status.OK,
    "E": Status.ESTIMATED,
    "S": Status.ESTIMATED,
    "F": Status.ESTIMATED,
    "N": Status.MISSING,
}
_QUALITY_FORM = re.compile(r"[AESFN][0-9]{0,2}")
#: The qualities stand in 400 records; a value that none of them covers is PARTIAL.
_VARIABLE = "V"
_UNKNOWN = -1
#: Fields of a 300 record besides its values: indicator and date before, quality to load time after.
_BEFORE, _AFTER = 2, 5
_US_PER_HOUR = 3_600_000_000
_OFFSET_US = 10 * _US_PER_HOUR
_TIME = pa.timestamp("us", "UTC")
_DATE_FORM = (r"^([0-9]{4})([0-9]{2})([0-9]{2})$", r"\1-\2-\3 00:00")
#: Times with and without seconds, or a date alone.
_TIME_FORMS = (
    _DATE_FORM,
    (r"^([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})$", r"\1-\2-\3 \4:\5"),
    (r"^([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})$", r"\1-\2-\3 \4:\5:\6"),
)
_BOM = b"\xef\xbb\xbf"
#: Record indicators; other lines are none.
_KINDS = np.array([100, 200, 300, 400, 500, 900])
#: The first line; some senders begin with an empty one.
_HEADER = re.compile(rb"(?:\xef\xbb\xbf)?\s*100,NEM(1[23])[,\r\n]")
_END = re.compile(rb"\n900,*\r?(?:\n|$)")
_REST = re.compile(rb"\s*(?:$|100,NEM12[,\r\n])")
#: What stands behind the indicator of a record.
_INDICATED = re.compile(rb",|\r?(?:\n|$)")
#: Where a file may be cut: not before a 400, which belongs to its day.
_CUT = re.compile(rb"\n(?=[23]00,)")


class Nem12Source:
    """NEM12 files; NEM13 is recognised, and refused with the reason."""

    name = "nem12"

    def recognises(self, path: str, head: bytes, options: ReadOptions) -> bool:
        """Tell a file by its header record."""
        del path, options
        return _HEADER.match(head) is not None

    def splits(
        self, path: str, digest: str, options: ReadOptions, *, split_bytes: int = SPLIT_BYTES
    ) -> Sequence[Split]:
        """Check that every block has its end record, and cut the file between days.

        A block is what stands from a 100 to a 900. The specification has one a file; files that somebody joined have
        more, and one of them that is cut exactly between two blocks is whole to everybody.

        Raises:
            BadFileError: no header, no end record, something after it, or NEM13.
        """
        del options
        splits = []
        with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check_blocks(path, data)
            start, first_row = 0, 1
            while start < len(data):
                cut = _CUT.search(data, min(start + split_bytes, len(data)) - 1)
                stop = cut.end() if cut else len(data)
                if stop - start > MOST_BYTES:
                    raise BadFileError("a line is too long to be a day", where=path, remedy="check the file")
                splits.append(Split(path, self.name, digest, start, stop, first_row))
                first_row += data[start:stop].count(b"\n")
                start = stop
        return splits

    def read(self, split: Split, options: ReadOptions) -> Iterator[Delivery]:
        """Decode the lines of a split."""
        with Path(split.path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            content = data[split.start : split.stop]
            stream = _find_stream(data, split.start)
        # The stream that the first days belong to is put before them, as a line that is not there.
        lines = _parse(stream + content, split.first_row - stream.count(b"\n"))
        days = _find_days(lines)
        broken = lines.row[days.broken]
        delivery = deliver_series(*_decode(lines, days, split, options))
        yield Delivery(delivery.series, pa.concat_batches([reject_rows(broken), delivery.rejected]))


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines as fields.

    Attributes:
        fields: every field of every line, in order, strings.
        first: int64, each line's first field.
        count: int64, how many each has.
        row: int64, its number in the file.
        kind: int64, its record indicator; 0 where there is none.
    """

    fields: pa.StringArray
    first: Ints
    count: Ints
    row: Ints
    kind: Ints

    def take(self, lines: Ints, position: int | Ints) -> pa.Array:
        """Take the field at a position of each of some lines; empty where a line ends before it."""
        there = self.count[lines] > position
        taken = self.fields.take(pa.array(np.where(there, self.first[lines] + position, 0)))
        return pc.utf8_trim_whitespace(taken if there.all() else pc.if_else(pa.array(there), taken, ""))


@dataclass(frozen=True, slots=True)
class _Days:
    """The 300 records of a split that can be read.

    Attributes:
        line: int64, index of each among the lines.
        stream: int64, index of the 200 record that it belongs to.
        length: int64, how many values it has.
        event: int64, index of each 400 record that belongs to one of them.
        event_day: int64, that day's place among the days.
        event_from: int64, the first value that it speaks of, from 0.
        event_to: int64, the last, exclusive.
        broken: int64, lines that hold no record where one must be.
    """

    line: Ints
    stream: Ints
    length: Ints
    event: Ints
    event_day: Ints
    event_from: Ints
    event_to: Ints
    broken: Ints


def _check_blocks(path: str, data: mmap.mmap) -> None:
    header = _HEADER.match(data)
    if header is None:
        raise BadFileError(
            "it does not begin with the header of NEM12", where=path, remedy="check the file and --format"
        )
    if header.group(1) == b"13":
        raise BadFileError(
            "it is NEM13: what a register counted over months, which no interval can be told from",
            where=path,
            remedy="ask the sender for interval data, NEM12",
        )
    end = place = 0
    while (place := data.find(b"\n900", place)) >= 0:  # a regular expression takes ten times as long to search
        found = _END.match(data, place)
        place += 1
        if found is None:
            continue
        end = found.end()
        if not _REST.match(data, end):
            raise BadFileError("something stands after its end record (900)", where=path, remedy="fetch it again")
    if data[end:].strip():
        raise BadFileError("it has no end record (900): it was cut short", where=path, remedy="fetch it again")


def _find_stream(data: mmap.mmap, start: int) -> bytes:
    """Find the 200 record, with its line end, that days from ``start`` on belong to; empty if one stands there."""
    found = _find_last(data, b"\n200", 0, start)
    if found < 0 or _find_last(data, b"\n900", found, start) >= 0:
        return b""
    return data[found + 1 : data.find(b"\n", found + 1) + 1]


def _find_last(data: mmap.mmap, indicator: bytes, start: int, stop: int) -> int:
    """Find the last record with an indicator between two places; -1 if there is none."""
    found = stop
    while (found := data.rfind(indicator, start, found)) >= 0:
        if _INDICATED.match(data, found + len(indicator)):
            return found
    return -1


def _parse(content: bytes, first_row: int) -> _Lines:
    """Cut text into fields: one array of them all, without a copy of any."""
    content, _ = as_utf8(content.removeprefix(_BOM), "utf-8")
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    if b'"' in content:  # only notes in words have any reason for quotes
        content = re.sub(rb'(?<=,)"[^"\n]*"', lambda quoted: quoted.group()[1:-1].replace(b",", b" "), content)
    if not content.endswith(b"\n"):
        content += b"\n"
    text = np.frombuffer(content, np.uint8)
    separators = np.flatnonzero((text == ord(",")) | (text == ord("\n")))
    last = np.flatnonzero(text[separators] == ord("\n"))
    # Without the separators, each field begins where the one before it ends.
    offsets = np.concatenate(([0], separators - np.arange(len(separators)))).astype(np.int32)
    fields = pa.StringArray.from_buffers(
        len(separators), pa.py_buffer(offsets), pa.py_buffer(content.translate(None, b",\n"))
    )
    first = np.concatenate(([0], last[:-1] + 1))
    filled = np.flatnonzero(offsets[last + 1] > offsets[first])
    first, last = first[filled], last[filled]
    # Exactly these: what cuts a file, and finds the stream that a part begins in, goes by them as well.
    kind = (
        pc.index_in(fields.take(pa.array(first)), pa.array([str(number) for number in _KINDS]))
        .fill_null(len(_KINDS))
        .to_numpy()
    )
    return _Lines(fields, first, last - first + 1, first_row + filled, np.append(_KINDS, 0)[kind])


def _find_days(lines: _Lines) -> _Days:
    numbers = np.arange(len(lines.kind))
    heads = np.maximum.accumulate(np.where(np.isin(lines.kind, (200, 900)), numbers, -1))
    minutes = np.zeros(len(numbers), np.int64)
    streams = np.flatnonzero(lines.kind == 200)
    minutes[streams] = _as_integers(lines.take(streams, 8), r"^[0-9]{1,2}$")
    minutes[(minutes == 0) | (60 % np.maximum(minutes, 1) != 0)] = 0

    line = np.flatnonzero(lines.kind == 300)
    stream = np.maximum(heads[line], 0)
    length = np.where(minutes[stream] > 0, DAY_S // 60 // np.maximum(minutes[stream], 1), 0)
    spare = lines.count[line] - (_BEFORE + length + _AFTER)
    # Fields at the end may be left out, or end in a comma; then the quality must be where it belongs.
    quality = lines.take(line, _BEFORE + length)
    begins = pc.match_substring_regex(quality, "^[A-Za-z]").to_numpy(zero_copy_only=False)
    fits = (spare == 0) | (begins & (spare > -_AFTER) & (spare <= 1))
    readable = (length > 0) & fits
    place = np.full(len(numbers), -1)
    place[line[readable]] = np.arange(readable.sum())

    event = np.flatnonzero(lines.kind == 400)
    owner = np.maximum.accumulate(np.where(lines.kind != 400, numbers, -1))[event]
    owned = (owner >= 0) & (lines.kind[owner] == 300)
    event_day = place[owner]
    first, last = (_as_integers(lines.take(event, position), r"^[0-9]{1,3}$") for position in (1, 2))
    sound = owned & (first >= 1) & (first <= last)
    of_day = sound & (event_day >= 0)
    lengths = length[readable]
    of_day[of_day] = last[of_day] <= lengths[event_day[of_day]]
    lost = ~owned | ((event_day >= 0) & ~of_day)
    broken = np.concatenate((np.flatnonzero(lines.kind == 0), line[~readable], event[lost]))
    return _Days(
        line[readable],
        stream[readable],
        lengths,
        event[of_day],
        event_day[of_day],
        first[of_day] - 1,
        last[of_day],
        np.sort(broken),
    )


def _decode(lines: _Lines, days: _Days, split: Split, options: ReadOptions) -> tuple[Columns, dict[str, pa.Array]]:
    offsets = np.concatenate(([0], np.cumsum(days.length)))
    flat = np.repeat(lines.first[days.line] + _BEFORE - offsets[:-1], days.length) + np.arange(offsets[-1])
    values = lines.fields.take(pa.array(flat))
    product, units = _find_units(lines, days.stream)
    status, words = _find_status(lines, days, offsets)
    if units.null_count:  # what is no energy (power, voltage) is no missing energy either
        status = pc.if_else(_spread(units.is_valid(), days.length), status, None)
        units = units.fill_null("")
    registered_at, stamps = _find_registration(lines, days, split, options)
    date = lines.take(days.line, 1)
    lists = [pa.array(offsets.astype(np.int32))]
    columns = Columns(
        metering_point_id=_name_points(lines, days.stream),
        product=product,
        start=_parse_times(date, [_DATE_FORM]),
        resolution_s=pa.array(DAY_S // days.length),
        registered_at=registered_at,
        energy=pa.ListArray.from_arrays(*lists, parse_energy(values, _spread(units, days.length), ".")),
        status=pa.ListArray.from_arrays(*lists, status),
        row=lines.row[days.line],
    )
    as_delivered = {
        "start": date,
        "registered_at": stamps,
        "energy": pa.ListArray.from_arrays(*lists, values),
        "status": pa.ListArray.from_arrays(*lists, words),
    }
    return columns, {**columns.as_delivered(), **as_delivered}


def _find_status(lines: _Lines, days: _Days, offsets: Ints) -> tuple[pa.Array, pa.Array]:
    """Find the status of each value, int8, null where unknown, and the word that says it.

    Where several records speak of one value, the weakest quality counts, and an unknown one is the weakest.
    """
    words = pc.ascii_upper(pa.concat_arrays([lines.take(days.line, _BEFORE + days.length), lines.take(days.event, 3)]))
    encoded = words.dictionary_encode()
    unsaid = len(Status)
    scale = [
        unsaid if word == _VARIABLE else _QUALITIES[word[0]] if _QUALITY_FORM.fullmatch(word) else _UNKNOWN
        for word in encoded.dictionary.to_pylist()
    ]
    of_words = np.array(scale, np.int8)[encoded.indices.to_numpy()]
    count = len(days.line)
    codes = np.repeat(of_words[:count], days.length)
    said = np.repeat(np.arange(count, dtype=np.int32), days.length)
    if len(days.event):
        lengths = days.event_to - days.event_from
        begins = offsets[days.event_day] + days.event_from - (np.cumsum(lengths) - lengths)
        flat = np.repeat(begins, lengths) + np.arange(lengths.sum())
        of_events = of_words[count:]
        np.minimum.at(codes, flat, np.repeat(np.where(of_events == unsaid, _UNKNOWN, of_events), lengths))
        said[flat] = count + np.repeat(np.arange(len(days.event), dtype=np.int32), lengths)
    codes[codes == unsaid] = Status.PARTIAL
    return pa.array(codes, mask=codes == _UNKNOWN), pa.DictionaryArray.from_arrays(said, words)


def _find_registration(lines: _Lines, days: _Days, split: Split, options: ReadOptions) -> tuple[pa.Array, pa.Array]:
    """Find when each day was updated, else loaded into the market's system, else what the options say; and its text."""
    updated, loaded = (lines.take(days.line, _BEFORE + days.length + place) for place in (3, 4))
    stamps = pc.if_else(pc.equal(updated, ""), loaded, updated)
    unsaid = pc.equal(stamps, "")
    moments = _parse_times(stamps, _TIME_FORMS)
    if pc.any(unsaid).as_py():
        moments = pc.if_else(unsaid, pa.scalar(require_registration(split.path, options)).cast(_TIME), moments)
    return moments, stamps


def _find_units(lines: _Lines, stream: Ints) -> tuple[pa.Array, pa.Array]:
    """Find the product of each day, and the unit as active energy has it; null where the unit is none of energy."""
    place = pc.index_in(pc.ascii_upper(lines.take(stream, 7)), pa.array(list(_UNITS)))
    product, unit = (pa.array(column).take(place) for column in zip(*_UNITS.values(), strict=True))
    return product, unit


def _name_points(lines: _Lines, stream: Ints) -> pa.Array:
    distinct, place = np.unique(stream, return_inverse=True)
    nmi, suffix = (lines.take(distinct, position) for position in (1, 4))
    # An id without its suffix, where it is lost anyway (empty, or in exponent form), is set aside as one.
    alone = pc.or_(pc.equal(suffix, ""), pa.array(find_mangled(canonical_ids(nmi))))
    names = pc.if_else(alone, nmi, pc.binary_join_element_wise(nmi, suffix, "-"))
    names = pc.if_else(pc.match_substring(names, "\ufffd"), "", names)
    return names.take(pa.array(place))


def _parse_times(text: pa.Array, forms: Sequence[tuple[str, str]]) -> pa.Array:
    """Parse times of standard time, in one of some forms, to timestamp[us, UTC]; null where there is none."""
    text = pc.if_else(pc.match_substring(text, "-"), None, text)  # what is in another form already is none
    for form, written in forms:
        text = pc.replace_substring_regex(text, form, written)
    local = parse_local(text)
    return pc.subtract(local.view(pa.int64()), _OFFSET_US).view(_TIME)


def _as_integers(text: pa.Array, form: str) -> Ints:
    """Read whole numbers of a form; 0 where a text has another."""
    numbers: Ints = pc.if_else(pc.match_substring_regex(text, form), text, "0").cast(pa.int64()).to_numpy()
    return numbers


def _spread(column: pa.Array, lengths: Ints) -> pa.Array:
    """Repeat the value of each day for its readings."""
    return column.take(pa.array(np.repeat(np.arange(len(lengths)), lengths)))
