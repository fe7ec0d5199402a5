"""Writes corrections of readings: ``python -m benchmarks.corrections READINGS OUT --share 0.01``.

Of a day's files it takes a share of the points, the whole day of each, gives every value 1 Wh more, marks it as revised
and registers it twenty days later. ``--years-back`` moves them back by years: values that are late, not corrected.
"""

import argparse
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_LATER = timedelta(days=20)
#: The calendar repeats itself after this many days as far as hours of local days go: it keeps the season.
_YEAR = timedelta(days=365)
_SEED = 11


def main() -> None:
    """Write one file of corrections; nothing where the share takes no point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readings", type=Path, help="pattern of a day's Parquet files, a reading a row")
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--share", type=float, required=True, help="share of the points")
    parser.add_argument("--years-back", type=int, default=0, help="move the readings back")
    arguments = parser.parse_args()
    random = np.random.default_rng(_SEED)
    parts = []
    for path in sorted(arguments.readings.parent.glob(arguments.readings.name)):
        rows = pq.read_table(path, read_dictionary=["metering_point_id"]).unify_dictionaries()
        ids = rows["metering_point_id"].unique().cast(pa.string())
        chosen = ids.filter(pa.array(random.random(len(ids)) < arguments.share))
        parts.append(_correct(rows.filter(pc.is_in(rows["metering_point_id"].cast(pa.string()), chosen)), arguments))
    table = pa.concat_tables(parts)
    if len(table):
        pq.write_table(table, arguments.out, compression="zstd")


def _correct(rows: pa.Table, arguments: argparse.Namespace) -> pa.Table:
    back = pa.scalar(_YEAR * arguments.years_back, pa.duration("us"))
    later = pa.scalar(_LATER, pa.duration("us"))
    energy = pc.add(rows["energy"], pa.scalar(1_000, pa.int64()))
    status = pa.chunked_array([pa.repeat(_revised(rows.schema.field("status").type), len(rows))])
    columns = {
        "start": pc.subtract(rows["start"], back),
        "registered_at": pc.add(rows["registered_at"], later),
        "energy": energy,
        "status": status,
        "metering_point_id": rows["metering_point_id"].cast(pa.string()),
    }
    for name, column in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


def _revised(kind: pa.DataType) -> pa.Scalar:
    return pa.scalar("REVISED", pa.string()) if not pa.types.is_integer(kind) else pa.scalar(6, kind)


if __name__ == "__main__":
    main()
