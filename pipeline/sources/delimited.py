"""Delimited text files: header, splits at line ends, and fields as columns of strings."""

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
from numpy.typing import NDArray

from pipeline.errors import BadFileError
from pipeline.sources.base import Split

#: Bytes that one worker reads.
SPLIT_BYTES = 64 << 20
HEAD_BYTES = 64 << 10
#: Bytes that can be read at once: offsets in columns have 32 bits.
MOST_BYTES = 1 << 30
#: Bytes in which lines are counted at a time, so that they are still in the processor's cache.
_COUNTED = 1 << 16
_BOM = b"\xef\xbb\xbf"
_MARKED = re.compile(rb"^(?:\xef\xbb\xbf)+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a file and how it is written.

    Attributes:
        names: of the columns, as they stand there, trimmed and unquoted.
        length: bytes of the line, byte order mark and line end included.
        delimiter: one character.
        encoding: of the text; ASCII characters are single bytes in it.
    """

    names: tuple[str, ...]
    length: int
    delimiter: str
    encoding: str


def read_head(path: str) -> bytes:
    """Read the first bytes of a file, ``HEAD_BYTES`` at most."""
    with Path(path).open("rb") as file:
        return file.read(HEAD_BYTES)


def parse_header(head: bytes, delimiter: str, encoding: str) -> Header | None:
    """Parse the first line out of a file's first bytes; None if it does not end there, or is not of the encoding."""
    end = head.find(b"\n") + 1 or len(head)
    if end == HEAD_BYTES and not head.endswith(b"\n"):
        return None
    try:
        text = head[:end].removeprefix(_BOM).decode(encoding)
    except UnicodeDecodeError:
        return None
    names = tuple(name.strip().strip('"').strip() for name in text.split(delimiter))
    return Header(names, end, delimiter, encoding)


def split_lines(path: str, name: str, digest: str, header: Header, split_bytes: int) -> Sequence[Split]:
    """Cut what follows the header at line ends, in parts of at least ``split_bytes``, counting lines on the way.

    Raises:
        BadFileError: a part, or a line, that is too large to be read at once.
    """
    splits, first_row = [], 2
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for start, stop in cut_text(data, header.length, len(data), split_bytes):
            if stop - start > MOST_BYTES:
                problem = f"more than {MOST_BYTES >> 30} GiB of it would have to be read at once"
                raise BadFileError(problem, where=path, remedy="cut it at a line, into several files")
            splits.append(Split(path, name, digest, start, stop, first_row))
            if stop < len(data):
                first_row += _count_ends(data, start, stop)
    return splits


def cut_text(data: mmap.mmap, start: int, end: int, part_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut a span at line ends, in parts of at least ``part_bytes``: where each starts and stops."""
    while start < end:
        stop = data.find(b"\n", min(start + part_bytes, end) - 1, end) + 1 or end
        yield start, stop
        start = stop


def _count_ends(data: mmap.mmap, start: int, stop: int) -> int:
    """Count line ends in a span, in whole columns: ``count`` begins anew behind each."""
    parts = (np.frombuffer(data, np.uint8, min(_COUNTED, stop - at), at) for at in range(start, stop, _COUNTED))
    return sum(int(np.count_nonzero(part == ord("\n"))) for part in parts)


def read_text(file: BinaryIO, start: int, stop: int, encoding: str) -> tuple[bytes, bool]:
    """Read a span as UTF-8 whose lines end in a line feed alone, and tell whether all of it was of its encoding."""
    file.seek(start)
    content, clean = as_utf8(file.read(stop - start), encoding)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    if _BOM[0] in content and _BOM in content:  # a byte alone is found many times as fast
        # Where files were joined. The parser takes it off the first line of a part by itself, whichever that is.
        content = _MARKED.sub(b"", content)
    return content, clean


def as_utf8(content: bytes, encoding: str) -> tuple[bytes, bool]:
    """Give text as UTF-8, and whether all of it was of its encoding."""
    if content.isascii():
        return content, True
    try:
        return content.decode(encoding).encode(), True
    except UnicodeDecodeError:
        return content.decode(encoding, "replace").encode(), False


def blank_broken_quotes(content: bytes, delimiter: str) -> tuple[bytes, NDArray[np.int64]]:
    """Empty the lines whose quotes are not closed or stand inside a field: a parser would swallow lines after them.

    Returns:
        The text, and the lines emptied, counted from 0.
    """
    if b'"' not in content:
        return content, np.zeros(0, dtype=np.int64)
    mark = re.escape(delimiter.encode())
    # Nothing is ever given back, so a line may be of any length.
    field = rb'(?:"(?:[^"\n]++|"")*+"|[^"\n' + mark + rb"]*+)"
    broken = re.compile(rb'^(?=[^\n"]*+")(?!' + field + rb"(?:" + mark + field + rb")*+$)[^\n]*+$", re.MULTILINE)
    spans = [found.span() for found in broken.finditer(content)]
    if not spans:
        return content, np.zeros(0, dtype=np.int64)
    pieces, lines, end, line = [], [], 0, 0
    for start, stop in spans:
        pieces.append(content[end:start])
        line += pieces[-1].count(b"\n")
        lines.append(line)
        end = stop
    return b"".join([*pieces, content[end:]]), np.array(lines, dtype=np.int64)


def parse_fields(content: bytes, header: Header) -> tuple[list[pa.Array], NDArray[np.int64]]:
    """Parse lines to columns of strings; lines with another number of fields come back as numbers, from 0."""
    misfits: list[int] = []

    def note(row: pv.InvalidRow) -> str:
        misfits.append(row.number - 1)
        return "skip"

    names = [str(index) for index in range(len(header.names))]
    if not content.strip(b"\n"):
        # The parser takes nothing but line ends for an empty file.
        return [pa.array([""] * (content.count(b"\n") or 1))] * len(names), np.zeros(0, dtype=np.int64)
    table = pv.read_csv(
        pa.BufferReader(content),
        # One block and one thread: only then are line numbers known.
        read_options=pv.ReadOptions(column_names=names, use_threads=False, block_size=len(content) + 1),
        parse_options=pv.ParseOptions(delimiter=header.delimiter, ignore_empty_lines=False, invalid_row_handler=note),
        convert_options=pv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, null_values=[]
        ),
    )
    return [column.combine_chunks() for column in table.columns], np.array(misfits, dtype=np.int64)
