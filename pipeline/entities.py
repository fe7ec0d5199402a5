"""Entity datasets: one file per bucket of customers, derived from the reference snapshot and replaced with it."""

from collections.abc import Iterator

import pyarrow as pa

from pipeline.context import OpenRun
from pipeline.parquet import DataFile, write_data_file
from schemas.views import CUSTOMERS
from transforms.calendar import to_date
from transforms.derive import derive
from transforms.rows import Rows

#: An entity is not of a day: its pseudonyms have the epoch of no date.
_UNDATED = to_date(0)


def derive_bucket(run: OpenRun, bucket: int) -> Iterator[DataFile]:
    """Write the file of one bucket of every entity dataset."""
    label = f"{bucket:05d}"
    customers = run.reference.customers(bucket).combine_chunks()
    columns = {name: _as_array(customers[name]) for name in CUSTOMERS}
    for dataset in run.datasets("customers"):
        rows = derive(dataset, Rows(columns), run.subkeys(dataset, _UNDATED))
        path = run.new_data_path(dataset, label)
        yield write_data_file(rows, dataset, path, run.footer(dataset, run.reference.version, _UNDATED))


def _as_array(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
