"""Stretches of a text that stand at many places, looked at side by side: as the rows of one array.

What a machine writes, it writes alike: one stretch differs from the next in a few digits. So the bytes that must agree
are compared in whole columns, and digits become numbers in whole columns, without a call for any stretch by itself.
"""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Words = NDArray[np.uint64]

#: Bytes of a word, and the most digits that one holds.
WORD = 8
#: Bytes of a decimal number: no float that is printed without an exponent has more behind ``0.000``.
LONGEST = 22
#: Bytes before the end of one that are looked at.
REACH = 3 * WORD
#: Digits of a number of 64 bits, but for zeros before it.
_MOST_DIGITS = 18
_WORD_TYPE = np.dtype("<u8")
#: Bytes that are searched at a time, so that they are still in the processor's nearest cache.
_LOOKED_AT = 1 << 15
#: Bytes that are searched at a time for one byte that is rare.
_SEARCHED = 1 << 18


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


def find_byte(data: bytes, byte: int) -> Ints:
    """Find every place, int64, where a byte stands."""
    text = np.frombuffer(data, np.uint8)
    starts = range(0, len(text), _SEARCHED)
    found = [start + np.flatnonzero(text[start : start + _SEARCHED] == byte) for start in starts]
    return np.concatenate([np.zeros(0, np.int64), *found])


def as_slice(indices: Ints) -> Ints | slice:
    """Give ascending indices that follow each other as a slice, which takes what they do without a look at each."""
    if len(indices) and indices[-1] - indices[0] == len(indices) - 1:
        return slice(int(indices[0]), int(indices[-1]) + 1)
    return indices


def cut_rows(data: bytes | memoryview, starts: Ints, width: int) -> Bytes:
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
    digits = (words ^ _repeat(ord("0"))) & _LAST[count]
    return _join_digits(digits).astype(np.int64), _find_excess(digits) == 0


def read_decimals(data: bytes | memoryview, stops: Ints, lengths: Ints, sign: bytes) -> tuple[Ints, Ints, Mask]:
    """Read decimal numbers of digits, with one sign between two of them or none.

    Args:
        data: the text.
        stops: int64, where each number ends in it; ``REACH`` bytes stand before.
        lengths: int64, bytes of each, sign included, from 1 to ``LONGEST``.
        sign: one byte.

    Returns:
        The digits as a number, int64, below 10 ** 18; how many of them stand behind the sign, int64, from 0 to 20; a
        mask of what is such a number, and no greater.
    """
    count = -(-int(lengths.max(initial=1)) // WORD)
    rows = cut_rows(data, stops - count * WORD, count * WORD).view(_WORD_TYPE)
    total, excess = np.zeros((2, len(stops)), np.uint64)
    signs, decimals = np.zeros((2, len(stops)), np.int64)
    great = np.zeros(len(stops), bool)
    for place in range(count):
        kept = _LAST.take(lengths - place * WORD, mode="clip")
        digits = (rows[:, count - 1 - place] ^ _repeat(ord("0"))) & kept
        other = digits ^ _repeat(sign[0] ^ ord("0"))
        # The highest bit of each byte that is the sign.
        is_sign = ~(((other & _repeat(0x7F)) + _repeat(0x7F)) | other) & _repeat(0x80)
        behind = place * WORD + ((63 - np.bitwise_count(is_sign - np.uint64(1)).astype(np.int64)) >> 3)
        decimals = np.where(is_sign != 0, behind, decimals)
        signs += np.bitwise_count(is_sign)
        digits &= ~((is_sign >> np.uint64(7)) * np.uint64(0xFF))
        excess |= _find_excess(digits)
        joined = _join_digits(digits)
        great |= joined >= 10 ** max(_MOST_DIGITS - place * WORD, 0)
        total += joined * np.uint64(10 ** (place * WORD))
    within = (decimals > 0) & (decimals < lengths - 1)
    good = (excess == 0) & ~great & ((signs == 0) | ((signs == 1) & within))
    # The sign was read as a digit 0 between the others, which is taken out again.
    scale = _POWERS[np.where(good, decimals, 0).clip(max=_MOST_DIGITS - 1)]
    whole = np.where(signs > 0, total // (scale * np.uint64(10)), np.uint64(0))
    return (total - np.uint64(9) * scale * whole).astype(np.int64), decimals, good


def read_clock(rows: Bytes, start: int) -> tuple[Ints, Mask]:
    """Read in each row the minutes, int64, that a clock shows (``23:59``), and give a mask of where there is one.

    Args:
        rows: uint8 [rows × width].
        start: where it begins; three bytes stand before.
    """
    words = rows[:, start - 3 : start + 5].view(_WORD_TYPE)[:, 0]
    digits = (words >> np.uint64(24)) ^ np.uint64(int.from_bytes(b"00:00", "little"))
    tens, ones = digits & _CLOCK_TENS, (digits >> np.uint64(8)) & _CLOCK_TENS
    numbers = tens * np.uint64(10) + ones
    hours, minutes = numbers & np.uint64(0xFF), numbers >> np.uint64(24)
    good = (_find_excess(digits) == 0) & ((digits >> np.uint64(16)) & np.uint64(0xFF) == 0)
    good &= (hours < 24) & (minutes < 60)
    return (hours * np.uint64(60) + minutes).astype(np.int64), good


def find_repeats(rows: Bytes, mask: bytes) -> Mask:
    """Tell which rows are like the one before in the bytes that a mask has as 0xFF; both have whole words."""
    words = rows.view(_WORD_TYPE)
    difference = np.zeros(max(len(rows) - 1, 0), _WORD_TYPE)
    for column, bits in zip(words.T, np.frombuffer(mask, _WORD_TYPE), strict=True):
        difference |= (column[1:] ^ column[:-1]) & bits
    repeats = np.zeros(len(rows), bool)
    repeats[1:] = difference == 0
    return repeats


def _find_excess(digits: Words) -> Words:
    """Give the highest bit of each byte that is beyond 9: adding takes it there."""
    return ((digits + _repeat(0x80 - 10)) | digits) & _repeat(0x80)


def _join_digits(digits: Words) -> Words:
    """Join the digits of each word to a number; the first is in the lowest byte."""
    # Neighbours are joined to numbers of two digits, those to four, then eight.
    for factor, bits in ((10, 8), (100, 16), (10_000, 32)):
        digits = (digits * np.uint64(factor) + (digits >> np.uint64(bits))) & _alternate(bits)
    return digits


def _repeat(byte: int) -> np.uint64:
    return np.uint64(int.from_bytes(bytes([byte]) * WORD))


def _alternate(bits: int) -> np.uint64:
    """Give a mask of every other group of bits, the lowest first."""
    return np.uint64(sum(((1 << bits) - 1) << place for place in range(0, 64, 2 * bits)))


#: The last bytes of a word, by how many.
_LAST = np.array([(1 << 64) - (1 << 8 * (WORD - count)) for count in range(WORD + 1)], np.uint64)
_POWERS = 10 ** np.arange(_MOST_DIGITS, dtype=np.uint64)
#: The first digit of hours and of minutes.
_CLOCK_TENS = np.uint64(0xFF0000FF)
