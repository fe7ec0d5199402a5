"""Small histories: deliveries, references and releases by hand, and an oracle of what a lake holds after them.

The oracle is written from the rules that ARCHITECTURE.md gives, reading by reading, and shares no code with the core but
the function that spreads points over buckets, which has its own tests.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from whole_job import query

from schemas.reference import CONTRACTS_SCHEMA, CUSTOMERS_SCHEMA, SITES_SCHEMA
from transforms.buckets import bucket_of

HELSINKI = ZoneInfo("Europe/Helsinki")
BUCKETS = 2
POINTS = ("643006966022791278", "643003825107340356", "643003825107340363")
BUCKET = dict(zip(POINTS, bucket_of(pa.array(POINTS), BUCKETS).tolist(), strict=True))
#: The second one has 23 hours.
DAY_0 = date(2026, 3, 28)
QUARTER, HOUR, DAY = 900, 3600, 86_400
#: Weak to strong.
STRENGTH = ("MISSING", "PARTIAL", "ESTIMATED", "OK", "REVISED")
#: What is no id, and no word, of anything.
MANGLED, WORD = "6,43007E+17", "GUESSED"
ACTIVE_ENERGY = "8716867000030"
_MOST_ENERGY = 99_999_999_999_999


class Reading(NamedTuple):
    """A reading as it is delivered; energy in milliwatt-hours, None where there is none."""

    point: str
    start: datetime
    resolution: int
    registered: datetime
    status: str
    energy: int | None

    @property
    def day(self) -> date:
        return self.start.astimezone(HELSINKI).date()


@dataclass(frozen=True)
class Contract:
    """Whole days from ``first`` to before ``end``, counted from ``DAY_0``."""

    point: int
    first: int
    end: int | None
    customer: str = "C-1"
    signed: int = 0
    name: str = "K-1"

    def covers(self, day: date) -> bool:
        return day_of(self.first) <= day and (self.end is None or day < day_of(self.end))


@dataclass(frozen=True)
class Reference:
    """Sites by the number of their point, and contracts."""

    sites: dict[int, tuple[str, str]]
    contracts: tuple[Contract, ...]

    def holder(self, point: str, day: date) -> Contract | None:
        covering = [contract for contract in self.contracts if POINTS[contract.point] == point and contract.covers(day)]
        return max(covering, key=lambda contract: (contract.signed, contract.name), default=None)

    def site(self, point: str) -> tuple[str, str]:
        return self.sites.get(POINTS.index(point), (point, "consumption"))


def day_of(number: int) -> date:
    return DAY_0 + timedelta(number)


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), HELSINKI).astimezone(UTC)


def deliver(
    point: int, day: int, resolution: int, hour: int, hours: int, registered: int, status: str, energy: int
) -> list[Reading]:
    """Make a delivery of some hours, or of a whole day."""
    start = midnight(day_of(day))
    if resolution == DAY:
        starts = [start]
    else:
        starts = [start + timedelta(seconds=s) for s in range(hour * HOUR, (hour + hours) * HOUR, resolution)]
    at = registered_in(registered)
    return [
        Reading(POINTS[point], each, resolution, at, status, 0 if status == "MISSING" else energy + position)
        for position, each in enumerate(starts)
    ]


def change_over(point: int, day: int, hour: int, registered: int, energy: int) -> list[Reading]:
    """Make the delivery in which a point goes over from hours to quarter-hours."""
    hours = deliver(point, day, HOUR, hour - 1, 1, registered, "OK", energy)
    return hours + deliver(point, day, QUARTER, hour, 1, registered, "OK", energy)


def registered_in(hour: int) -> datetime:
    return datetime(2026, 6, 1, hour, tzinfo=UTC)


def spoil(readings: Iterable[Reading], faults: Iterable[str]) -> list[Reading]:
    """Deliver readings with faults that a row shows by itself."""
    for fault in faults:
        match fault:
            case "id":
                readings = [reading._replace(point=MANGLED) for reading in readings]
            case "word":
                readings = [reading._replace(status=WORD) for reading in readings]
            case "future":
                readings = [reading._replace(registered=reading.start.replace(year=2020)) for reading in readings]
            case "absent":
                readings = [reading._replace(energy=None) for reading in readings]
            case "huge":
                readings = [reading._replace(energy=_MOST_ENERGY + 1) for reading in readings]
            case "off":
                # A daily value is of the midnight that is at most an hour away.
                by = {DAY: timedelta(hours=2)}
                readings = [
                    reading._replace(start=reading.start + by.get(reading.resolution, timedelta(seconds=7)))
                    for reading in readings
                ]
    return list(readings)


# Writing what runs read.


def write_readings(path: Path, readings: Iterable[Reading]) -> Path:
    rows = list(readings)
    stamp = pa.timestamp("us", "UTC")
    columns = {
        "metering_point_id": pa.array([row.point for row in rows], pa.string()),
        "start": pa.array([row.start for row in rows], stamp),
        "resolution_s": pa.array([row.resolution for row in rows], pa.int32()),
        "registered_at": pa.array([row.registered for row in rows], stamp),
        "energy": pa.array([row.energy for row in rows], pa.int64()),
        "status": pa.array([row.status for row in rows], pa.string()),
    }
    pq.write_table(pa.table(columns), path)
    return path


def write_reference(folder: Path, reference: Reference) -> Path:
    sites = [
        {"metering_point_id": POINTS[point], "site_id": site, "direction": direction}
        for point, (site, direction) in reference.sites.items()
    ]
    contracts = [
        {
            "contract_id": contract.name,
            "metering_point_id": POINTS[contract.point],
            "customer_id": contract.customer,
            "valid_from": day_of(contract.first),
            "valid_to": None if contract.end is None else day_of(contract.end),
            "signed_at": datetime(2026, 1, 1, contract.signed, tzinfo=UTC),
        }
        for contract in reference.contracts
    ]
    customers = [
        {"customer_id": customer, "kind": "person", "information_restriction": False} for customer in ("C-1", "C-2")
    ]
    folder.mkdir()
    for name, rows, schema in (
        ("sites", sites, SITES_SCHEMA),
        ("contracts", contracts, CONTRACTS_SCHEMA),
        ("customers", customers, CUSTOMERS_SCHEMA),
    ):
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{name}.parquet")
    return folder


# The oracle.


def find_fault(reading: Reading) -> str:
    """Name the first fault that a reading shows by itself; empty where it has none."""
    since_midnight = reading.start - midnight(reading.day)
    faults = {
        "mangled_identifier": reading.point not in POINTS,
        "bad_energy": reading.status != "MISSING" and (reading.energy is None or reading.energy > _MOST_ENERGY),
        "unknown_status": reading.status not in STRENGTH,
        "off_grid": since_midnight % timedelta(seconds=reading.resolution) != timedelta(0),
        "future": reading.start > reading.registered,
    }
    return next((fault for fault, there in faults.items() if there), "")


@dataclass(frozen=True)
class Mend:
    """What a release says of readings in quarantine.

    Attributes:
        reason: why those that are tried were set aside; empty for all.
        point: whose those with a mangled id are; empty for not said.
        word: what the unknown word means; empty for not said.
        said: by field, what is said of each reading that is tried.
    """

    reason: str = ""
    point: str = ""
    word: str = ""
    said: Mapping[str, object] = field(default_factory=dict)

    def apply(self, reading: Reading) -> Reading:
        if self.point and reading.point == MANGLED:
            reading = reading._replace(point=self.point)
        if self.word and reading.status == WORD:
            reading = reading._replace(status=self.word)
        return reading._replace(**self.said)


@dataclass
class Told:
    """What a lake was told so far, and what must have become of it.

    Attributes:
        taken: readings that were taken in, as they were delivered or as a release has them.
        aside: those in quarantine by the digest of their input and their row in it, from 1, with the reason.
        released: where those stand that were released.
        reference: the last one.
    """

    taken: list[Reading] = field(default_factory=list)
    aside: dict[tuple[str, int], tuple[str, Reading]] = field(default_factory=dict)
    released: set[tuple[str, int]] = field(default_factory=set)
    reference: Reference = field(default_factory=lambda: Reference({}, ()))

    def deliver(self, file: Path, readings: Iterable[Reading]) -> None:
        """Take in a file, whether or not it came before."""
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        for row, reading in enumerate(readings, start=1):
            if not (fault := find_fault(reading)):
                self.taken.append(reading)
            elif (digest, row) not in self.released:
                self.aside[digest, row] = fault, reading

    def choose(self, mend: Mend) -> list[tuple[str, int]]:
        """List where those stand that a release tries."""
        return [place for place, (reason, _) in self.aside.items() if mend.reason in {"", reason}]

    def release(self, mend: Mend) -> bool:
        """Let in what passes as it is mended; tell whether any does."""
        before = len(self.taken)
        for place in self.choose(mend):
            mended = mend.apply(self.aside[place][1])
            if not find_fault(mended):
                self.taken.append(mended)
                self.released.add(place)
                del self.aside[place]
        return len(self.taken) > before


def rank(reading: Reading) -> tuple[datetime, int, int]:
    """The latest registration wins; then the stronger status, then the greater energy."""
    return reading.registered, STRENGTH.index(reading.status), reading.energy


def overlap(one: Reading, other: Reading) -> bool:
    """Tell whether two readings of a point are of a common time; a daily value is of its whole local day."""
    if DAY in (one.resolution, other.resolution):
        return one.day == other.day
    ends = [reading.start + timedelta(seconds=reading.resolution) for reading in (one, other)]
    return one.start < ends[1] and other.start < ends[0]


def merge(delivered: Iterable[Reading]) -> list[Reading]:
    """Keep what counts: the winner of each slot, unless another resolution was registered later for its time."""
    every = {reading._replace(energy=0) if reading.status == "MISSING" else reading for reading in delivered}
    slots = defaultdict(list)
    for reading in every:
        slots[reading.point, reading.resolution, reading.start].append(reading)

    def beats(rival: Reading, reading: Reading) -> bool:
        # The later registration; at the same time the finer resolution.
        mine, theirs = (reading.registered, -reading.resolution), (rival.registered, -rival.resolution)
        return (
            rival.point == reading.point
            and rival.resolution != reading.resolution
            and overlap(rival, reading)
            and theirs > mine
        )

    winners = [max(readings, key=rank) for readings in slots.values()]
    return [reading for reading in winners if not any(beats(rival, reading) for rival in every)]


def minutes_of(day: date) -> int:
    return round((midnight(day + timedelta(1)) - midnight(day)).total_seconds()) // 60


def tell_readings(merged: Sequence[Reading], reference: Reference) -> list[tuple]:
    """Say what ``operational.readings`` holds, with the site."""
    rows = []
    for reading in merged:
        holder, (site, direction) = reference.holder(reading.point, reading.day), reference.site(reading.point)
        energy = None if reading.status == "MISSING" else reading.energy
        of_contract = (holder.customer, holder.name) if holder else (None, None)
        what = (reading.resolution, reading.day, reading.start, energy, reading.status)
        rows.append((reading.point, site, direction, *what, reading.registered, *of_contract))
    return rows


def tell_days(merged: Sequence[Reading], reference: Reference) -> list[tuple]:
    """Say what the days are: of points with readings, and of silent ones under contract where the cell has any."""
    rows = []
    cells = {(reading.day, BUCKET[reading.point]) for reading in merged}
    for day, bucket in cells:
        for point in (point for point in POINTS if BUCKET[point] == bucket):
            of_day = [reading for reading in merged if reading.point == point and reading.day == day]
            holder, (site, direction) = reference.holder(point, day), reference.site(point)
            if not of_day and not holder:
                continue
            valued = [reading for reading in of_day if reading.status != "MISSING"]
            expected = minutes_of(day)
            present = sum(expected if reading.resolution == DAY else reading.resolution // 60 for reading in valued)
            statuses = [reading.status for reading in valued] + ["PARTIAL"] * (present < expected)
            status = min(statuses, key=STRENGTH.index) if valued else "MISSING"
            energy = sum(reading.energy for reading in valued) if valued else None
            of_contract = (holder.customer, holder.name) if holder else (None, None)
            rows.append((point, site, direction, day, energy, expected, present, status, *of_contract))
    return rows


def tell_changes(before: Sequence[Reading], after: Sequence[Reading]) -> list[tuple]:
    """Say what a run changed: the days whose energy differs, of cells that were there before it."""

    def sum_days(merged: Sequence[Reading]) -> dict[tuple[str, date], int]:
        days = defaultdict(int)
        for reading in merged:
            if reading.status != "MISSING":
                days[reading.point, reading.day] += reading.energy
        return days

    cells = {(reading.day, BUCKET[reading.point]) for reading in before}
    old, new = sum_days(before), sum_days(after)
    return [
        (point, ACTIVE_ENERGY, day, old.get((point, day)), new.get((point, day)))
        for point, day in old.keys() | new.keys()
        if (day, BUCKET[point]) in cells and old.get((point, day)) != new.get((point, day))
    ]


def by_name(rows: Iterable[tuple], at: int, what: Sequence[int]) -> list[list[tuple]]:
    """Gather rows by a name that they share, and forget the name: pseudonyms must gather them alike."""
    named = sorted((row for row in rows if row[at] is not None), key=lambda row: str(row[at]))
    groups = groupby(named, key=lambda row: str(row[at]))
    return sorted((sorted((tuple(row[i] for i in what) for row in group), key=str) for _, group in groups), key=str)


def assert_as_the_rules_say(lake: Path, told: Told) -> None:
    merged = merge(told.taken)
    readings, days = tell_readings(merged, told.reference), tell_days(merged, told.reference)
    energy = "cast(energy * 1000000 AS bigint)"
    found = query(
        lake,
        "operational.readings",
        f"SELECT metering_point_id, direction, resolution_s, local_date, start, {energy}, status, registered_at,"
        " customer_id, contract_id FROM t",
    )
    assert sorted(found, key=str) == sorted(((row[0], *row[2:]) for row in readings), key=str)
    found = query(
        lake,
        "operational.billing_daily",
        f"SELECT metering_point_id, direction, local_date, {energy}, expected_minutes, present_minutes, status,"
        " customer_id, contract_id FROM t",
    )
    assert sorted(found, key=str) == sorted(((row[0], *row[2:]) for row in days if row[-1]), key=str)
    found = query(
        lake,
        "analytics.readings",
        f"SELECT metering_point, site, direction, resolution_s, local_date, start, {energy}, status, customer FROM t",
    )
    for at, expected_at in ((0, 0), (1, 1), (8, 9)):
        expected = by_name(readings, expected_at, (2, 3, 4, 5, 6, 7))
        assert by_name(found, at, (2, 3, 4, 5, 6, 7)) == expected
    found = query(
        lake,
        "analytics.daily",
        f"SELECT metering_point, site, direction, local_date, {energy}, expected_minutes, present_minutes FROM t",
    )
    for at in (0, 1):
        assert by_name(found, at, (2, 3, 4, 5, 6)) == by_name(days, at, (2, 3, 4, 5, 6))
    # Of readings in a row, the first one's row and the place among them.
    found = query(lake, "operational.quarantine_readings", "SELECT file_digest, row + position, reason FROM t")
    assert sorted(found) == sorted((*place, reason) for place, (reason, _) in told.aside.items())
    found = query(lake, "operational.releases", "SELECT file_digest, row + position FROM t")
    assert sorted(found) == sorted(told.released)


def assert_changes(lake: Path, run_id: str, before: Sequence[Reading], after: Sequence[Reading]) -> None:
    """Check what a run says that it changed."""
    sums = "cast(energy_before * 1000000 AS bigint), cast(energy_after * 1000000 AS bigint)"
    where = f"WHERE run_id = '{run_id}'"
    found = query(lake, "operational.changes", f"SELECT metering_point_id, product, local_date, {sums} FROM t {where}")
    assert sorted(found, key=str) == sorted(tell_changes(before, after), key=str)
