"""Makes the input that every peer gets: ``python -m benchmarks.workload FOLDER POINTS``."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.fleet.days import LocalDay
from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions
from pipeline.keys import SECRET_ACCESS, create_keyset, open_keyset
from schemas.status import Status
from transforms.plan import ENTITIES
from transforms.pseudonym import derive_subkey

#: An ordinary day of 24 hours, and the epoch that it lies in.
DAY, EPOCH = date(2026, 3, 24), "2026"
DOMAIN = "load-research"
#: A feed comes in several files.
FILES = 8
#: One point of so many is delivered again, its whole day; one of so many is corrected, a quarter of its day: 1 % of
#: the readings each.
AGAIN_ONE_IN, CORRECTED_ONE_IN = 100, 25


def make_workload(folder: Path, points: int) -> int:
    """Generate a fleet's day, deliver 2 % of it again or corrected, and make a key; the number of readings delivered.

    Writes ``readings/``, ``reference/``, ``truth.json``, ``keyset.json``, ``kek.bin``, and ``subkeys.json`` for the
    peers: what pseudonyms of the day are made with.
    """
    options = FleetOptions(
        points=points, days=1, start=DAY, format="parquet", faults=frozenset(), block_points=-(-points // FILES)
    )
    generate_fleet(options, folder)
    first = sorted((folder / "readings").iterdir())
    again, corrected = (
        pa.concat_tables(tables, promote_options="none")
        for tables in zip(*(_deliver_again(pq.read_table(path)) for path in first), strict=True)
    )
    for table, days in ((again, 3), (corrected, 11)):
        stamp = datetime.fromtimestamp(LocalDay(DAY).end, UTC) + timedelta(days=days)
        registered_at = pa.repeat(pa.scalar(stamp, pa.timestamp("us", "UTC")), len(table))
        path = folder / "readings" / f"readings-{stamp:%Y%m%dT%H%M%SZ}.parquet"
        pq.write_table(_set_column(table, "registered_at", registered_at), path, compression="zstd")
    create_keyset(folder / "keyset.json", str(folder / "kek.bin"))
    secret = open_keyset(folder / "keyset.json", str(folder / "kek.bin")).key_for(DAY).secret.reveal(SECRET_ACCESS)
    subkeys = {entity: derive_subkey(secret, DOMAIN, entity, EPOCH).hex() for entity in ENTITIES}
    (folder / "subkeys.json").write_text(json.dumps(subkeys))
    return sum(pq.read_metadata(path).num_rows for path in (folder / "readings").iterdir())


def _deliver_again(table: pa.Table) -> Iterator[pa.Table]:
    """Choose what comes again as it was, then what comes corrected; both in the order of the file."""
    table = table.unify_dictionaries()
    code = np.concatenate([chunk.indices.to_numpy() for chunk in table["metering_point_id"].chunks])
    yield table.filter(pa.array(code % AGAIN_ONE_IN == 0))
    since_midnight = pc.subtract(table["start"].cast(pa.int64()), LocalDay(DAY).start * 1_000_000).to_numpy()
    quarter = since_midnight // (6 * 3600 * 1_000_000)
    corrected = table.filter(pa.array((code % CORRECTED_ONE_IN == 1) & (quarter == code // CORRECTED_ONE_IN % 4)))
    energy = pc.add(pc.multiply(corrected["energy"], 2), 1000)
    status = pa.repeat(pa.scalar(int(Status.REVISED), pa.int8()), len(corrected))
    yield _set_column(_set_column(corrected, "energy", energy), "status", status)


def _set_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(index, table.schema.field(index), values)


if __name__ == "__main__":
    print(json.dumps({"readings": make_workload(Path(sys.argv[1]), int(sys.argv[2]))}))
