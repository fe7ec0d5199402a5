"""What the tests of sources share: writing small files and reading them back, reading by reading."""

import json
from importlib.resources import files
from pathlib import Path

import fastavro
import pyarrow as pa

from pipeline.sources.base import ReadOptions, Split
from pipeline.sources.registry import find_source, load_source, plan_file, read_split
from schemas.series import ACTIVE_ENERGY

SHARED = Path(__file__).parents[3] / "shared" / "data"
POINT = "643006966022791278"
START = 1_647_993_600_000_000  # 2022-03-23T00:00:00Z
REGISTERED = START + 10 * 86_400_000_000
TIME = pa.timestamp("us", "UTC")


def avro_schema(name):
    return json.loads(files("schemas").joinpath(f"avro/{name}.avsc").read_text("utf-8"))


def series_records(count=6, length=5):
    return [
        {
            "metering_point_id": f"64300696602279{index:04d}",
            "product": ACTIVE_ENERGY,
            "start": START + index * 3_600_000_000,
            "resolution_s": 900,
            "registered_at": REGISTERED,
            "energy": [index * 1000 + slot for slot in range(length)],
            "status": [5] * length,
        }
        for index in range(count)
    ]


def reading_records(count=30):
    return [
        {
            "metering_point_id": f"64300696602279{index // 10:04d}",
            "product": ACTIVE_ENERGY,
            "start": START + index % 10 * 900_000_000,
            "resolution_s": 900,
            "registered_at": REGISTERED,
            "energy": index,
            "status": 5,
        }
        for index in range(count)
    ]


def write_avro(path, records, schema, codec="null", sync_interval=16_000):
    with path.open("wb") as file:
        fastavro.writer(file, schema, records, codec=codec, sync_interval=sync_interval)
    return str(path)


def read_file(path, options=None, splits=None):
    """Read a file to (good readings as a sorted list of tuples, rejected rows)."""
    options = options or ReadOptions()
    good, rejected = [], []
    # Splits that a test has made bear no stamp of the file, which is what read_split goes by.
    read = read_split if splits is None else lambda split, options: load_source(split.format).read(split, options)
    for split in plan_file(str(path), options) if splits is None else splits:
        for delivery in read(split, options):
            delivery.series.validate(full=True)
            delivery.rejected.validate(full=True)
            good += explode(delivery.series)
            rejected += delivery.rejected.to_pylist()
    return sorted(good), rejected


def read_in_parts(path, options=None, **target):
    options = options or ReadOptions()
    splits: list[Split] = list(find_source(str(path), options).splits(str(path), "", options, **target))
    assert len(splits) > 1
    return read_file(path, options, splits)


def explode(batch):
    """Series to readings: (id, product, start µs, resolution, registered µs, energy, status), row left out."""
    starts, registered = (batch.column(name).cast(pa.int64()).to_pylist() for name in ("start", "registered_at"))
    rows = zip(*(batch.column(index).to_pylist() for index in (0, 1, 3, 5, 6)), starts, registered, strict=True)
    return [
        (point, product, start + slot * resolution * 1_000_000, resolution, moment, energy[slot], status[slot])
        for point, product, resolution, energy, status, start, moment in rows
        for slot in range(len(energy))
    ]
