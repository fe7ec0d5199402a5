"""The same number of readings in shapes that a cluster may find hard; for ``benchmarks.flink``.

``plain``: four files; ``small frames``: four hundred, so that each frame holds few points; ``hot cell``: one bucket of
eight has 60 % of the points.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.buckets import bucket_of

BUCKETS = 8
SHAPES = ("plain", "small frames", "hot cell")
_HOT_SHARE = 0.6
_FILES = {"plain": 4, "small frames": 400, "hot cell": 4}


def write_shape(shape: str, fleet: Path, out: Path) -> None:
    """Write a fifth of a fleet's readings in a shape.

    Args:
        shape: one of ``SHAPES``.
        fleet: folder of the fleet, its readings in Parquet, points whole in their file.
        out: folder for the files.
    """
    out.mkdir()
    table = pa.concat_tables(_choose(shape, path) for path in sorted((fleet / "readings").iterdir()))
    edges = np.linspace(0, len(table), _FILES[shape] + 1).astype(int)
    for number, (first, last) in enumerate(pairwise(edges)):
        pq.write_table(table.slice(first, last - first), out / f"{number:03d}.parquet", compression="zstd")


def _choose(shape: str, path: Path) -> pa.Table:
    """Take every fifth point of a file; for a hot cell as many, but 60 % of them of the first bucket."""
    table = pq.read_table(path, read_dictionary=["metering_point_id"]).unify_dictionaries()
    points = table["metering_point_id"].combine_chunks()
    order = np.random.default_rng(1).permutation(len(points.dictionary))
    wanted = len(order) // 5
    if shape == "hot cell":
        hot = bucket_of(points.dictionary, BUCKETS)[order] == 0
        many = int(wanted * _HOT_SHARE)
        chosen = np.concatenate([order[hot][:many], order[~hot][: wanted - many]])
    else:
        chosen = order[:wanted]
    kept = np.zeros(len(order), np.bool_)
    kept[chosen] = True
    return table.filter(pa.array(kept[points.indices.to_numpy()]))
