"""Any delimited file of readings, read by a mapping (``schemas/mapping.schema.json``).

Times have an offset, or the mapping names their zone. A file of local times is read in one part, since the hour that
occurs twice is told by the order of lines.

A register shows what a meter has counted so far. Energy is the difference of two reads of one file: one over the border
of files would depend on which of them came first. So the first read of a point ends no interval, and files that follow
each other must have one read in common. A file of registers is read in one part, too.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import BadFileError, MeterveilError
from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.delimited import (
    SPLIT_BYTES,
    Header,
    Lines,
    cut_split,
    parse_header,
    read_head,
    read_lines,
    split_lines,
)
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
        for part in [split] if _needs_order(mapping) else cut_split(split):
            lines = read_lines(part, header, must_end=True)
            text = {field: lines.fields[header.names.index(name)] for field, name in mapping.columns.items()}
            deliver = _deliver if mapping.register is None else _deliver_registers
            yield deliver(lines, text, mapping, registered_at)


def _needs_order(mapping: Mapping) -> bool:
    """Tell whether a line is read by those before it: a repeated local hour, or a register."""
    return mapping.time_zone is not None or mapping.register is not None


def _deliver(lines: Lines, text: dict[str, pa.Array], mapping: Mapping, registered_at: int | None) -> Delivery:
    faults = dict(lines.faults)
    start, resolution_s = _parse_interval(text, mapping, faults)
    units = text["unit"] if mapping.unit is None else pa.repeat(mapping.unit, len(lines.row))
    columns = Columns(
        metering_point_id=text["metering_point_id"],
        product=_find_product(text, mapping),
        start=start,
        resolution_s=resolution_s,
        registered_at=_find_registration(text, mapping, registered_at),
        energy=parse_energy(text["energy"], units, mapping.decimal_sign),
        status=_find_status(text, mapping),
        row=lines.row,
    )
    return lines.deliver(columns, {**columns.as_delivered(), **text}, faults)


def _deliver_registers(
    lines: Lines, text: dict[str, pa.Array], mapping: Mapping, registered_at: int | None
) -> Delivery:
    """Deliver the differences of reads; a read that ends no interval, and is no fault, delivers nothing."""
    register, resolution_s, unit = _require(mapping.register), _require(mapping.resolution_s), _require(mapping.unit)
    faults = dict(lines.faults)
    read_at = _parse_times(text["read_at"], text, mapping, faults)
    # A register may show more than a reading may have: MWh are read as if kWh, and multiplied as a difference.
    small, factor = ("kWh", 1_000) if unit == "MWh" else (unit, 1)
    value = parse_energy(text["register"], pa.repeat(small, len(read_at)), mapping.decimal_sign)
    modulus, most = (_as_units(number, small) for number in (10**register.digits, register.most))
    value = pc.if_else(pc.and_(pc.greater_equal(value, 0), pc.less(value, modulus)), value, None)
    status, registered = _find_status(text, mapping), _find_registration(text, mapping, registered_at)

    unread = _as_mask(pc.equal(status, int(Status.MISSING)))
    doubtful = np.logical_or.reduce([_as_mask(column.is_null()) for column in (read_at, value, status, registered)])
    doubtful |= np.logical_or.reduce(list(faults.values())) if faults else False
    good = np.flatnonzero(~doubtful & ~unread)
    taken = pa.array(good)
    times = read_at.take(taken).cast(_TIME).view(pa.int64()).to_numpy()
    reads = Reads(
        stream=_group(text, ("metering_point_id", "product"))[good],
        meter=_group(text, ("meter",))[good],
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
    text = {name: column.take(told) for name, column in text.items()}
    faults = {reason: mask[chosen] for reason, mask in faults.items()} | {Reason.REGISTER_BREAK: is_broken[chosen]}
    columns = Columns(
        metering_point_id=text["metering_point_id"],
        product=_find_product(text, mapping),
        start=pc.if_else(read_at.take(told).is_valid(), read_at.take(since), None),
        resolution_s=pa.array(np.full(len(chosen), resolution_s, np.int32)),
        registered_at=_take_later(registered.take(told), registered.take(since)),
        energy=pc.if_else(value.take(told).is_valid(), pa.array(counted[chosen]), None),
        status=pc.min_element_wise(status.take(told), status.take(since), skip_nulls=False),
        row=lines.row[chosen],
    )
    shown = {"start": text["read_at"], "energy": text["register"]}
    return lines.deliver(columns, {**columns.as_delivered(), **text, **shown}, faults)


def _find_product(text: dict[str, pa.Array], mapping: Mapping) -> pa.Array:
    return text["product"] if "product" in text else pa.repeat(mapping.product, len(text["metering_point_id"]))


def _find_status(text: dict[str, pa.Array], mapping: Mapping) -> pa.Array:
    if mapping.status is None:
        return translate_words(text["status"], mapping.status_words)
    return pa.array(np.full(len(text["metering_point_id"]), mapping.status, np.int8))


def _find_registration(text: dict[str, pa.Array], mapping: Mapping, registered_at: int | None) -> pa.Array:
    if registered_at is not None:
        return pa.array(np.full(len(text["metering_point_id"]), registered_at)).cast(_TIME)
    # A registration time that the clock shows twice or never is as good as none.
    doubtful: dict[Reason, Mask] = {}
    registered = _parse_times(text["registered_at"], text, mapping, doubtful)
    for mask in doubtful.values():
        registered = pc.if_else(pa.array(mask), None, registered)
    return registered


def _parse_interval(
    text: dict[str, pa.Array], mapping: Mapping, faults: dict[Reason, Mask]
) -> tuple[pa.Array, pa.Array]:
    """Work out start and length of the intervals; what local times leave open goes to ``faults``."""
    if "start" in text and "end" in text:
        start, end = (_parse_times(text[name], text, mapping, faults) for name in ("start", "end"))
        seconds = pc.divide(pc.subtract(end.view(pa.int64()), start.view(pa.int64())), US_PER_S)
        daily = pc.is_in(seconds, pa.array(_DAYS_S))
        fits = pc.and_(pc.greater(seconds, 0), pc.less_equal(seconds, DAY_S))
        return start, pc.if_else(daily, DAY_S, pc.if_else(fits, seconds, None))
    if mapping.resolution_s is None:
        resolution_s = parse_resolution(text["resolution"])
    else:
        resolution_s = pa.array(np.full(len(text["metering_point_id"]), mapping.resolution_s, np.int32))
    if "start" in text:
        return _parse_times(text["start"], text, mapping, faults), resolution_s
    length = pc.multiply(resolution_s.cast(pa.int64()), US_PER_S)
    # A day that ends at midnight began at the midnight before: its length is taken off on the clock, any other in UTC.
    on_clock = pc.if_else(pc.equal(resolution_s, DAY_S), length, 0)
    start = _parse_times(text["end"], text, mapping, faults, earlier=on_clock)
    return _shift(start, pc.subtract(length, on_clock)), resolution_s


def _parse_times(
    times: pa.Array,
    text: dict[str, pa.Array],
    mapping: Mapping,
    faults: dict[Reason, Mask],
    *,
    earlier: pa.Array | None = None,
) -> pa.Array:
    """Parse times with an offset, or local times of the mapping's zone, taking microseconds off on their clock."""
    instant = parse_instant(times)
    if earlier is not None:
        instant = _shift(instant, earlier)
    if mapping.time_zone is None:
        return instant
    local = parse_local(times)
    if earlier is not None:
        local = _shift(local, earlier)
    resolved = resolve_local(local, mapping.time_zone, _group(text))
    for reason, mask in ((Reason.AMBIGUOUS_LOCAL_TIME, resolved.ambiguous), (Reason.OFF_GRID, resolved.impossible)):
        faults[reason] = faults[reason] | mask if reason in faults else mask
    return pc.coalesce(resolved.instant, instant)


def _shift(times: pa.Array, earlier: pa.Array) -> pa.Array:
    return pc.subtract(times.view(pa.int64()), earlier).view(times.type)


def _group(text: dict[str, pa.Array], names: Sequence[str] = _SERIES) -> NDArray[np.int64]:
    """Number the lines so that lines have one number where the fields of those names that there are agree."""
    groups = np.zeros(len(text["metering_point_id"]), dtype=np.int64)
    for name in names:
        if name in text:
            encoded = text[name].dictionary_encode()
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
