"""Lines of delimited text files: header, splits at line ends, and fields as columns of strings."""

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
from numpy.typing import NDArray

from pipeline.errors import BadFileError
from pipeline.sources.base import Delivery, Split
from pipeline.sources.deliver import Columns, Mask, deliver_readings, reject_rows
from schemas.reasons import Reason

#: Bytes that one worker reads.
SPLIT_BYTES = 64 << 20
#: Bytes that are decoded at a time: memory that is new for each value costs as much as decoding it.
PART_BYTES = 8 << 20
HEAD_BYTES = 64 << 10
#: Bytes that can be read at once: offsets in columns have 32 bits.
MOST_BYTES = 1 << 30
#: Bytes in which lines are counted at a time, so that they are still in the processor's cache.
_COUNTED = 1 << 16
_BOM = b"\xef\xbb\xbf"
_MARKED = re.compile(rb"^(?:\xef\xbb\xbf)+", re.MULTILINE)
_REPLACED = "\ufffd"


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


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a split.

    Attributes:
        fields: one column of strings for each column of the header.
        row: int64, line number of each, the header being line 1.
        faults: lines with bytes that are not of the encoding, as unreadable.
        broken: int64, numbers of the lines with another number of fields than the header, or with broken quotes.
    """

    fields: Sequence[pa.Array]
    row: NDArray[np.int64]
    faults: dict[Reason, Mask]
    broken: NDArray[np.int64]

    def deliver(self, columns: Columns, delivered: dict[str, pa.Array], faults: dict[Reason, Mask]) -> Delivery:
        """Deliver the decoded columns of these lines, with the lines that have none."""
        delivery = deliver_readings(columns, delivered, faults)
        if self.broken.size == 0:
            return delivery
        return Delivery(delivery.series, pa.concat_batches([reject_rows(self.broken), delivery.rejected]))


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
    splits = []
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for start, stop, first_row in _cut(data, (header.length, len(data)), 2, split_bytes):
            if stop - start > MOST_BYTES:
                problem = f"more than {MOST_BYTES >> 30} GiB of it would have to be read at once"
                raise BadFileError(problem, where=path, remedy="cut it at a line, into several files")
            splits.append(Split(path, name, digest, start, stop, first_row))
    return splits


def cut_split(split: Split) -> Sequence[Split]:
    """Cut a split at line ends into the parts that are decoded one after the other, each in the memory of the last."""
    with Path(split.path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return [
            replace(split, start=start, stop=stop, first_row=first_row)
            for start, stop, first_row in _cut(data, (split.start, split.stop), split.first_row, PART_BYTES)
        ]


def _cut(data: mmap.mmap, span: tuple[int, int], first_row: int, part_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Cut a span at line ends: where each part starts and stops, and the number of its first line."""
    start, end = span
    while start < end:
        stop = data.find(b"\n", min(start + part_bytes, end) - 1, end) + 1 or end
        yield start, stop, first_row
        first_row += _count_ends(data, start, stop)
        start = stop


def _count_ends(data: bytes | mmap.mmap, start: int, stop: int) -> int:
    """Count line ends in a span, in whole columns: ``count`` begins anew behind each."""
    parts = (data[at : min(at + _COUNTED, stop)] for at in range(start, stop, _COUNTED))
    return sum(int(np.count_nonzero(np.frombuffer(part, np.uint8) == ord("\n"))) for part in parts)


def read_lines(split: Split, header: Header, *, must_end: bool) -> Lines:
    """Read the lines of a split as columns of strings.

    Empty lines, and lines of empty fields only, hold no reading and are passed over. A quoted field can't span lines.

    Args:
        split: what to read.
        header: of its file.
        must_end: a last line without a line end is broken. Where a file was cut, so is the last field, and if that is a
            number or an id, nothing else tells.

    Raises:
        BadFileError: the text does not fall into lines as it must.
    """
    with Path(split.path).open("rb") as file:
        file.seek(split.start)
        content, clean = as_utf8(file.read(split.stop - split.start), header.encoding)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    if _BOM in content:
        # Where files were joined. The parser takes it off the first line of a part by itself, whichever that is.
        content = _MARKED.sub(b"", content)
    content, broken = _blank_broken_quotes(content, header.delimiter)
    if must_end and not content.endswith(b"\n"):
        end = content.rfind(b"\n") + 1
        if content[end:].strip():
            broken = np.append(broken, content.count(b"\n"))
        content = content[:end]
    count = _count_ends(content, 0, len(content)) + (not content.endswith(b"\n"))
    fields, misfits = _parse(content, header)
    good = np.ones(count, dtype=bool)
    good[misfits] = False
    if len(fields[0]) != good.sum():
        raise BadFileError("its text does not fall into lines", where=split.path, remedy="deliver one reading a line")
    row = split.first_row + np.flatnonzero(good)
    filled = np.zeros(len(row), dtype=bool)
    for field in fields:
        filled |= pc.greater(pc.binary_length(field), 0).to_numpy(zero_copy_only=False)
        if filled.all():  # mostly so with the first
            break
    if not filled.all():
        fields, row = [field.filter(pa.array(filled)) for field in fields], row[filled]
    faults = {} if clean else {Reason.UNREADABLE_ROW: _find_replaced(fields)}
    return Lines(fields, row, faults, split.first_row + np.sort(np.concatenate((misfits, broken))))


def as_utf8(content: bytes, encoding: str) -> tuple[bytes, bool]:
    """Give text as UTF-8, and whether all of it was of its encoding."""
    if content.isascii():
        return content, True
    try:
        return content.decode(encoding).encode(), True
    except UnicodeDecodeError:
        return content.decode(encoding, "replace").encode(), False


def _blank_broken_quotes(content: bytes, delimiter: str) -> tuple[bytes, NDArray[np.int64]]:
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


def _parse(content: bytes, header: Header) -> tuple[list[pa.Array], NDArray[np.int64]]:
    """Parse lines to columns of strings; lines with another number of fields come back as numbers, from 0."""
    misfits: list[int] = []

    def note(row: pv.InvalidRow) -> str:
        misfits.append(row.number - 1)
        return "skip"

    names = [str(index) for index in range(len(header.names))]
    if not content or content.isspace():
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


def _find_replaced(fields: Sequence[pa.Array]) -> Mask:
    replaced: Mask = np.zeros(len(fields[0]), dtype=bool)
    for field in fields:
        replaced |= pc.match_substring(field, _REPLACED).to_numpy(zero_copy_only=False)
    return replaced
