"""Decodes one file, by the sources of meterveil or in the obvious way: ``python -m benchmarks.source_decoders``.

A process of its own on one core, which prints as JSON what it took and what it found: readings and their energy. The
obvious way is what a search would give first: a reader of the format, and a loop that makes of each reading its point,
start and exact energy. Parquet has columns already: there it is Arrow's reader, without checks.
"""

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import plan_file, read_split

RESOLUTIONS = {"PT15M": timedelta(minutes=15), "PT1H": timedelta(hours=1)}
_MWH = Decimal(1_000_000)
#: Readings and their energy in milliwatt-hours.
Found = tuple[int, int]


def main() -> None:
    """Decode a small file, so that everything is loaded, then a large one, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", choices=["meterveil", *WAYS])
    parser.add_argument("file")
    parser.add_argument("--warm", help="a small file of the same kind")
    parser.add_argument("--mapping")
    parser.add_argument("--path", help="folder with further packages")
    arguments = parser.parse_args()
    if arguments.path:
        sys.path.append(arguments.path)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    options = ReadOptions(registered_at="file-name", mapping=arguments.mapping)
    decode = WAYS.get(arguments.who) or (lambda path: decode_series(path, options))
    if arguments.warm:
        decode(arguments.warm)
    wall, cpu = time.perf_counter(), time.process_time()
    readings, energy = decode(arguments.file)
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**took, "readings": readings, "energy_mwh": energy}))


def decode_series(path: str, options: ReadOptions) -> Found:
    """Check a file and decode it to batches of series, as ``ingest`` does."""
    readings = energy = 0
    for split in plan_file(path, options):
        for delivery in read_split(split, options):
            values = delivery.series.column("energy").flatten()
            readings += len(values) + delivery.rejected.num_rows
            energy += pc.sum(values).as_py() or 0
    return readings, energy


def _add(readings: Iterator[tuple[str, datetime, int]]) -> Found:
    count = total = 0
    for _, _, energy in readings:
        count += 1
        total += energy
    return count, total


def _read_csv(path: str) -> Iterator[tuple[str, datetime, int]]:
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file, delimiter=";"):
            energy = Decimal(row["Quantity"].replace(",", "."))
            yield row["MeteringPointGSRN"], datetime.fromisoformat(row["Start Time"]), int(energy * _MWH)


def _read_mapped(path: str) -> Iterator[tuple[str, datetime, int]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["meter"], datetime.fromisoformat(row["begins"]), int(Decimal(row["kwh"]) * _MWH)


def _read_xml(path: str) -> Iterator[tuple[str, datetime, int]]:
    from lxml import etree  # noqa: PLC0415 - only where it is asked for

    for _, series in etree.iterparse(path, tag="{*}Transaction"):
        point = series.findtext("{*}MeteringPointUsedDomainLocation/{*}Identification")
        period = series.find("{*}ObservationPeriodTimeSeriesPeriod")
        start = datetime.fromisoformat(period.findtext("{*}Start"))
        step = RESOLUTIONS[period.findtext("{*}ResolutionDuration")]
        for observation in series.iterfind("{*}OBS"):
            energy = Decimal(observation.findtext("{*}EOBS/{*}QTY"))
            yield point, start + (int(observation.findtext("{*}SEQ")) - 1) * step, int(energy * _MWH)
        series.clear()
        while series.getprevious() is not None:  # what was read stays with its parent
            del series.getparent()[0]


def _read_json(path: str) -> Iterator[tuple[str, datetime, int]]:
    with Path(path).open(encoding="utf-8") as file:
        answer = json.load(file)
    for series in answer["RetrieveTimeSeriesData"]["Transaction"]["TimeSeries"]:
        for one in series["Observations"]:
            start = datetime.fromisoformat(one["PeriodStartTime"])
            yield series["MeteringPointEAN"], start, int(Decimal(one["Quantity"]) * _MWH)


def _read_nem12(path: str) -> Iterator[tuple[str, datetime, int]]:
    from nemreader import NEMFile  # noqa: PLC0415 - only where it is asked for

    for nmi, streams in NEMFile(path).nem_data().readings.items():
        for readings in streams.values():
            for reading in readings:
                yield nmi, reading.t_start, round(reading.read_value * 1_000_000)


def _sum_avro(path: str) -> Found:
    """Records have a series or a reading each, in integers already."""
    count = total = 0
    with Path(path).open("rb") as file:
        for record in fastavro.reader(file):
            energy = record["energy"]
            count += len(energy) if isinstance(energy, list) else 1
            total += sum(energy) if isinstance(energy, list) else energy
    return count, total


def _sum_parquet(path: str) -> Found:
    energy = pq.read_table(path)["energy"]
    if pa.types.is_list(energy.type):
        energy = pc.list_flatten(energy)
    return len(energy), pc.sum(energy).as_py()


#: The obvious way, by its name.
WAYS: dict[str, Callable[[str], Found]] = {
    "csv": lambda path: _add(_read_csv(path)),
    "csv mapped": lambda path: _add(_read_mapped(path)),
    "lxml iterparse": lambda path: _add(_read_xml(path)),
    "json": lambda path: _add(_read_json(path)),
    "nemreader": lambda path: _add(_read_nem12(path)),
    "fastavro": _sum_avro,
    "pyarrow": _sum_parquet,
}

if __name__ == "__main__":
    main()
