"""Any delimited file of readings, read by a mapping (``schemas/mapping.schema.json``).

Times have an offset, or the mapping names their zone. A file of local times is read in one part, since the hour that
occurs twice is told by the order of lines.
"""

import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import BadFileError, MeterveilError
from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.delimited import SPLIT_BYTES, Header, Lines, parse_header, read_head, read_lines, split_lines
from pipeline.sources.deliver import Columns, Mask, translate_words
from pipeline.sources.fields import parse_energy, parse_instant, parse_local, parse_resolution
from pipeline.sources.local_time import resolve_local
from pipeline.sources.mapping import Mapping, load_mapping
from schemas.reasons import Reason
from schemas.series import ACTIVE_ENERGY, DAY_S
from transforms.calendar import US_PER_S

_TIME = pa.timestamp("us", "UTC")
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
        whole = mapping.time_zone is not None
        return split_lines(path, self.name, digest, header, sys.maxsize if whole else split_bytes)

    def read(self, split: Split, options: ReadOptions) -> Iterator[Delivery]:
        """Decode the lines of a split."""
        mapping = _require_mapping(options)
        header = _require_header(split.path, mapping)
        lines = read_lines(split, header)
        text = {field: lines.fields[header.names.index(name)] for field, name in mapping.columns.items()}
        registered_at = mapping.find_registration(split.path, options)
        yield _deliver(lines, text, mapping, registered_at)


def _deliver(lines: Lines, text: dict[str, pa.Array], mapping: Mapping, registered_at: int | None) -> Delivery:
    count = len(lines.row)
    faults = dict(lines.faults)
    start, resolution_s = _parse_interval(text, mapping, faults)
    if registered_at is None:
        # A registration time that the clock shows twice or never is as good as none.
        doubtful: dict[Reason, Mask] = {}
        registered = _parse_times(text["registered_at"], text, mapping, doubtful)
        for mask in doubtful.values():
            registered = pc.if_else(pa.array(mask), None, registered)
    else:
        registered = pa.array(np.full(count, registered_at)).cast(_TIME)
    if mapping.status is None:
        status = translate_words(text["status"], mapping.status_words)
    else:
        status = pa.array(np.full(count, mapping.status, np.int8))
    columns = Columns(
        metering_point_id=text["metering_point_id"],
        product=text["product"] if "product" in text else pa.repeat(ACTIVE_ENERGY, count),
        start=start,
        resolution_s=resolution_s,
        registered_at=registered,
        energy=parse_energy(
            text["energy"], text.get("unit", pa.repeat(mapping.unit or "", count)), mapping.decimal_sign
        ),
        status=status,
        row=lines.row,
    )
    return lines.deliver(columns, {**columns.as_delivered(), **text}, faults)


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
        resolution_s = pa.array(np.full(len(text["energy"]), mapping.resolution_s, np.int32))
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


def _group(text: dict[str, pa.Array]) -> NDArray[np.int64]:
    """Number the lines so that lines have one number where point, product, resolution and registration agree."""
    groups = np.zeros(len(text["energy"]), dtype=np.int64)
    for name in ("metering_point_id", "product", "resolution", "registered_at"):
        if name in text:
            encoded = text[name].dictionary_encode()
            groups = groups * len(encoded.dictionary) + encoded.indices.to_numpy()
    return groups


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
