"""A query's result, written for a terminal, a spreadsheet or a program."""

import io
import json
from collections.abc import Callable, Mapping
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from pipeline.errors import MeterveilError

#: Characters: a file or pipe has no width that a table must fit.
_UNBOUNDED = 100_000


def write_result(table: pa.Table, format: str, stream: BinaryIO) -> None:  # noqa: A002 - the option's name
    """Write rows in one of ``RESULT_FORMATS``; decimals keep their digits, times their time zone.

    Args:
        table: what ``run_query`` gave.
        format: ``table``, ``csv``, ``json`` (an array, one row a line) or ``parquet``.
        stream: where to, open for bytes.

    Raises:
        MeterveilError: an unknown format.
    """
    if format not in _WRITERS:
        raise MeterveilError(f"unknown format {format!r}", where="--format", remedy=f"one of {', '.join(_WRITERS)}")
    try:
        _WRITERS[format](table, stream)
    except pa.ArrowException:  # its words may hold values
        raise MeterveilError(
            f"a column's type can't be written as {format}", where="--format", remedy="cast it in the query"
        ) from None


def _write_table(table: pa.Table, stream: BinaryIO) -> None:
    columns = [_as_text(column).to_pylist() for column in table.columns]
    grid = Table()
    for name, column in zip(table.column_names, table.columns, strict=True):
        grid.add_column(name, justify="right" if _is_number(column.type) else "left", overflow="fold")
    for row in zip(*columns, strict=True):
        grid.add_row(*(cell or "" for cell in row))
    text = io.TextIOWrapper(stream, "utf-8", write_through=True)
    width = None if stream.isatty() else _UNBOUNDED
    Console(file=text, width=width, markup=False, highlight=False).print(grid)
    text.detach()


def _write_csv(table: pa.Table, stream: BinaryIO) -> None:
    columns = [column if _is_number(column.type) else _as_text(column) for column in table.columns]
    pyarrow.csv.write_csv(pa.table(columns, names=table.column_names), stream)


def _write_json(table: pa.Table, stream: BinaryIO) -> None:
    names = [json.dumps(name, ensure_ascii=False) for name in table.column_names]
    rows = zip(*(_as_json(column) for column in table.columns), strict=True)
    lines = ("{" + ", ".join(map(": ".join, zip(names, row, strict=True))) + "}" for row in rows)
    stream.write(f"[{','.join(f'{chr(10)}{line}' for line in lines)}\n]\n".encode())


def _write_parquet(table: pa.Table, stream: BinaryIO) -> None:
    pq.write_table(table, stream, compression="zstd")


_WRITERS: Mapping[str, Callable[[pa.Table, BinaryIO], None]] = {
    "table": _write_table,
    "csv": _write_csv,
    "json": _write_json,
    "parquet": _write_parquet,
}
#: What ``--format`` may name.
RESULT_FORMATS = tuple(_WRITERS)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type) and column.type.tz:
        return pc.replace_substring(pc.strftime(column, "%Y-%m-%dT%H:%M:%S%Ez"), ".000000", "")
    if pa.types.is_nested(column.type):
        return pa.chunked_array(
            [[None if value is None else _dump(value) for value in column.to_pylist()]], pa.string()
        )
    return column.cast(pa.string())


def _as_json(column: pa.ChunkedArray) -> list[str]:
    kind = column.type
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_finite(column), column, None)  # JSON has no infinities
    if _is_number(kind) or pa.types.is_boolean(kind):
        return [value or "null" for value in column.cast(pa.string()).to_pylist()]
    values = column if pa.types.is_nested(kind) else _as_text(column)
    return [_dump(value) for value in values.to_pylist()]


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
