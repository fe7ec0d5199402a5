"""Generates a fleet into a folder: its reference, its readings, and the truth about them."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import MeterveilError
from pipeline.fleet.damage import damage_file
from pipeline.fleet.days import LocalDay
from pipeline.fleet.deliveries import Rows, Wave, merge_rows, sort_rows
from pipeline.fleet.faults import Block, Ints, choose_cells, plant_fault
from pipeline.fleet.load import measure_energy
from pipeline.fleet.options import FORMATS, FleetOptions
from pipeline.fleet.reference import Fleet, build_fleet
from pipeline.fleet.register import write_reference
from pipeline.fleet.registers import write_registers
from pipeline.fleet.truth import Truth
from pipeline.fleet.writers import write_readings
from schemas.status import Status

#: Readings in the sound file that damaged files are made from.
_DAMAGED_READINGS = 1000
#: Places that the truth tells for each fault.
_PLACES_TOLD = 10


@dataclass(eq=False)
class _Folder:
    """The folder of readings: names files, writes them, and remembers what was written."""

    path: Path
    fleet: Fleet
    files: list[dict[str, Any]] = field(default_factory=list)
    bad_files: list[dict[str, str]] = field(default_factory=list)

    def write(self, day: LocalDay, wave: Wave, parts: Iterable[Rows]) -> None:
        """Write the rows of a wave, as they come, as the next file; nothing where there are none."""
        parts = filter(len, parts)
        first = next(parts, None)
        if first is None:
            return
        name = self._name_next(wave.register(day))
        count = write_readings(self.path / name, self.fleet, chain([first], parts), wave.register(day))
        self.files.append({"name": name, "registered_at": _stamp(wave.register(day)), "readings": count})

    def write_damaged(self, fault: str, day: LocalDay, rows: Rows) -> None:
        """Write a file that must be refused; what it would have held is delivered by no other."""
        name = self._name_next(Wave.CORRECTION.register(day))
        path = self.path / name
        write_readings(path, self.fleet, [rows], Wave.CORRECTION.register(day))
        path.write_bytes(damage_file(fault, path.read_bytes(), path.suffix[1:]))
        self.bad_files.append({"name": name, "fault": fault})

    def _name_next(self, registered_at: int) -> str:
        number = len(self.files) + len(self.bad_files)
        return f"readings-{_stamp(registered_at)}-{number:04d}.{FORMATS[self.fleet.options.format]}"


@dataclass(eq=False)
class _Delivery:
    """What is delivered of one local day; the truth counts it on the way.

    Attributes:
        fleet: the fleet.
        day: the local day.
        cells: of each fault, the points of this day that it is planted on, ascending.
        truth: what counts.
        later: what comes after the first wave, of the blocks that were delivered so far.
    """

    fleet: Fleet
    day: LocalDay
    cells: dict[str, Ints]
    truth: Truth
    later: defaultdict[Wave, list[Rows]] = field(default_factory=lambda: defaultdict(list))

    def deliver_first(self, first: int) -> Iterator[Rows]:
        """Deliver the first wave of the points that share a file, from ``first`` on, block by block."""
        options = self.fleet.options
        end = min(first + options.points_a_file, options.points)
        for start in range(first, end, options.block_points):
            block = self._plan_block(np.arange(start, min(start + options.block_points, end)))
            delivered = _deliver_block(block)
            self.truth.count_deliveries(self.day, delivered)
            yield delivered.pop(Wave.FIRST)
            for wave, rows in delivered.items():
                self.later[wave].append(rows)

    def _plan_block(self, points: Ints) -> Block:
        """Make a block with its faults planted."""
        block = _measure_block(self.fleet, self.day, points)
        for name, chosen in self.cells.items():
            low, high = np.searchsorted(chosen, [points[0], points[-1] + 1])
            if low < high:
                plant_fault(name, self.fleet.options.seed, block, chosen[low:high] - points[0])
        return block


def generate_fleet(options: FleetOptions, out: Path) -> Path:
    """Generate a fleet.

    Writes ``reference/*.parquet``, ``readings/readings-<registered at>-<number>.<suffix>`` in the order in which the
    files come, and ``truth.json``: what a right pipeline must end with after all readable files. Where feeds are asked
    for, ``truth-customers.parquet`` says what every customer must come out as. Memory is bounded by the fleet's points
    and customers (a hundred bytes each), a block of their readings, and what is planted on one day.

    Args:
        options: what to generate.
        out: the folder; it may exist, without readings.

    Returns:
        The path of ``truth.json``.

    Raises:
        MeterveilError: too few points for the faults, or readings in the folder already.
    """
    if (out / "readings").exists() and any((out / "readings").iterdir()):
        raise MeterveilError("holds readings already", where=str(out / "readings"), remedy="choose an empty folder")
    fleet, cells = build_fleet(options), choose_cells(options)
    (out / "readings").mkdir(parents=True, exist_ok=True)
    customers = write_reference(fleet, out / "reference")
    registers = write_registers(customers, out) if options.feeds else {}
    folder, truth = _Folder(out / "readings", fleet), Truth(fleet)
    for index, local_date in enumerate(options.dates):
        day = LocalDay(local_date)
        delivery = _Delivery(fleet, day, _choose_day(cells, index, options.points), truth)
        for first in range(0, options.points, options.points_a_file):
            folder.write(day, Wave.FIRST, delivery.deliver_first(first))
        for wave, parts in sorted(delivery.later.items()):
            folder.write(day, wave, [sort_rows(parts)])
    for fault in options.damaged:
        folder.write_damaged(fault, day, _choose_rows_to_damage(fleet, day))
    path = out / "truth.json"
    told = {
        **_tell_plan(fleet, cells),
        "registers": registers,
        "files": folder.files,
        "bad_files": folder.bad_files,
        **truth.tell(),
    }
    path.write_text(json.dumps(told, indent=1, default=sorted) + "\n")
    return path


def _choose_day(cells: dict[str, Ints], index: int, points: int) -> dict[str, Ints]:
    """Choose the cells of one day; their points."""
    bounds = {name: np.searchsorted(numbers, [index * points, (index + 1) * points]) for name, numbers in cells.items()}
    return {name: cells[name][low:high] - index * points for name, (low, high) in bounds.items()}


def _measure_block(fleet: Fleet, day: LocalDay, points: Ints) -> Block:
    energy = measure_energy(fleet.options.seed, day, points, fleet.archetype[points], fleet.fuse_a[points])
    changed = fleet.quarters_from[points]
    quarters_at = np.select([changed < day.number, changed > day.number], [0, day.hours], fleet.changes_at[points])
    hours, quarter = day.column_hours, np.arange(energy.shape[1]) >= day.hours
    kept = (hours >= quarters_at[:, None]) == quarter
    kept[:, -1] = False
    return Block(day, points, fleet.fuse_a[points], energy, np.full(energy.shape, Status.OK, dtype=np.int8), kept)


def _deliver_block(block: Block) -> dict[Wave, Rows]:
    """List what is delivered of a block, by wave; the first wave is always there."""
    first = merge_rows(block.list_rows(block.kept), block.planted.pop(Wave.FIRST, []), block.day)
    return {Wave.FIRST: first, **{wave: sort_rows(parts) for wave, parts in sorted(block.planted.items())}}


def _choose_rows_to_damage(fleet: Fleet, day: LocalDay) -> Rows:
    block = _measure_block(fleet, day, np.arange(min(fleet.options.points, _DAMAGED_READINGS // day.hours)))
    return block.list_rows(block.kept)


def _tell_plan(fleet: Fleet, cells: dict[str, Ints]) -> dict[str, Any]:
    options = fleet.options
    asked = options.faults | options.file_faults
    points = {
        "check_digit": fleet.wrong_digit | fleet.shortened,
        "no_contract": fleet.known & (fleet.contracts[0].customer < 0),
        "unknown_point": ~fleet.known,
    }
    planted = Counter({name: int(np.count_nonzero(points[name])) for name in points if name in options.faults})
    planted.update({name: len(numbers) for name, numbers in cells.items()})
    return {
        "options": {**asdict(options), "start": options.start.isoformat()},
        "format": options.format,
        "planted": dict(planted),
        "not_carried": sorted(asked - set(options.planted) - set(options.damaged)),
        "places": {name: _tell_places(fleet, numbers[:_PLACES_TOLD]) for name, numbers in cells.items()},
    }


def _tell_places(fleet: Fleet, numbers: Ints) -> list[dict[str, str]]:
    days, points = np.divmod(numbers, fleet.options.points)
    ids = fleet.name_points(points).to_pylist()
    return [
        {"metering_point_id": name, "local_date": fleet.options.dates[day].isoformat()}
        for name, day in zip(ids, days, strict=True)
    ]


def _stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y%m%dT%H%M%SZ")
