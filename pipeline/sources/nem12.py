"""Interval readings of the Australian market: NEM12 (``pipeline.sources.nem_lines``).

Between header and end are data streams (200), their days (300: one line with every value of the day), qualities of
parts of a day (400), and notes between businesses (500). A day that comes again replaces the one before as a whole, by
its update time, so its null values are MISSING.
"""

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.deliver import Columns, deliver_series, reject_rows
from pipeline.sources.fields import parse_energy
from pipeline.sources.nem_lines import (
    DATE_FORM,
    UNKNOWN,
    Lines,
    NemSource,
    find_registration,
    find_units,
    name_points,
    parse_lines,
    parse_times,
    rate_quality,
)
from schemas.series import DAY_S
from schemas.status import Status

Ints = NDArray[np.int64]

#: The qualities stand in 400 records; a value that none of them covers is PARTIAL.
_VARIABLE = "V"
#: Fields of a 300 record besides its values: indicator and date before, quality to load time after.
_BEFORE, _AFTER = 2, 5
#: Record indicators.
_KINDS = np.array([100, 200, 300, 400, 500, 900])
#: What stands behind the indicator of a record.
_INDICATED = re.compile(rb",|\r?(?:\n|$)")


class Nem12Source(NemSource):
    """NEM12 files."""

    name = "nem12"
    version = b"NEM12"
    cut = re.compile(rb"\n(?=[23]00,)")  # not before a 400, which belongs to its day

    def read(self, split: Split, options: ReadOptions) -> Iterator[Delivery]:
        """Decode the lines of a split."""
        with Path(split.path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            content = data[split.start : split.stop]
            stream = _find_stream(data, split.start)
        # The stream that the first days belong to is put before them, as a line that is not there.
        lines = parse_lines(stream + content, split.first_row - stream.count(b"\n"), _KINDS)
        days = _find_days(lines)
        broken = lines.row[days.broken]
        delivery = deliver_series(*_decode(lines, days, split, options))
        yield Delivery(delivery.series, pa.concat_batches([reject_rows(broken), delivery.rejected]))


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


def _find_days(lines: Lines) -> _Days:
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


def _decode(lines: Lines, days: _Days, split: Split, options: ReadOptions) -> tuple[Columns, dict[str, pa.Array]]:
    offsets = np.concatenate(([0], np.cumsum(days.length)))
    flat = np.repeat(lines.first[days.line] + _BEFORE - offsets[:-1], days.length) + np.arange(offsets[-1])
    values = lines.fields.take(pa.array(flat))
    product, units = find_units(lines.take(days.stream, 7))
    status, words = _find_status(lines, days, offsets)
    if units.null_count:  # what is no energy (power, voltage) is no missing energy either
        status = pc.if_else(_spread(units.is_valid(), days.length), status, None)
        units = units.fill_null("")
    updated, loaded = (lines.take(days.line, _BEFORE + days.length + place) for place in (3, 4))
    registered_at, stamps = find_registration(updated, loaded, split, options)
    date = lines.take(days.line, 1)
    lists = [pa.array(offsets.astype(np.int32))]
    columns = Columns(
        metering_point_id=_name_streams(lines, days.stream),
        product=product,
        start=parse_times(date, [DATE_FORM]),
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


def _find_status(lines: Lines, days: _Days, offsets: Ints) -> tuple[pa.Array, pa.Array]:
    """Find the status of each value, int8, null where unknown, and the word that says it.

    Where several records speak of one value, the weakest quality counts, and an unknown one is the weakest.
    """
    words = pc.ascii_upper(pa.concat_arrays([lines.take(days.line, _BEFORE + days.length), lines.take(days.event, 3)]))
    encoded = words.dictionary_encode()
    unsaid = len(Status)
    scale = [unsaid if word == _VARIABLE else rate_quality(word) for word in encoded.dictionary.to_pylist()]
    of_words = np.array(scale, np.int8)[encoded.indices.to_numpy()]
    count = len(days.line)
    codes = np.repeat(of_words[:count], days.length)
    said = np.repeat(np.arange(count, dtype=np.int32), days.length)
    if len(days.event):
        lengths = days.event_to - days.event_from
        begins = offsets[days.event_day] + days.event_from - (np.cumsum(lengths) - lengths)
        flat = np.repeat(begins, lengths) + np.arange(lengths.sum())
        of_events = of_words[count:]
        np.minimum.at(codes, flat, np.repeat(np.where(of_events == unsaid, UNKNOWN, of_events), lengths))
        said[flat] = count + np.repeat(np.arange(len(days.event), dtype=np.int32), lengths)
    codes[codes == unsaid] = Status.PARTIAL
    return pa.array(codes, mask=codes == UNKNOWN), pa.DictionaryArray.from_arrays(said, words)


def _name_streams(lines: Lines, stream: Ints) -> pa.Array:
    distinct, place = np.unique(stream, return_inverse=True)
    return name_points(*(lines.take(distinct, position) for position in (1, 4))).take(pa.array(place))


def _as_integers(text: pa.Array, form: str) -> Ints:
    """Read whole numbers of a form; 0 where a text has another."""
    numbers: Ints = pc.if_else(pc.match_substring_regex(text, form), text, "0").cast(pa.int64()).to_numpy()
    return numbers


def _spread(column: pa.Array, lengths: Ints) -> pa.Array:
    """Repeat the value of each day for its readings."""
    return column.take(pa.array(np.repeat(np.arange(len(lengths)), lengths)))
