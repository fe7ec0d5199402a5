"""Parquet column chunks, written so that what comes in runs costs by the run, and energy by a lookup.

Most columns of a reading hold for a whole series: its point, contract, product, pseudonyms. A general writer repeats,
hashes and counts each value 96 times a day; here a run is a few bytes. Values that are not in runs but repeat, as
energy does, are indices of 8 or 16 bits, which need no packing. A chunk is a dictionary page, if it has one, and data
pages (version 1), of runs a single one. Source of the rules: parquet.thrift of Apache Parquet.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.column_values import encode_indices, encode_levels, encode_plain, encode_runs, merge_runs
from pipeline.thrift import BINARY, I32, STRUCT, Struct, binary, encode_struct, i32, i64, list_of, struct
from transforms.rows import repeat_runs

Array = npt.NDArray[Any]

_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_ZSTD = 6
_CODEC = pa.Codec("zstd")
#: Of all types that a view has (``schemas.views``); decimals are 64 bits wide.
_PHYSICAL_TYPES = {
    pa.bool_(): 0,
    pa.int32(): 1,
    pa.date32(): 1,
    pa.int64(): 2,
    pa.timestamp("us", tz="UTC"): 2,
    pa.float64(): 5,
    pa.string(): 6,
    pa.binary(16): 7,
    pa.uuid(): 7,
}
#: Values whose runs are at least so long on average are written as runs.
_RUN = 8
#: Rows of a page of values that are not in runs: who looks for one point passes over the others without unpacking them.
_PAGE_ROWS = 1 << 15
#: More distinct values than indices of 16 bits can tell apart are written plain.
_MOST_INDICES = 1 << 16


@dataclass(frozen=True, slots=True)
class ColumnKind:
    """How a column is written.

    Attributes:
        name: the column.
        required: whether no value may be missing.
        repeats: whether values that are not in runs repeat, so that a dictionary pays.
        statistics: whether least and greatest value are written; of numbers and text only, in a dictionary.
    """

    name: str
    required: bool
    repeats: bool
    statistics: bool


def encode_chunk(kind: ColumnKind, values: pa.Array, offset: int) -> tuple[bytes, Struct]:
    """Write a column chunk.

    Args:
        kind: the column.
        values: its values: plain, in a dictionary, or run-end encoded.
        offset: where in the file the chunk will stand.

    Returns:
        The pages, and the ``ColumnMetaData`` for the footer.
    """
    if pa.types.is_run_end_encoded(values.type) and pa.types.is_boolean(values.type.value_type):
        values = repeat_runs(values)  # readers know no dictionary of booleans
    runs = _find_runs(values)
    dictionary, contents = _encode_rows(values, kind) if runs is None else _encode_runs(runs, kind)
    encoding = _PLAIN if dictionary is None else _RLE_DICTIONARY
    head, pages = b"", []
    if dictionary is not None:
        of_page = {1: i32(len(dictionary)), 2: i32(_PLAIN)}
        pages.append(_make_page(_DICTIONARY_PAGE, encode_plain(dictionary), {7: struct(of_page)}))
        head = pages[0][0]
    for count, content in contents:
        of_page = {1: i32(count), 2: i32(encoding), 3: i32(_RLE), 4: i32(_RLE)}
        pages.append(_make_page(_DATA_PAGE, content, {5: struct(of_page)}))
    packed = b"".join(page for page, _ in pages)
    metadata: Struct = {
        1: i32(_physical_type(values.type)),
        2: list_of(I32, sorted({_PLAIN, _RLE, encoding})),
        3: list_of(BINARY, [kind.name.encode()]),
        4: i32(_ZSTD),
        5: i64(len(values)),
        6: i64(sum(size for _, size in pages)),
        7: i64(len(packed)),
        9: i64(offset + len(head)),
    }
    if dictionary is not None:
        metadata[11] = i64(offset)
        # By which readers know that a chunk is all in its dictionary.
        metadata[13] = list_of(
            STRUCT,
            [
                {1: i32(_DICTIONARY_PAGE), 2: i32(_PLAIN), 3: i32(1)},
                {1: i32(_DATA_PAGE), 2: i32(_RLE_DICTIONARY), 3: i32(len(contents))},
            ],
        )
        if kind.statistics and len(dictionary):
            metadata[12] = struct(_bound(dictionary))
    return packed, metadata


def _make_page(kind: int, content: bytes, header: Struct) -> tuple[bytes, int]:
    """Compress a page; gives the page with its header, and the size of both before the compression."""
    compressed = _CODEC.compress(content, asbytes=True)
    head = encode_struct({1: i32(kind), 2: i32(len(content)), 3: i32(len(compressed)), **header})
    return head + compressed, len(head) + len(content)


def _bound(dictionary: pa.Array) -> Struct:
    bounds = pc.min_max(dictionary)
    texts = pa.types.is_string(dictionary.type)  # whose bounds stand without their length
    least, greatest = (
        bounds[of].as_py().encode() if texts else encode_plain(pa.array([bounds[of]], dictionary.type))
        for of in ("min", "max")
    )
    return {5: binary(greatest), 6: binary(least)}


def _encode_runs(runs: pa.RunEndEncodedArray, kind: ColumnKind) -> tuple[pa.Array, list[tuple[int, bytes]]]:
    """Make the dictionary of values in runs, and one data page with its number of rows."""
    dictionary, codes = _number_values(runs.values)
    codes, lengths = merge_runs(codes, runs.run_ends.to_numpy())
    levels = b""
    if not kind.required:
        valid = codes >= 0
        levels = _with_length(encode_runs(*merge_runs(valid, np.cumsum(lengths)), 1))
        codes, lengths = codes[valid], lengths[valid]
    width = max(1, (len(dictionary) - 1).bit_length())
    return dictionary, [(len(runs), levels + bytes([width]) + encode_runs(codes, lengths, width))]


def _encode_rows(values: pa.Array, kind: ColumnKind) -> tuple[pa.Array | None, list[tuple[int, bytes]]]:
    """Make the dictionary, where it pays, of values row by row, and data pages, each with its number of rows."""
    dictionary, codes = _number_values(values) if kind.repeats else (None, np.empty(0))
    if dictionary is not None and len(dictionary) > _MOST_INDICES:
        dictionary = None
    pages = []
    for begin in range(0, max(1, len(values)), _PAGE_ROWS):
        page = values.slice(begin, _PAGE_ROWS)
        content = b"" if kind.required else _with_length(encode_levels(page))
        if dictionary is None:
            content += encode_plain(_storage(page.drop_null() if page.null_count else page))
        else:
            width = 8 if len(dictionary) <= 1 << 8 else 16
            some = codes[begin : begin + _PAGE_ROWS]
            content += bytes([width]) + encode_indices(some[some >= 0] if page.null_count else some, width)
        pages.append((len(page), content))
    return dictionary, pages


def _with_length(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content


def _find_runs(values: pa.Array) -> pa.Array | None:
    """See values as runs, where they are; else numbers, and what is in a dictionary, where the runs are long."""
    if pa.types.is_run_end_encoded(values.type):
        return values
    if pa.types.is_boolean(values.type):
        return None
    if values.null_count == len(values) > 0:
        return pa.RunEndEncodedArray.from_arrays(pa.array([len(values)], pa.int32()), values.slice(0, 1))
    raw = values.indices if pa.types.is_dictionary(values.type) else values
    if raw.type.num_buffers != 2 or raw.type.bit_width not in {8, 16, 32, 64} or not len(values):
        return None
    width = raw.type.byte_width
    numbers = np.frombuffer(raw.buffers()[1], f"i{width}", len(raw), raw.offset * width)
    changes = numbers[1:] != numbers[:-1]
    if values.null_count:
        valid = values.is_valid().to_numpy(zero_copy_only=False)
        changes |= valid[1:] != valid[:-1]
    if (np.count_nonzero(changes) + 1) * _RUN > len(values):
        return None
    last = np.append(np.flatnonzero(changes), len(values) - 1)
    return pa.RunEndEncodedArray.from_arrays(pa.array((last + 1).astype(np.int32)), values.take(pa.array(last)))


def _number_values(values: pa.Array) -> tuple[pa.Array, Array]:
    """Number values; a missing one is -1. Distinct values are given once each: readers rely on it."""
    values = _storage(values)
    if pa.types.is_dictionary(values.type):
        entries = pc.dictionary_encode(values.dictionary)
        if len(entries) <= len(values):
            values = pa.DictionaryArray.from_arrays(entries.indices.take(values.indices), entries.dictionary)
        else:
            values = values.dictionary_decode()
    encoded = pc.dictionary_encode(values)
    indices = encoded.indices.fill_null(-1) if encoded.null_count else encoded.indices
    return encoded.dictionary, indices.to_numpy()


def _storage(values: pa.Array) -> pa.Array:
    """See values as what a page holds of them."""
    if isinstance(values, pa.ExtensionArray):
        return values.storage
    return values.view(pa.int64()) if pa.types.is_decimal64(values.type) else values


def _physical_type(kind: pa.DataType) -> int:
    if pa.types.is_run_end_encoded(kind) or pa.types.is_dictionary(kind):
        return _physical_type(kind.value_type)
    physical = _PHYSICAL_TYPES.get(pa.int64() if pa.types.is_decimal64(kind) else kind)
    if physical is None:
        raise ValueError(f"{kind} is not a type of our tables")
    return physical
