"""Random numbers that belong to an index, not to a position in a stream: any block of a fleet can be drawn alone."""

import zlib

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draw_words(seed: int, stream: str, *indices: npt.ArrayLike) -> Words:
    """Draw 64 random bits for every (broadcast) tuple of indices; streams of other names are independent.

    The mixer is that of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    """
    words: Words = _mix(np.array([seed], dtype=np.uint64) * _GOLDEN + np.uint64(zlib.crc32(stream.encode())))
    for index in indices:
        words = _mix(words + (np.atleast_1d(np.asarray(index)).astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return words


def draw_uniform(seed: int, stream: str, *indices: npt.ArrayLike) -> Floats:
    """Draw numbers in [0, 1)."""
    return (draw_words(seed, stream, *indices) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw_below(bound: npt.ArrayLike, seed: int, stream: str, *indices: npt.ArrayLike) -> Ints:
    """Draw integers in [0, bound)."""
    words = draw_words(seed, stream, *indices) >> np.uint64(11)
    return (words % np.asarray(bound).astype(np.uint64)).astype(np.int64)


def draw_noise(seed: int, stream: str, rows: Ints, columns: int) -> npt.NDArray[np.float32]:
    """Draw a matrix of numbers in [0, 1) with 24 random bits, cheaply: one 32-bit mix for each (row, column).

    The mixer is lowbias32 of Wellons' hash prospector.
    """
    row_keys = (draw_words(seed, stream, rows) >> np.uint64(32)).astype(np.uint32)
    column_keys = np.arange(columns, dtype=np.uint32) * np.uint32(0x9E3779B9)
    words = row_keys[:, None] + column_keys
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        words ^= words >> np.uint32(shift)
        words *= np.uint32(factor)
    words >>= np.uint32(8)
    return words.astype(np.float32) * np.float32(2.0**-24)


def _mix(words: Words) -> Words:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
