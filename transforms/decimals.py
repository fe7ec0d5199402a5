"""Decimals with six places are int64 counts of millionths: the same memory, seen as one or the other."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def as_decimal(units: pa.Array, kind: pa.DataType) -> pa.Array:
    """See an int64 array of millionths as ``decimal64(·, 6)``, zero-copy; nulls stay null."""
    return pa.Array.from_buffers(kind, len(units), units.buffers(), offset=units.offset)


def as_int64_units(decimals: pa.Array) -> npt.NDArray[np.int64]:
    """See a ``decimal(·, 6)`` array as int64 millionths; null becomes 0. Zero-copy without nulls, from decimal64."""
    if pa.types.is_decimal128(decimals.type):
        decimals = decimals.cast(pa.decimal64(18, 6))
    units = np.frombuffer(decimals.buffers()[1], np.int64, len(decimals), decimals.offset * 8)
    return np.where(decimals.is_null().to_numpy(zero_copy_only=False), 0, units) if decimals.null_count else units
