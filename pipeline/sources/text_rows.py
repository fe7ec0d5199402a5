"""Stretches of a text that stand at many places, looked at side by side: as the rows of one array.

What a machine writes, it writes alike: one stretch differs from the next in a few digits. So the bytes that must agree
are compared in whole columns, and digits become numbers in whole columns, without a call for any stretch by itself.
"""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Bytes of a word, and the most digits that one holds.
WORD = 8
_WORD_TYPE = np.dtype("<u8")
#: Bytes that are searched at a time, so that they are still in the processor's nearest cache.
_LOOKED_AT = 1 << 15


def find_all(data: bytes, mark: bytes) -> Ints:
    """Find every place, int64, where a mark of at least two bytes begins."""
    text = np.frombuffer(data, np.uint8)
    count = max(len(text) - len(mark) + 1, 0)
    likely = [np.zeros(0, np.int64)]
    for start in range(0, count, _LOOKED_AT):
        stop = min(start + _LOOKED_AT, count)
        here = (text[start:stop] == mark[0]) & (text[start + 1 : stop + 1] == mark[1])
        likely.append(start + np.flatnonzero(here))
    found = np.concatenate(likely)
    for place, byte in enumerate(mark[2:], 2):
        found = found[text[found + place] == byte]
    return found


def cut_rows(data: bytes, starts: Ints, width: int) -> Bytes:
    """Cut stretches of one width out of a text, which has all of them, as the rows of an array [starts × width]."""
    everywhere = np.ndarray((len(data) - width + 1,), f"V{width}", data, strides=(1,))
    return everywhere[starts].view(np.uint8).reshape(len(starts), width)


def differ(rows: Bytes, pattern: bytes, mask: bytes) -> Mask:
    """Tell which rows differ from a pattern in the bytes that a mask has as 0xFF; both have whole words, as rows do."""
    expected, looked_at = (np.frombuffer(data, _WORD_TYPE) for data in (pattern, mask))
    difference = np.zeros(len(rows), _WORD_TYPE)
    for column, word, bits in zip(rows.view(_WORD_TYPE).T, expected, looked_at, strict=True):
        difference |= (column ^ word) & bits
    unequal: Mask = difference != 0
    return unequal


def read_digits(rows: Bytes, stop: int, count: int) -> tuple[Ints, Mask]:
    """Read in each row the number that ends before the byte ``stop``, which is beyond the first word.

    Args:
        rows: uint8 [rows × width].
        stop: where its digits end.
        count: how many it has, from 0 to ``WORD``.

    Returns:
        The numbers, int64, and a mask of the rows in which all of them are digits.
    """
    words = rows[:, stop - WORD : stop].view(_WORD_TYPE)[:, 0]
    digits = (words ^ _repeat(ord("0"))) & np.uint64((1 << 64) - (1 << 8 * (WORD - count)))
    # Adding takes what is beyond 9 into the highest bit of its byte.
    good = ((digits + _repeat(0x80 - 10)) | digits) & _repeat(0x80) == 0
    # The first digit is in the lowest byte: neighbours are joined to numbers of two digits, those to four, then eight.
    for factor, bits in ((10, 8), (100, 16), (10_000, 32)):
        digits = (digits * np.uint64(factor) + (digits >> np.uint64(bits))) & _alternate(bits)
    return digits.astype(np.int64), good


def _repeat(byte: int) -> np.uint64:
    return np.uint64(int.from_bytes(bytes([byte]) * WORD))


def _alternate(bits: int) -> np.uint64:
    """Give a mask of every other group of bits, the lowest first."""
    return np.uint64(sum(((1 << bits) - 1) << place for place in range(0, 64, 2 * bits)))
