"""Decompression of Avro blocks, each to a bound: a block of some kilobytes can be one of gigabytes."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import cramjam
from backports import zstd

#: Bytes of records that a block may hold: a hundred times what writers put into one, and small beside memory.
MOST_BYTES = 16 << 20
#: What the decoder of xz may take for its dictionary; its strongest setting needs 65 MiB.
_XZ_BYTES = 128 << 20


class TooLargeError(ValueError):
    """A block that holds more than ``MOST_BYTES``."""


def unpack_block(codec: str, content: bytes) -> bytes:
    """Decompress a block; memory is at most twice ``MOST_BYTES``.

    Args:
        codec: one of ``CODECS``.
        content: the block as it stands in the file.

    Raises:
        TooLargeError: it holds more than ``MOST_BYTES``.
        Exception: it does not decompress, or fails the checksum of its codec; each codec has errors of its own.
    """
    unpacked = CODECS[codec](content)
    _require_bound(len(unpacked))
    return unpacked


def _require_bound(size: int) -> None:
    if size > MOST_BYTES:
        raise TooLargeError


def _unpack_null(content: bytes) -> bytes:
    return content


def _unpack_deflate(content: bytes) -> bytes:
    """Decompress what deflate ends by itself; some writers leave a part of a checksum behind it."""
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    unpacked = decompressor.decompress(content, MOST_BYTES + 1)
    if not decompressor.eof:
        _require_bound(len(unpacked))
        raise ValueError("cut short")
    return unpacked


def _unpack_snappy(content: bytes) -> bytes:
    """Decompress a snappy block, which ends with the big-endian CRC-32 of what it holds."""
    _require_bound(cramjam.snappy.decompress_raw_len(content[:-4]))
    unpacked = bytes(cramjam.snappy.decompress_raw(content[:-4]))
    if zlib.crc32(unpacked).to_bytes(4, "big") != content[-4:]:
        raise ValueError("checksum")
    return unpacked


def _unpack_frames(begin: Callable[[], Any], content: bytes) -> bytes:
    """Decompress frames that follow each other, with a decompressor for each."""
    parts: list[bytes] = []
    left = MOST_BYTES
    while content:
        decompressor = begin()
        parts.append(decompressor.decompress(content, left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise TooLargeError
        if not decompressor.eof:
            raise ValueError("cut short")
        content = decompressor.unused_data
    return b"".join(parts)


#: Codec to its decompression.
CODECS: dict[str, Callable[[bytes], bytes]] = {
    "null": _unpack_null,
    "deflate": _unpack_deflate,
    "snappy": _unpack_snappy,
    "zstandard": lambda content: _unpack_frames(zstd.ZstdDecompressor, content),
    "bzip2": lambda content: _unpack_frames(bz2.BZ2Decompressor, content),
    "xz": lambda content: _unpack_frames(lambda: lzma.LZMADecompressor(memlimit=_XZ_BYTES), content),
}
