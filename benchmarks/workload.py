"""Makes the input that every peer gets: ``python -m benchmarks.workload FOLDER POINTS HOURLY_SHARE``."""

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
from pipeline.fleet.options import HOURLY_SHARE, FleetOptions
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
_AGAIN_AFTER, _CORRECTED_AFTER = timedelta(days=3), timedelta(days=11)


def make_workload(folder: Path, points: int, hourly_share: float = HOURLY_SHARE) -> int:
    """Generate a fleet's day, deliver 2 % of it again or corrected, and make a key; the number of readings delivered.

    Writes ``readings/``, ``reference/``, ``truth.json``, ``keyset.json``, ``kek.bin``, and ``subkeys.json`` for the
    peers: what pseudonyms of the day are made with. Holds no more than those 2 % and a row group in memory.
    """
    options = FleetOptions(
        points=points,
        days=1,
        start=DAY,
        hourly_share=hourly_share,
        format="parquet",
        faults=frozenset(),
        file_points=-(-points // FILES),
    )
    generate_fleet(options, folder)
    first = sorted((folder / "readings").iterdir())
    again, corrected = zip(*(parts for path in first for parts in _deliver_again(path)), strict=True)
    _write_later(folder / "readings", again, _AGAIN_AFTER)
    _write_later(folder / "readings", corrected, _CORRECTED_AFTER)
    create_keyset(folder / "keyset.json", str(folder / "kek.bin"))
    secret = open_keyset(folder / "keyset.json", str(folder / "kek.bin")).key_for(DAY).secret.reveal(SECRET_ACCESS)
    subkeys = {entity: derive_subkey(secret, DOMAIN, entity, EPOCH).hex() for entity in ENTITIES}
    (folder / "subkeys.json").write_text(json.dumps(subkeys))
    return sum(pq.read_metadata(path).num_rows for path in (folder / "readings").iterdir())


def _deliver_again(path: Path) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Choose what comes again of a file as it was, and what comes corrected, row group by row group."""
    with pq.ParquetFile(path, read_dictionary=["metering_point_id", "product"]) as file:
        before = 0
        for group in range(file.num_row_groups):  # each has whole points
            table = file.read_row_group(group).combine_chunks()
            [ids] = table["metering_point_id"].chunks
            number = before + np.cumsum(np.diff(ids.indices.to_numpy(), prepend=ids.indices[0].as_py()) != 0)
            before = number[-1] + 1
            again = table.filter(pa.array(number % AGAIN_ONE_IN == 0))
            quarter = (table["start"].cast(pa.int64()).to_numpy() // 1_000_000 - LocalDay(DAY).start) // (6 * 3600)
            chosen = (number % CORRECTED_ONE_IN == 1) & (quarter == number // CORRECTED_ONE_IN % 4)
            yield again, _correct(table.filter(pa.array(chosen)))


def _correct(table: pa.Table) -> pa.Table:
    energy = pc.add(pc.multiply(table["energy"], 2), 1000)
    status = pa.repeat(pa.scalar(int(Status.REVISED), pa.int8()), len(table))
    return _set_column(_set_column(table, "energy", energy), "status", status)


def _write_later(folder: Path, tables: tuple[pa.Table, ...], after: timedelta) -> None:
    """Write what is registered so long after the end of the day as one file."""
    table = pa.concat_tables(tables, promote_options="none").unify_dictionaries()
    stamp = datetime.fromtimestamp(LocalDay(DAY).end, UTC) + after
    registered_at = pa.repeat(pa.scalar(stamp, pa.timestamp("us", "UTC")), len(table))
    path = folder / f"readings-{stamp:%Y%m%dT%H%M%SZ}.parquet"
    pq.write_table(_set_column(table, "registered_at", registered_at), path, compression="zstd")


def _set_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(index, table.schema.field(index), values)


if __name__ == "__main__":
    readings = make_workload(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    print(json.dumps({"readings": readings}))
