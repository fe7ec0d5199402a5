"""The cells that a changed reference touches: they are derived again, also where no readings come for them."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.cells import READINGS
from pipeline.context import OpenRun
from pipeline.labels import bucket_in
from pipeline.stores import columnar
from transforms.occupancy import contracted_points
from transforms.pieces import Cell
from transforms.reference_diff import compare_references


def list_changed_buckets(run: OpenRun) -> list[int]:
    """List the buckets that a reference may have changed: all, or none where the run's reference is the lake's."""
    changed = run.reference.version != run.lake_reference.version
    return list(range(run.lake.settings.bucket_count)) if changed else []


def find_touched(run: OpenRun, bucket: int) -> Iterator[Cell]:
    """Find the cells of a bucket whose rows may differ by the run's reference from what they are by the lake's.

    A cell is touched if a point changes on its date that has readings in it; or a row of a daily dataset without any,
    which a contract is enough for.

    Args:
        run: the open run.
        bucket: of metering points.
    """
    files = [file for file in run.current[READINGS].values() if bucket_in(file.label) == bucket]
    old, new = ((of.points(bucket), of.occupancies(bucket)) for of in (run.lake_reference, run.reference))
    if not files or (old[0].equals(new[0]) and old[1].equals(new[1])):
        return
    changes = compare_references(old, new)
    contracts = pa.concat_tables([old[1], new[1]]) if run.datasets("daily") else new[1].slice(0, 0)
    contracts = contracts.filter(pc.is_in(contracts["metering_point_id"], changes.ids))
    for file in files:
        day = int(file.label.partition("/")[0])
        ids = changes.on(day)
        if len(ids) and (_share_any(ids, contracted_points(day, contracts)) or _share_any(ids, _read_ids(file.path))):
            yield Cell(day, bucket)


def _share_any(some: pa.Array, others: pa.Array | pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.is_in(others, some)).as_py())


def _read_ids(path: str) -> pa.ChunkedArray:
    """Read the points of a cell; they are sorted, so a dictionary has each but once or twice."""
    name = "metering_point_id"
    with pq.ParquetFile(columnar(path), read_dictionary=[name]) as file:
        chunks = file.read([name])[name].chunks
    return pa.chunked_array([chunk.dictionary for chunk in chunks], pa.string())
