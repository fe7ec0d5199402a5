"""Write one data file of a dataset: Parquet that every engine reads alike, named after the cell that it holds."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.column_chunks import ColumnKind, encode_chunk
from pipeline.files import write_file
from pipeline.labels import parse_label
from pipeline.stores import columnar, locate
from pipeline.table_state import is_cell_dataset
from pipeline.thrift import I16, STRUCT, Struct, decode_struct, encode_struct, i64, list_of, struct
from transforms.decimals import as_decimal
from transforms.plan import Column, Dataset

_MAGIC = b"PAR1"
#: What readers prune by has statistics: the date; and the point where the rows of a cell are sorted by it, so that one
#: customer's month is some row groups. A bound is a value: no identifier or pseudonym of analytics is one.
_PRUNED_BY = ("local_date", "metering_point_id")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file that was written and is not committed yet.

    Attributes:
        dataset: name of the dataset.
        path: absolute path.
        rows: number of rows.
        bytes: size of the file.
        sha256: digest of the file, hex.
        local_date: days since 1970-01-01 of a cell's file, else None.
        label: what the file holds: a cell ``20541/00007``, a bucket ``00007`` or the digest of an input file.
    """

    dataset: str
    path: str
    rows: int
    bytes: int
    sha256: str
    local_date: int | None
    label: str


def read_marks(path: str) -> dict[str, str]:
    """Read what a data file says that it derives from."""
    return {key.decode(): value.decode() for key, value in (pq.read_metadata(columnar(path)).metadata or {}).items()}


def write_data_file(blocks: Iterable[pa.Table], dataset: Dataset, path: str, key_value: Mapping[str, str]) -> DataFile:
    """Encode a dataset's rows in memory, take their digest and write them under their final name.

    Args:
        blocks: exactly the dataset's columns, in any order, in the types of the plan. Strings may be dictionaries,
            UUIDs dictionaries or plain 16-byte values, decimals int64 milliwatt-hours; any may be run-end encoded.
            At least one block. Each becomes a row group, with dictionaries of its own.
        dataset: the dataset; its zone decides the file's mode.
        path: a new path whose name ``pipeline.labels`` made.
        key_value: what the rows derive from, for the footer; digests, never an operational name.

    Raises:
        ValueError: columns, types or nulls are not those of the plan.
        FileExistsError: the path is taken.
    """
    label, local_date = parse_label(path)
    content, rows = encode_rows(blocks, dataset, key_value)
    write_file(locate(path), content, private=dataset.zone == "operational")
    digest = hashlib.sha256(content).hexdigest()
    return DataFile(dataset.name, path, rows, len(content), digest, local_date, label)


def encode_rows(blocks: Iterable[pa.Table], dataset: Dataset, key_value: Mapping[str, str]) -> tuple[bytes, int]:
    """Encode a dataset's rows as a Parquet file in memory; arguments and errors are those of ``write_data_file``.

    Schema and footer are those of a file without rows, which pyarrow writes; the column chunks are ours.

    Returns:
        The file, and its number of rows.
    """
    kinds = [
        ColumnKind(column.name, column.required, _repeats(column.type), _is_pruned_by(column, dataset))
        for column in dataset.columns
    ]
    content = [_MAGIC]
    groups: list[Struct] = []
    rows, offset = 0, len(_MAGIC)
    for block in blocks:
        arrays = _conform_table(block, dataset)
        chunks = []
        for kind, values in zip(kinds, arrays, strict=True):
            pages, metadata = encode_chunk(kind, values, offset)
            content.append(pages)
            offset += len(pages)
            chunks.append(metadata)
        groups.append(_describe_group(chunks, len(block), len(groups)))
        rows += len(block)
    footer = _read_footer(dataset, key_value)
    footer |= {3: i64(rows), 4: list_of(STRUCT, groups)}
    encoded = encode_struct(footer)
    return b"".join([*content, encoded, len(encoded).to_bytes(4, "little"), _MAGIC]), rows


def _describe_group(chunks: list[Struct], rows: int, ordinal: int) -> Struct:
    """Make Parquet's ``RowGroup`` of its chunks."""
    packed, size = (sum(chunk[field][1] for chunk in chunks) for field in (7, 6))
    first = chunks[0].get(11, chunks[0][9])[1]
    return {
        1: list_of(STRUCT, [{2: i64(0), 3: struct(chunk)} for chunk in chunks]),
        2: i64(size),
        3: i64(rows),
        5: i64(first),
        6: i64(packed),
        7: (I16, ordinal),
    }


def _read_footer(dataset: Dataset, key_value: Mapping[str, str]) -> Struct:
    """Let pyarrow write a dataset's file without rows, and read the footer."""
    schema = pa.schema(
        pa.field(column.name, column.type, not column.required, {"PARQUET:field_id": str(position)})
        for position, column in enumerate(dataset.columns, start=1)
    )
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, store_schema=False, store_decimal_as_integer=True) as writer:
        writer.add_key_value_metadata(key_value)
    content = sink.getvalue().to_pybytes()
    return decode_struct(content[-8 - int.from_bytes(content[-8:-4], "little") : -8])


def _is_pruned_by(column: Column, dataset: Dataset) -> bool:
    plain = pa.types.is_date32(column.type) or dataset.zone == "operational"
    return is_cell_dataset(dataset) and column.name in _PRUNED_BY and plain


def _repeats(kind: pa.DataType) -> bool:
    # Measured: dictionaries pay for text and energy; times, UUIDs, flags and dates are faster plain, and as small.
    return bool(pa.types.is_string(kind) or pa.types.is_decimal(kind))


def _conform_table(table: pa.Table, dataset: Dataset) -> list[pa.Array]:
    names = [column.name for column in dataset.columns]
    if sorted(table.column_names) != sorted(names):
        raise ValueError(f"{dataset.name}: columns {table.column_names}, but the plan has {names}")
    return [_conform_column(_as_array(table.column(column.name)), column, dataset.name) for column in dataset.columns]


def _as_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _conform_column(values: pa.Array, column: Column, dataset: str) -> pa.Array:
    given, wanted = values.type, column.type
    if pa.types.is_run_end_encoded(given):
        return pa.RunEndEncodedArray.from_arrays(values.run_ends, _conform_column(values.values, column, dataset))
    if column.required and values.null_count:
        raise ValueError(f"{dataset}.{column.name}: nulls in a required column")
    if given == wanted:
        return values
    plain = given.value_type if pa.types.is_dictionary(given) else given
    if pa.types.is_string(wanted) and plain == wanted:
        return values
    if plain == wanted and wanted != pa.uuid():
        return values.cast(wanted)
    if wanted == pa.uuid() and plain in (pa.uuid(), pa.binary(16)):
        return _as_uuid(values)
    if pa.types.is_decimal64(wanted) and given == pa.int64():
        return as_decimal(values, wanted)
    raise ValueError(f"{dataset}.{column.name}: {given} where the plan has {wanted}")


def _as_uuid(values: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        distinct = values.dictionary
        storage = distinct.storage if isinstance(distinct, pa.ExtensionArray) else distinct
        values = storage.take(values.indices)
    return pa.ExtensionArray.from_storage(pa.uuid(), values)
