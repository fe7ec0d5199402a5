"""Buckets: which of the lake's fixed number of parts an id belongs to, by Iceberg's ``bucket[N]`` transform."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg_core.transform import bucket as iceberg_bucket

#: Points that one bucket should hold: their day grids and reference slice fit a worker's memory many times over.
POINTS_PER_BUCKET = 100_000
#: Fewer would leave nothing to do in parallel.
MIN_BUCKETS = 2


def bucket_of(ids: pa.Array | pa.ChunkedArray, bucket_count: int) -> npt.NDArray[np.int32]:
    """Compute the bucket of each id: murmur3 of its UTF-8 bytes, as the Iceberg specification defines ``bucket[N]``.

    Args:
        ids: canonical ids, strings or a dictionary of strings, without nulls. Of a dictionary each value is hashed
            once.
        bucket_count: buckets of the lake.

    Returns:
        Buckets, 0 to ``bucket_count - 1``, int32, aligned with ``ids``.

    Raises:
        ValueError: an id is null.
    """
    if ids.null_count:
        raise ValueError("a null has no bucket")
    if isinstance(ids, pa.ChunkedArray):
        chunks = [bucket_of(chunk, bucket_count) for chunk in ids.chunks]
        return np.concatenate([np.empty(0, np.int32), *chunks])
    if isinstance(ids, pa.DictionaryArray):
        codes: npt.NDArray[np.int32] = bucket_of(ids.dictionary, bucket_count)[ids.indices.to_numpy()]
        return codes
    buckets: npt.NDArray[np.int32] = iceberg_bucket(ids, bucket_count).to_numpy()
    return buckets


def default_bucket_count(points: int) -> int:
    """Choose the bucket count of a new lake: the power of two that still suits it when it has grown by a quarter.

    Args:
        points: metering points of the reference.

    Returns:
        A power of two, at least ``MIN_BUCKETS``.
    """
    buckets = -(-points * 5 // (4 * POINTS_PER_BUCKET))
    return max(MIN_BUCKETS, 1 << (buckets - 1).bit_length())
