"""Readings in Parquet files, one reading a row or one series a row, with the columns of the Avro schemas.

What may differ: ``energy`` is an integer of milliwatt-hours, or a decimal or float of kWh; ``status`` an integer code
or a word; ``resolution`` (ISO 8601 text) may stand for ``resolution_s``; ``product`` may be absent (active energy), and
``registered_at`` too (then it comes from the options). A damaged page is found where the writer stored page checksums,
or where it no longer decompresses.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import BadFileError
from pipeline.files import map_file
from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.deliver import OWN_WORDS, Columns, deliver_readings, deliver_series, translate_words
from pipeline.sources.fields import parse_resolution, require_registration, round_decimals, round_floats
from pipeline.sources.parquet_footer import MAGIC, Group, check_pages, read_groups
from schemas.series import ACTIVE_ENERGY

#: Readings that one worker reads, in whole row groups.
SPLIT_READINGS = 8_000_000
#: Readings decoded at a time: their columns then take tens of megabytes.
_BATCH_READINGS = 1_000_000
#: Readings of a series: 28 years of quarter-hours. Rows that say more are damaged, and would take all memory.
_MOST_READINGS = 1_000_000
_WORD_COLUMNS = ("metering_point_id", "product", "resolution", "status")

_LISTS = ("energy", "status")
#: Columns that may be integers of any width.
_COUNTS = (*_LISTS, "resolution_s")

_TypeTest = Callable[[pa.DataType], bool]


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_instant(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) and kind.tz is not None


def _is_amount(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_floating(kind))


def _is_status(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or _is_text(kind)


#: What a column must be, and in words, for the refusal.
_TYPES: dict[str, tuple[_TypeTest, str]] = {
    "metering_point_id": (_is_text, "text"),
    "product": (_is_text, "text"),
    "start": (_is_instant, "a time in UTC (isAdjustedToUTC)"),
    "resolution_s": (pa.types.is_integer, "whole seconds"),
    "resolution": (_is_text, "ISO 8601 text"),
    "registered_at": (_is_instant, "a time in UTC (isAdjustedToUTC)"),
    "energy": (_is_amount, "milliwatt-hours as an integer, or kWh as a decimal or float"),
    "status": (_is_status, "a status code or word"),
}


@dataclass(frozen=True, slots=True)
class _Layout:
    """What of a file is read, and how.

    Attributes:
        columns: the columns to read.
        series: the rows are series, not single readings.
        registered_at: for every reading, microseconds UTC, where the file has no such column.
    """

    columns: tuple[str, ...]
    series: bool
    registered_at: int | None


class _Opened(NamedTuple):
    """A footer: as pyarrow has it, its schema, the columns to read as dictionaries, and the row groups."""

    metadata: Any
    schema: pa.Schema
    words: list[str]
    groups: tuple[Group, ...]


class ParquetSource:
    """Parquet files of readings or series."""

    name = "parquet"

    def recognises(self, path: str, head: bytes, options: ReadOptions) -> bool:
        """Tell a Parquet file by its magic number."""
        del path, options
        return head.startswith(MAGIC)

    def splits(
        self, path: str, digest: str, options: ReadOptions, *, split_readings: int = SPLIT_READINGS
    ) -> Sequence[Split]:
        """Check footer and columns, and cut the file between row groups.

        Raises:
            BadFileError: cut short, damaged, a column that is missing or of another type, or no registration time.
        """
        opened = _open(path)
        _find_layout(opened.schema, path, options)
        splits, start, first_row, rows, readings = [], 0, 1, 0, 0
        for index, group in enumerate(opened.groups):
            rows += group.rows
            readings += group.readings
            if readings >= split_readings or index == len(opened.groups) - 1:
                splits.append(Split(path, self.name, digest, start, index + 1, first_row, rows))
                start, first_row, rows, readings = index + 1, first_row + rows, 0, 0
        return splits

    def read(self, split: Split, options: ReadOptions) -> Iterator[Delivery]:
        """Decode the row groups of a split.

        Raises:
            BadFileError: a page that can't be read, or rows fewer or more than the footer says.
        """
        row = split.first_row
        opened = _open(split.path)
        layout = _find_layout(opened.schema, split.path, options)
        for batch in _decode(opened, split, layout):
            yield _deliver(batch, layout, row)
            row += batch.num_rows
        if row - split.first_row != split.rows:
            raise _damaged(split.path)


def _deliver(batch: pa.RecordBatch, layout: _Layout, first_row: int) -> Delivery:
    count = batch.num_rows
    delivered = {
        name: _on_items(column, _as_signed) if name in _COUNTS else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    if layout.registered_at is not None:
        registered_at = pa.array(np.full(count, layout.registered_at))
        delivered["registered_at"] = registered_at.cast(pa.timestamp("us", "UTC"))
    if "product" not in delivered:
        delivered["product"] = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [ACTIVE_ENERGY])
    resolution = delivered.pop("resolution_s", None)
    if resolution is None:
        resolution_s = parse_resolution(delivered["resolution"])
    else:
        resolution_s = delivered["resolution"] = resolution
    columns = Columns(
        metering_point_id=delivered["metering_point_id"],
        product=delivered["product"],
        start=_as_instant(delivered["start"]),
        resolution_s=resolution_s,
        registered_at=_as_instant(delivered["registered_at"]),
        energy=_on_items(delivered["energy"], _as_energy),
        status=_on_items(delivered["status"], _as_status),
        row=np.arange(first_row, first_row + count),
    )
    return (deliver_series if layout.series else deliver_readings)(columns, delivered)


def _as_instant(times: pa.Array) -> pa.Array:
    # Unsafe: a nanosecond feed may end between two microseconds; what lies off the grid stays off it.
    return times.cast(pa.timestamp("us", "UTC"), safe=False)


def _as_signed(numbers: pa.Array) -> pa.Array:
    """Give integers as they are, but those that only 64 bits without a sign can hold, as null."""
    if numbers.type != pa.uint64():
        return numbers
    return pc.if_else(pc.less_equal(numbers, pa.scalar(2**63 - 1, pa.uint64())), numbers, None).cast(pa.int64())


def _as_energy(amounts: pa.Array) -> pa.Array:
    if pa.types.is_decimal(amounts.type):
        return round_decimals(amounts)
    return round_floats(amounts) if pa.types.is_floating(amounts.type) else amounts


def _as_status(status: pa.Array) -> pa.Array:
    return translate_words(status, OWN_WORDS) if _is_text(status.type) else status


def _on_items(array: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Apply a change to values, or to the items of lists."""
    if not _is_list(array.type):
        return change(array)
    lengths = pc.list_value_length(array).fill_null(0).to_numpy()
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), change(array.flatten()))


def _decode(opened: _Opened, split: Split, layout: _Layout) -> Iterator[pa.RecordBatch]:
    groups = opened.groups[split.start : split.stop]
    mean = max(1, sum(group.readings for group in groups) // max(1, split.rows or 0))
    try:
        with map_file(split.path) as data:
            for chunk in chain.from_iterable(group.chunks for group in groups):
                if chunk.column in layout.columns:
                    check_pages(data, chunk, split.path)
        with pq.ParquetFile(
            split.path,
            metadata=opened.metadata,
            read_dictionary=opened.words,
            page_checksum_verification=True,
        ) as file:
            for batch in file.iter_batches(
                batch_size=max(1, _BATCH_READINGS // mean),
                row_groups=list(range(split.start, split.stop)),
                columns=list(layout.columns),
                use_threads=False,
            ):
                batch.validate(full=True)  # nothing else sees text that is no UTF-8
                yield batch
    except BadFileError:
        raise
    except Exception:  # noqa: BLE001 - damaged bytes lead the decoder into errors of every kind
        raise _damaged(split.path) from None


def _open(path: str) -> _Opened:
    """Read the footer.

    Raises:
        BadFileError: it is none, or counts what can't be.
    """
    try:
        groups = read_groups(path)
        metadata = pq.read_metadata(path)
        columns = [metadata.schema.column(index) for index in range(metadata.num_columns)]
        words = [
            column.path
            for column in columns
            if column.path.partition(".")[0] in _WORD_COLUMNS and column.physical_type == "BYTE_ARRAY"
        ]
        schema = metadata.schema.to_arrow_schema()
    except Exception:  # noqa: BLE001 - as for pages
        raise _damaged(path) from None
    if any(group.readings > group.rows * _MOST_READINGS for group in groups):
        raise _damaged(path)
    return _Opened(metadata, schema, words, groups)


def _damaged(path: str) -> BadFileError:
    return BadFileError(
        "it is no whole Parquet file, or a page of it is damaged", where=path, remedy="fetch the file again"
    )


def _find_layout(schema: pa.Schema, path: str, options: ReadOptions) -> _Layout:
    names = [name for name in _TYPES if name in schema.names]
    if "resolution_s" in names and "resolution" in names:
        names.remove("resolution")
    optional = {"product", "registered_at", "resolution", *(["resolution_s"] if "resolution" in names else [])}
    for name in _TYPES:
        if name not in names and name not in optional:
            raise _wrong_column(path, f"column {name} is missing")
    series = _is_list(schema.field("energy").type)
    for name in names:
        kind = schema.field(name).type
        if series and name in _LISTS:
            kind = kind.value_type if _is_list(kind) else pa.null()
        fits, wanted = _TYPES[name]
        if not fits(kind):
            raise _wrong_column(path, f"column {name} is not {wanted}{' in a list' * (series and name in _LISTS)}")
    registered_at = None if "registered_at" in names else require_registration(path, options)
    return _Layout(tuple(names), series, registered_at)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _wrong_column(path: str, problem: str) -> BadFileError:
    return BadFileError(
        f"wrong columns: {problem}", where=path, remedy="deliver the columns of schemas/avro/*.avsc, long or as series"
    )
