"""Any delimited file of readings, read by a mapping (``schemas/mapping.schema.json``).

Times have an offset, or the mapping names their zone. A file of local times is read in one part, since the hour that
occurs twice is told by the order of lines.

A register shows what a meter has counted so far. Energy is the difference of two reads of one file: one over the border
of files would depend on which of them came first. So the first read of a point ends no interval, and files that follow
each other must have one read in common. A file of registers is read in one part, too.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import BadFileError, MeterveilError
from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.delimited import SPLIT_BYTES, Header, parse_header, read_head, split_lines
from pipeline.sources.delimited_lines import Lines, make_form, read_lines
from pipeline.sources.deliver import Columns, Mask, translate_words
from pipeline.sources.fields import UNITS, parse_energy, parse_instant, parse_local, parse_resolution
from pipeline.sources.local_time import resolve_local
from pipeline.sources.mapping import Mapping, load_mapping
from schemas.reasons import Reason
from schemas.series import DAY_S
from schemas.status import Status
from transforms.calendar import US_PER_S
from transforms.meter_registers import Reads, difference

_T = TypeVar("_T")
#: Fields that change from one line to the next.
_TIMES, _NUMBERS = ("start", "end", "read_at"), ("energy", "register")
_TIME = pa.timestamp("us", "UTC")
#: What is in order within itself, so that of an hour that the clock shows twice the passes can be told.
_SERIES = ("metering_point_id", "product", "resolution", "registered_at")
#: A local day whose clock changes, from its start to its end.
_DAYS_S = (DAY_S - 3_600, DAY_S + 3_600)


class MappedCsvSource:
    """Delimited files that a mapping explains."""

    name = "mapped-csv"

    def recognises(self, path: str, head: bytes, options: ReadOptions) -> bool:
        """Tell a file whose first line has all columns of the mapping."""
        del path
        if options.mapping is None:
            return False
        mapping = load_mapping(options.mapping)
        header = parse_header(head, mapping.delimiter, mapping.encoding)
        return header is not None and set(mapping.columns.values()) <= set(header.names)

    def splits(
        self, path: str, digest: str, options: ReadOptions, *, split_bytes: int = SPLIT_BYTES
    ) -> Sequence[Split]:
        """Check mapping and header, and cut the file at line ends.

        Raises:
            BadFileError: a column of the mapping is not there, or no registration time.
            MeterveilError: no mapping, or one with a fault.
        """
        mapping = _require_mapping(options)
        header = _require_header(path, mapping)
        mapping.find_registration(path, options)
        return split_lines(path, self.name, digest, header, sys.maxsize if _needs_order(mapping) else split_bytes)

    def read(self, split: Split, options: ReadOptions) -> Iterator[Delivery]:
        """Decode the lines of a split."""
        mapping = _require_mapping(options)
        header = _require_header(split.path, mapping)
        registered_at = mapping.find_registration(split.path, options)
        places = {field: header.names.index(name) for field, name in mapping.columns.items()}
        form = make_form(
            header,
            times=[place for field, place in places.items() if field in _TIMES],
            number=next(place for field, place in places.items() if field in _NUMBERS),
            others=[place for field, place in places.items() if field not in (*_TIMES, *_NUMBERS)],
            decimal_sign=mapping.decimal_sign,
        )
        deliver = _deliver if mapping.register is None else _deliver_registers
        for lines in read_lines(split, header, form, must_end=True, at_once=_needs_order(mapping)):
            text = {field: lines.fields[place] for field, place in places.items()}
            yield deliver(_Content(lines, places, text, mapping), registered_at)


@dataclass(frozen=True, slots=True)
class _Content:
    """Lines with the fields that the mapping names.

    Attributes:
        lines: as they were read.
        places: column of each field.
        text: each field, of the lines that tell.
        mapping: what the fields mean.
    """

    lines: Lines
    places: dict[str, int]
    text: dict[str, pa.Array]
    mapping: Mapping

    def __len__(self) -> int:
        """Count the lines."""
        return len(self.lines.row)

    def spread(self, field: str) -> pa.DictionaryArray:
        """Give each line its text in a field that is no time and no number."""
        return self.lines.spread(self.text[field].dictionary_encode())

    def show(self, taken: pa.Array) -> dict[str, pa.Array]:
        """Give the fields of some lines, in ascending order, as they stand."""
        fields = self.lines.show(taken)
        return {field: fields[place] for field, place in self.places.items()}


def _needs_order(mapping: Mapping) -> bool:
    """Tell whether a line is read by those before it: a repeated local hour, or a register."""
    return mapping.time_zone is not None or mapping.register is not None


def _deliver(content: _Content, registered_at: int | None) -> Delivery:
    lines, faults = content.lines, dict(content.lines.faults)
    start, resolution_s = _parse_interval(content, faults)
    columns = Columns(
        metering_point_id=content.spread("metering_point_id"),
        product=_find_product(content),
        start=start,
        resolution_s=resolution_s,
        registered_at=_find_registration(content, registered_at),
        energy=_parse_number(content, "energy", content.mapping.unit),
        status=_find_status(content),
        row=lines.row,
    )
    return lines.deliver(columns, lambda taken: _take(columns, taken) | content.show(taken), faults)


def _deliver_registers(content: _Content, registered_at: int | None) -> Delivery:
    """Deliver the differences of reads; a read that ends no interval, and is no fault, delivers nothing."""
    lines, mapping = content.lines, content.mapping
    register, resolution_s, unit = _require(mapping.register), _require(mapping.resolution_s), _require(mapping.unit)
    faults = dict(lines.faults)
    read_at = _parse_times(content, "read_at", faults)
    # A register may show more than a reading may have: MWh are read as if kWh, and multiplied as a difference.
    small, factor = ("kWh", 1_000) if unit == "MWh" else (unit, 1)
    value = _parse_number(content, "register", small)
    modulus, most = (_as_units(number, small) for number in (10**register.digits, register.most))
    value = pc.if_else(pc.and_(pc.greater_equal(value, 0), pc.less(value, modulus)), value, None)
    status, registered = _find_status(content), _find_registration(content, registered_at)

    unread = _as_mask(pc.equal(status, int(Status.MISSING)))
    doubtful = np.logical_or.reduce([_as_mask(column.is_null()) for column in (read_at, value, status, registered)])
    doubtful |= np.logical_or.reduce(list(faults.values())) if faults else False
    good = np.flatnonzero(~doubtful & ~unread)
    taken = pa.array(good)
    times = read_at.take(taken).cast(_TIME).view(pa.int64()).to_numpy()
    reads = Reads(
        stream=_group(content, ("metering_point_id", "product"))[good],
        meter=_group(content, ("meter",))[good],
        time=times,
        value=value.take(taken).to_numpy(),
    )
    made, broken, earlier, energy = difference(reads, resolution_s, modulus, most)

    # From here on: reads that end an interval, and reads with a fault, in the order of lines.
    is_broken, is_made = np.zeros(len(doubtful), bool), np.zeros(len(doubtful), bool)
    is_broken[good], is_made[good] = broken, made
    before = np.arange(len(doubtful))
    before[good] = good[earlier]
    counted = np.zeros(len(doubtful), np.int64)
    counted[good] = energy * factor
    chosen = np.flatnonzero(is_made | is_broken | (doubtful & ~unread))
    told, since = pa.array(chosen), pa.array(before[chosen])
    faults = {reason: mask[chosen] for reason, mask in faults.items()} | {Reason.REGISTER_BREAK: is_broken[chosen]}
    columns = Columns(
        metering_point_id=content.spread("metering_point_id").take(told),
        product=_find_product(content).take(told),
        start=pc.if_else(read_at.take(told).is_valid(), read_at.take(since), None),
        resolution_s=pa.array(np.full(len(chosen), resolution_s, np.int32)),
        registered_at=_take_later(registered.take(told), registered.take(since)),
        energy=pc.if_else(value.take(told).is_valid(), pa.array(counted[chosen]), None),
        status=pc.min_element_wise(status.take(told), status.take(since), skip_nulls=False),
        row=lines.row[chosen],
    )

    def show(taken: pa.Array) -> dict[str, pa.Array]:
        text = content.show(told.take(taken))
        return {**_take(columns, taken), **text, "start": text["read_at"], "energy": text["register"]}

    return lines.deliver(columns, show, faults)


def _take(columns: Columns, taken: pa.Array) -> dict[str, pa.Array]:
    return {name: column.take(taken) for name, column in columns.as_delivered().items()}


def _find_product(content: _Content) -> pa.Array:
    if "product" in content.text:
        return content.spread("product")
    return pa.DictionaryArray.from_arrays(np.zeros(len(content), np.int32), [content.mapping.product])


def _find_status(content: _Content) -> pa.Array:
    if content.mapping.status is None:
        return content.lines.spread(translate_words(content.text["status"], content.mapping.status_words))
    return pa.array(np.full(len(content), content.mapping.status, np.int8))


def _find_registration(content: _Content, registered_at: int | None) -> pa.Array:
    if registered_at is not None:
        return pa.array(np.full(len(content), registered_at)).cast(_TIME)
    # A registration time that the clock shows twice or never is as good as none.
    doubtful: dict[Reason, Mask] = {}
    registered = _parse_times(content, "registered_at", doubtful)
    for mask in doubtful.values():
        registered = pc.if_else(pa.array(mask), None, registered)
    return registered


def _parse_number(content: _Content, field: str, unit: str | None) -> pa.Array:
    """Parse energy, or what a register shows; a unit of None stands in a column."""
    text = content.text[field]
    units = content.text["unit"] if unit is None else pa.repeat(unit, len(text))
    return content.lines.spread_energy(parse_energy(text, units, content.mapping.decimal_sign), units)


def _parse_interval(content: _Content, faults: dict[Reason, Mask]) -> tuple[pa.Array, pa.Array]:
    """Work out start and length of the intervals; what local times leave open goes to ``faults``."""
    if "start" in content.text and "end" in content.text:
        start, end = (_parse_times(content, name, faults) for name in ("start", "end"))
        seconds = pc.divide(pc.subtract(end.view(pa.int64()), start.view(pa.int64())), US_PER_S)
        daily = pc.is_in(seconds, pa.array(_DAYS_S))
        fits = pc.and_(pc.greater(seconds, 0), pc.less_equal(seconds, DAY_S))
        return start, pc.if_else(daily, DAY_S, pc.if_else(fits, seconds, None))
    if content.mapping.resolution_s is None:
        resolution_s = content.lines.spread(parse_resolution(content.text["resolution"]))
    else:
        resolution_s = pa.array(np.full(len(content), content.mapping.resolution_s, np.int32))
    if "start" in content.text:
        return _parse_times(content, "start", faults), resolution_s
    length = pc.multiply(resolution_s.cast(pa.int64()), US_PER_S)
    # A day that ends at midnight began at the midnight before: its length is taken off on the clock, any other in UTC.
    on_clock = pc.if_else(pc.equal(resolution_s, DAY_S), length, 0)
    start = _parse_times(content, "end", faults, earlier=on_clock)
    return _shift(start, pc.subtract(length, on_clock)), resolution_s


def _parse_times(
    content: _Content, field: str, faults: dict[Reason, Mask], *, earlier: pa.Array | None = None
) -> pa.Array:
    """Parse times with an offset, or local times of the mapping's zone, taking microseconds off on their clock."""

    def parse(form: Callable[[pa.Array], pa.Array]) -> pa.Array:
        times = content.lines.spread_times(form(content.text[field]), content.places[field])
        return times if earlier is None else _shift(times, earlier)

    instant = parse(parse_instant)
    if content.mapping.time_zone is None:
        return instant
    resolved = resolve_local(parse(parse_local), content.mapping.time_zone, _group(content))
    for reason, mask in ((Reason.AMBIGUOUS_LOCAL_TIME, resolved.ambiguous), (Reason.OFF_GRID, resolved.impossible)):
        faults[reason] = faults[reason] | mask if reason in faults else mask
    return pc.coalesce(resolved.instant, instant)


def _shift(times: pa.Array, earlier: pa.Array) -> pa.Array:
    return pc.subtract(times.view(pa.int64()), earlier).view(times.type)


def _group(content: _Content, names: Sequence[str] = _SERIES) -> NDArray[np.int64]:
    """Number the lines so that lines have one number where the fields of those names that there are agree."""
    groups = np.zeros(len(content), dtype=np.int64)
    for name in names:
        if name in content.text:
            encoded = content.spread(name)
            groups = groups * len(encoded.dictionary) + encoded.indices.to_numpy()
    return groups


def _take_later(one: pa.Array, other: pa.Array) -> pa.Array:
    return pc.if_else(pc.greater(one, other), one, other)


def _as_units(number: int, unit: str) -> int:
    """Give a number of a unit in milliwatt-hours."""
    return number * int(10 ** (6 + UNITS[unit]))


def _as_mask(column: pa.Array) -> Mask:
    mask: Mask = column.fill_null(False).to_numpy(zero_copy_only=False)
    return mask


def _require(value: _T | None) -> _T:
    """Give what a mapping of registers always has (``mapping._check_register``)."""
    assert value is not None
    return value


def _require_mapping(options: ReadOptions) -> Mapping:
    if options.mapping is None:
        raise MeterveilError("a delimited file needs a mapping", where="--format", remedy="give it with --mapping")
    return load_mapping(options.mapping)


def _require_header(path: str, mapping: Mapping) -> Header:
    header = parse_header(read_head(path), mapping.delimiter, mapping.encoding)
    missing = set(mapping.columns.values()) - set(header.names if header else ())
    if header is None or missing:
        columns = ", ".join(sorted(missing))
        raise BadFileError(
            f"its first line does not name the mapping's columns {columns}",
            where=path,
            remedy="check the file, and delimiter and columns of the mapping",
        )
    return header
