"""The outside of an Avro container file: header, blocks, sync markers and exact end. Decodes no record."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BadFileError
from pipeline.sources.avro_codecs import CODECS, MOST_BYTES, TooLargeError, unpack_block

MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
#: A long takes at most ten bytes of seven bits.
_LONGEST_VARINT = 10
_REMEDY = "the file is damaged or was not delivered whole: fetch it again"


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a container file says.

    Attributes:
        schema: the writer's schema, as parsed JSON.
        codec: name of the compression.
        sync: the marker that ends every block.
        length: bytes up to the first block.
    """

    schema: Any
    codec: str
    sync: bytes
    length: int


@dataclass(frozen=True, slots=True)
class Block:
    """A block: its first byte, the byte after its sync marker, and its number of records."""

    start: int
    stop: int
    count: int


@dataclass(frozen=True, slots=True)
class Records:
    """The records of some blocks, decompressed, and how many the blocks' headers say they are."""

    content: bytes
    count: int


class _Walker:
    """Reads counts and sizes at a position of a file; whatever is not there is a ``BadFileError`` with its byte."""

    def __init__(self, data: Any, path: str, position: int = 0) -> None:
        self.data, self.path, self.position = data, path, position

    def fail(self, problem: str, position: int | None = None) -> BadFileError:
        at = self.position if position is None else position
        return BadFileError(problem, where=f"{self.path}, byte {at}", remedy=_REMEDY)

    def take(self, size: int, what: str) -> bytes:
        if size < 0:
            raise self.fail(f"the {what} has a negative size")
        if self.position + size > len(self.data):
            raise self.fail(f"the file ends inside the {what}")
        self.position += size
        return bytes(self.data[self.position - size : self.position])

    def take_long(self, what: str) -> int:
        """Read a zigzag varint (Avro specification, binary encoding)."""
        encoded = shift = 0
        start = self.position
        while True:
            if self.position >= len(self.data):
                raise self.fail(f"the file ends inside the {what}")
            byte = int(self.data[self.position])
            self.position += 1
            encoded |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (encoded >> 1) ^ -(encoded & 1)
            if self.position - start == _LONGEST_VARINT:
                raise self.fail(f"the {what} is no number", start)


def read_header(data: Any, path: str) -> Header:
    """Read the header.

    Args:
        data: the file's bytes (bytes or mmap).
        path: its name, for errors.

    Raises:
        BadFileError: no Avro file, cut short, an unknown codec, no schema.
    """
    walker = _Walker(data, path)
    if walker.take(len(MAGIC), "magic number") != MAGIC:
        raise walker.fail("this is no Avro container file", 0)
    entries: dict[str, bytes] = {}
    while count := walker.take_long("header"):
        if count < 0:
            walker.take_long("header")
        for _ in range(abs(count)):
            key = walker.take(walker.take_long("header"), "header")
            entries[key.decode("utf-8", "replace")] = walker.take(walker.take_long("header"), "header")
    sync = walker.take(_SYNC_BYTES, "header")
    codec = entries.get("avro.codec", b"null").decode("utf-8", "replace")
    if codec not in CODECS:
        raise BadFileError("its codec is not known", where=path, remedy=f"write it with one of {', '.join(CODECS)}")
    try:
        schema = json.loads(entries["avro.schema"])
    except (KeyError, ValueError, RecursionError):
        raise walker.fail("the header holds no schema", 0) from None
    return Header(schema, codec, sync, walker.position)


def walk_blocks(data: Any, header: Header, path: str) -> Iterator[Block]:
    """Walk over the block headers up to the exact end of the file.

    Raises:
        BadFileError: a block that is cut short, a count or size that can't be, a wrong sync marker.
    """
    for block, _ in _walk(data, header, path, header.length, len(data)):
        yield block


def unpack_blocks(data: Any, header: Header, path: str, start: int, stop: int, target: int) -> Iterator[Records]:
    """Decompress the blocks between two block edges, joined to at least ``target`` bytes of records.

    Raises:
        BadFileError: a block that does not decompress, fails the checksum of its codec, holds more than a block may, or
            counts more records than it has bytes.
    """
    parts: list[bytes] = []
    size = count = 0
    for block, content in _walk(data, header, path, start, stop):
        where = f"{path}, bytes {block.start} to {block.stop}"
        try:
            parts.append(unpack_block(header.codec, data[content : block.stop - _SYNC_BYTES]))
        except TooLargeError:
            problem = f"the block holds more than {MOST_BYTES >> 20} MiB of records"
            raise BadFileError(problem, where=where, remedy="write it in smaller blocks") from None
        except Exception:  # noqa: BLE001 - every codec has errors of its own
            raise BadFileError("the block does not decompress", where=where, remedy=_REMEDY) from None
        if block.count > len(parts[-1]):  # whoever decodes makes room for that many
            raise BadFileError("the block's count of records can't be", where=where, remedy=_REMEDY)
        size, count = size + len(parts[-1]), count + block.count
        if size >= target:
            yield Records(b"".join(parts), count)
            parts, size, count = [], 0, 0
    if parts:
        yield Records(b"".join(parts), count)


def pack_single(header: Header, records: Records, count: int) -> bytes:
    """Make a container file of one uncompressed block, whose header says that it holds ``count`` records."""
    entries = {"avro.schema": json.dumps(header.schema).encode(), "avro.codec": b"null"}
    pieces = [MAGIC, _varint(len(entries))]
    for key, value in entries.items():
        pieces += [_varint(len(key)), key.encode(), _varint(len(value)), value]
    size = len(records.content)
    pieces += [_varint(0), header.sync, _varint(count), _varint(size), records.content, header.sync]
    return b"".join(pieces)


def _walk(data: Any, header: Header, path: str, start: int, stop: int) -> Iterator[tuple[Block, int]]:
    """Walk over blocks; with each comes the first byte of its content."""
    walker = _Walker(data, path, start)
    while walker.position < stop:
        start = walker.position
        count = walker.take_long("block header")
        size = walker.take_long("block header")
        if count < 0 or (count > 0 and size == 0):
            raise walker.fail("the block's count of records can't be", start)
        # The block's own bytes are not touched: only their end has to be there.
        if size < 0 or walker.position + size + _SYNC_BYTES > len(data):
            raise walker.fail("the file ends inside the block that starts here", start)
        content = walker.position
        walker.position += size
        marker = walker.position
        if walker.take(_SYNC_BYTES, "sync marker") != header.sync:
            raise walker.fail("the sync marker is wrong", marker)
        yield Block(start, walker.position, count), content


def _varint(value: int) -> bytes:
    """Write a long that is not negative (Avro specification, binary encoding)."""
    rest = value << 1
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)
