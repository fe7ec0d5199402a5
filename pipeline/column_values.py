"""How Parquet writes values into a page: in runs, as indices, plain. Source of the rules: its Encodings.md."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Array = npt.NDArray[Any]


def merge_runs(values: Array, ends: Array) -> tuple[Array, Array]:
    """See neighbours that are equal as one run.

    Args:
        values: a value each run.
        ends: where each run ends.

    Returns:
        Values and lengths (int64) of the runs that remain.
    """
    last = np.ones(len(values), bool)
    last[:-1] = values[1:] != values[:-1]
    lengths = ends[last].astype(np.int64)
    lengths[1:] -= lengths[:-1].copy()
    return values[last], lengths


def encode_runs(values: Array, lengths: Array, width: int) -> bytes:
    """Write runs in the hybrid of RLE and bit-packing, all as RLE runs.

    Args:
        values: a number of ``width`` bits each run.
        lengths: int64 lengths of the runs.
        width: bits.
    """
    numbers = lengths << 1
    head, tail = (int(numbers.max(initial=0)).bit_length() + 6) // 7, (width + 7) // 8
    out = np.empty((len(values), head + tail), np.uint8)
    for byte in range(head):  # a number by groups of seven bits; the highest bit says that more of them follow
        rest = numbers >> 7 * byte
        out[:, byte] = rest & 0x7F | (rest > 0x7F) * 0x80
    out[:, head:] = values.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :tail]
    if (numbers >> 7 * (head - 1) > 0).all():
        return out.tobytes()
    written = np.ones(out.shape, bool)
    written[:, 1:head] = numbers[:, None] >> 7 * np.arange(1, head) > 0
    return out[written].tobytes()


def encode_levels(values: pa.Array) -> bytes:
    """Write which values are there: definition levels of one bit, in the same hybrid."""
    if not values.null_count:
        return encode_runs(np.ones(1, bool), np.array([len(values)]), 1) if len(values) else b""
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    return _start_packed(len(values)) + np.packbits(valid, bitorder="little").tobytes()


def encode_indices(codes: Array, width: int) -> bytes:
    """Write indices of 8 or 16 bits as one bit-packed run, which is then those numbers as they stand in memory."""
    padding = -len(codes) % 8 * width // 8
    return _start_packed(len(codes)) + codes.astype(f"<u{width // 8}").tobytes() + bytes(padding)


def encode_plain(values: pa.Array) -> bytes:
    """Write values without nulls, not in a dictionary, one after the other; text with its length before it."""
    if not len(values):
        return b""
    if pa.types.is_boolean(values.type):
        return np.packbits(values.to_numpy(zero_copy_only=False), bitorder="little").tobytes()
    if not pa.types.is_string(values.type):
        width = values.type.byte_width
        return bytes(values.buffers()[1].slice(values.offset * width, len(values) * width))
    lengths = pc.binary_length(values).cast(pa.int32())
    heads = pa.Array.from_buffers(pa.binary(4), len(values), [None, lengths.buffers()[1]])
    joined = pc.binary_join_element_wise(heads.cast(pa.binary()), values.cast(pa.binary()), b"")
    _, offsets, text = joined.buffers()
    end = int(np.frombuffer(offsets, np.int32, len(joined) + 1)[-1])
    return bytes(text.slice(0, end))


def _start_packed(count: int) -> bytes:
    """Write the head of a bit-packed run: how many eights of values it has."""
    number, head = (count + 7) // 8 << 1 | 1, bytearray()
    while number > 0x7F:
        head.append(number & 0x7F | 0x80)
        number >>= 7
    head.append(number)
    return bytes(head)
