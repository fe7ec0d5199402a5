"""What every reader promises of any bytes: readings, quarantine, or a refusal in one line. Whatever else is a finding.

Each check raises ``AssertionError``, which the fuzzer takes for a crash; so is every exception that is not ours.
"""

import os
import re
import resource
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import pyarrow as pa

from pipeline.errors import BadFileError, MeterveilError
from pipeline.reading import read_part
from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.registry import load_source, plan_file, read_split
from schemas.series import MAX_ENERGY, REJECTED_SCHEMA, SERIES_SCHEMA
from transforms.calendar import local_calendar

#: Of one input of some kilobytes: a hundred times what any should need, also on a machine that has other things to do.
MOST_CPU_S = 10.0
MOST_GROWTH_KB = 768 << 10
CALENDAR = local_calendar("Europe/Helsinki")
_BUCKETS = 4
POINT = "643006966022791278"
REGISTERED = "2027-01-01T00:00:00Z"
OPTIONS = ReadOptions(registered_at=REGISTERED, metering_point=POINT)
_FOLDER = TemporaryDirectory(prefix="meterveil-fuzz-")
FOLDER = Path(_FOLDER.name)
#: What looks like a value: a word of some length with a digit in it.
_VALUE = re.compile(r"(?=[A-Za-z+.,:-]*[0-9])[0-9A-Za-z+.,:-]{6,}")


class Reading(NamedTuple):
    """A reading as it came out; times in microseconds UTC, energy in milliwatt-hours."""

    row: int
    start: int
    point: str
    product: str
    resolution_s: int
    registered_at: int
    energy: int
    status: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reader made of a file that it did not refuse."""

    readings: list[Reading]
    rejected: list[dict[str, Any]]

    @property
    def count(self) -> int:
        return len(self.readings) + len(self.rejected)


@contextmanager
def bounded() -> Iterator[None]:
    """Hold what is done to bounds of time and memory, and to silence."""
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    caught, kept = os.memfd_create("stderr"), os.dup(2)
    os.dup2(caught, 2)
    try:
        yield
        said = os.fstat(caught).st_size
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(caught)
    assert said == 0, "something was written to stderr"
    spent = time.process_time() - started
    assert spent < MOST_CPU_S, f"{spent:.1f} s"
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert grown_kb < MOST_GROWTH_KB, f"{grown_kb} KiB more"


def write_input(content: bytes, name: str = "input") -> str:
    """Write a file that is to be read; one of the same name is replaced."""
    path = FOLDER / name
    path.write_bytes(content)
    return str(path)


def read_bounded(content: bytes, options: ReadOptions, *, rows_are_readings: bool, **parts: int) -> Outcome | None:
    """Read content and hold the reader to its contract.

    Args:
        content: of the file.
        options: with the format's name.
        rows_are_readings: each row of the file is one reading, so that reading n of a series stands n rows further on.
        parts: name and size by which ``splits`` cuts the file small; what is read then must be the same.

    Returns:
        What was read, or None if the file was refused.
    """
    path = write_input(content)
    try:
        with bounded():
            splits = plan_file(path, options)
            delivered = [list(read_split(split, options)) for split in splits]
            for split, deliveries in zip(splits, delivered, strict=True):
                _check_conservation(split, options, deliveries)
    except MeterveilError as error:
        check_refusal(error, path, content)
        return None
    found = _collect(chain.from_iterable(delivered), rows_are_readings=rows_are_readings)
    # Every fourth input is enough to find what parts do to each other, and spares time for other inputs.
    if parts and zlib.crc32(content) % 4 == 0:
        assert options.format is not None
        source = load_source(options.format)
        cut = source.splits(path, "", options, **parts)  # type: ignore[call-arg]
        again = _collect(
            (delivery for split in cut for delivery in source.read(split, options)),
            rows_are_readings=rows_are_readings,
        )
        assert again == found, "parts are not the whole"
    return found


def check_refusal(error: MeterveilError, path: str, content: bytes, kind: type[MeterveilError] = BadFileError) -> None:
    """See that a refusal is a line that names the file and holds no value of it."""
    check_line(error)
    assert isinstance(error, kind), "the file is to blame, not the options"
    assert path in error.where
    said = f"{error.problem} {error.where.replace(path, '')}"
    text = content.decode("latin-1")
    assert not [word for word in _VALUE.findall(said) if word in text], said


def check_line(error: MeterveilError) -> None:
    """See that an error is one line, of a length that a person reads, with a problem and a place."""
    text = str(error)
    assert "\n" not in text, repr(text)  # whoever shows it replaces what else can't be shown
    assert len(text) < 1_000, text
    assert error.problem


def _collect(deliveries: Iterable[Delivery], *, rows_are_readings: bool) -> Outcome:
    readings: list[Reading] = []
    rejected: list[dict[str, Any]] = []
    for delivery in deliveries:
        assert delivery.series.schema.equals(SERIES_SCHEMA)
        assert delivery.rejected.schema.equals(REJECTED_SCHEMA)
        delivery.series.validate(full=True)
        delivery.rejected.validate(full=True)
        readings += _explode(delivery.series, rows_are_readings=rows_are_readings)
        rejected += delivery.rejected.to_pylist()
    for reading in readings:
        assert abs(reading.energy) <= MAX_ENERGY
        assert reading.status or not reading.energy
        assert reading.point == reading.point.strip() != ""
    return Outcome(sorted(readings), sorted(rejected, key=lambda row: (row["row"], row["position"])))


def _explode(batch: pa.RecordBatch, *, rows_are_readings: bool) -> Iterator[Reading]:
    columns = {name: batch.column(name) for name in batch.schema.names}
    for name in ("start", "registered_at"):
        columns[name] = columns[name].cast(pa.int64())
    for series in pa.RecordBatch.from_pydict(columns).to_pylist():
        assert len(series["energy"]) == len(series["status"]) > 0
        for slot, (energy, status) in enumerate(zip(series["energy"], series["status"], strict=True)):
            yield Reading(
                series["row"] + (series["position"] + slot) * rows_are_readings,
                series["start"] + slot * series["resolution_s"] * 1_000_000,
                series["metering_point_id"],
                series["product"],
                series["resolution_s"],
                series["registered_at"],
                energy,
                status,
            )


def _check_conservation(split: Split, options: ReadOptions, deliveries: list[Delivery]) -> None:
    """See that all that is delivered of a part ends in a cell or in quarantine, in number and in energy."""
    with patch("pipeline.reading.read_split", lambda *_: deliveries):
        part = read_part(split, options, CALENDAR, _BUCKETS)
    frames = [frame for _, frame in part.frames]
    count = sum(len(frame.column("energy").flatten()) for frame in frames)
    energy = sum(sum(frame.column("energy").flatten().to_pylist()) for frame in frames)
    aside = sum(batch.num_rows for batch in part.rejected)
    aside_energy = sum(sum(batch.column("decoded_energy").to_pylist()) for batch in part.rejected)
    assert (count + aside, energy + aside_energy) == (part.totals.count("delivered"), part.totals.energy("delivered"))
    places = [(row["row"], row["position"]) for batch in part.rejected for row in batch.to_pylist()]
    assert len(places) == len(set(places)), "two readings are set aside as one"
    kinds = part.totals.by_kind("quarantined")
    assert aside == sum(part.totals.count(f"quarantined:{reason}") for reason in kinds)
