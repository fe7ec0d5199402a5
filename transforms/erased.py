"""Leaving out what was erased: readings of points that a tombstone names, in what arrives and in what is there."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: Says of distinct canonical ids which of them are erased: string array in, boolean array of the same length out.
FindErased = Callable[[pa.Array], pa.Array]


def leave_out(
    frames: Sequence[pa.RecordBatch], find_erased: FindErased
) -> tuple[list[pa.RecordBatch], tuple[int, int]]:
    """Take the pieces of erased points out of frames (``transforms.pieces.split_by_cell``, ``transforms.state``).

    Returns:
        The frames without them, some perhaps empty; and the readings and milliwatt-hours that are gone.
    """
    kept, readings, energy = [], 0, 0
    for frame in frames:
        ids = frame.column("metering_point_id").dictionary_encode()
        erased = find_erased(ids.dictionary).take(ids.indices)
        gone = frame.column("energy").filter(erased).flatten().to_numpy()
        readings, energy = readings + len(gone), energy + int(gone.sum(dtype=np.int64))
        kept.append(frame.filter(pc.invert(erased)) if len(gone) else frame)
    return kept, (readings, energy)
