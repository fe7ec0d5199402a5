"""What a Parquet file says of its row groups and pages, read on our own before the decoder works on it.

The decoder takes it at its word: a footer that contradicts itself can end the process, and a page of a few kilobytes
can say that it holds gigabytes. Source of the fields' numbers: parquet.thrift of Apache Parquet.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import BadFileError
from pipeline.files import map_file
from pipeline.thrift import Struct, decode_struct, decode_struct_at

MAGIC = b"PAR1"
#: Bytes that a page may hold: 256 times what writers put into one.
MOST_PAGE_BYTES = 256 << 20
_SCHEMA, _ROW_GROUPS = 2, 4
#: Of a row group; the whole file counts its rows in the same place.
_COLUMNS, _ROWS = 1, 3
#: The type of an element of the schema that holds values, and of a column; how often an element comes.
_TYPE, _REPETITION, _REPEATED = 1, 3, 2
_META_DATA = 3
_PATH, _VALUES, _COMPRESSED, _DATA_PAGE, _DICTIONARY_PAGE = 3, 5, 7, 9, 11
#: Of a page's header; a page of values has a header of its own, of either version, that begins with how many.
_UNPACKED, _PACKED, _HEADERS, _PAGE_VALUES = 2, 3, (5, 8), 1


class Chunk(NamedTuple):
    """A column of a row group: the first part of its name, its count of values, and where its pages stand."""

    column: str
    values: int
    start: int
    stop: int


class Group(NamedTuple):
    """A row group."""

    rows: int
    chunks: tuple[Chunk, ...]

    @property
    def readings(self) -> int:
        """Count the readings: the greatest count of values that a column has."""
        return max((chunk.values for chunk in self.chunks), default=0)


def read_groups(path: str) -> tuple[Group, ...]:
    """Read the row groups that a file's footer lists.

    Raises:
        IndexError, KeyError, ValueError and others: there is no such footer, or its numbers can't be.
    """
    status = Path(path).stat()
    return _read_groups(path, (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=32)  # each part of a file asks for all of it
def _read_groups(path: str, stamp: tuple[int, ...]) -> tuple[Group, ...]:
    del stamp
    with map_file(path) as data:
        length = int.from_bytes(data[-8:-4], "little")
        if data[-4:] != MAGIC or length + 12 > len(data):
            raise ValueError("no footer")
        footer = decode_struct(data[len(data) - 8 - length : -8])
        leaves = [element for element in footer[_SCHEMA][1][1] if _TYPE in element]
        groups = tuple(_read_group(fields, leaves, len(data)) for fields in footer[_ROW_GROUPS][1][1])
    if footer[_ROWS][1] != sum(group.rows for group in groups):
        raise ValueError("a row group is missing")
    return groups


def _read_group(fields: Struct, leaves: Sequence[Struct], size: int) -> Group:
    rows = fields[_ROWS][1]
    columns = [column[_META_DATA][1] for column in fields[_COLUMNS][1][1]]
    # The decoder compares them for the first row group that it is asked for.
    if rows < 0 or [column[_TYPE][1] for column in columns] != [leaf[_TYPE][1] for leaf in leaves]:
        raise ValueError("row group")
    for leaf, column in zip(leaves, columns, strict=True):
        flat = len(column[_PATH][1][1]) == 1 and leaf[_REPETITION][1] != _REPEATED
        if flat and column[_VALUES][1] != rows:
            raise ValueError("rows")
    return Group(rows, tuple(_read_chunk(column, size) for column in columns))


def _read_chunk(fields: Struct, size: int) -> Chunk:
    name, values = fields[_PATH][1][1][0].decode(), fields[_VALUES][1]
    if values == 0:  # what may stand there is not read
        return Chunk(name, 0, 0, 0)
    start = fields[_DATA_PAGE][1]
    dictionary = fields[_DICTIONARY_PAGE][1] if _DICTIONARY_PAGE in fields else 0
    if 0 < dictionary < start:
        start = dictionary
    stop = start + fields[_COMPRESSED][1]
    if values < 0 or not len(MAGIC) <= start <= stop <= size:
        raise ValueError("column")
    return Chunk(name, values, start, stop)


def check_pages(data: Any, chunk: Chunk, path: str) -> None:
    """Check that no page of a column says that it holds more than it may.

    Args:
        data: the file's bytes (bytes or mmap).
        chunk: the column.
        path: the file's name, for errors.

    Raises:
        BadFileError: a page that holds more than ``MOST_PAGE_BYTES``.
        IndexError, KeyError, ValueError and others: a header that is none, or its numbers can't be.
    """
    at = chunk.start
    while at < chunk.stop:
        header, at = decode_struct_at(data, at)
        unpacked, packed = header[_UNPACKED][1], header[_PACKED][1]
        if unpacked > MOST_PAGE_BYTES:
            problem = f"a page of it holds more than {MOST_PAGE_BYTES >> 20} MiB"
            raise BadFileError(problem, where=path, remedy="write it with smaller pages")
        values = [header[number][1][_PAGE_VALUES][1] for number in _HEADERS if number in header]
        if unpacked < 0 or packed < 0 or not all(0 <= count <= chunk.values for count in values):
            raise ValueError("page")
        at += packed
