"""Small histories: deliveries and references by hand, and an oracle of what a lake holds after them.

The oracle is written from the rules that ARCHITECTURE.md gives, reading by reading, and shares no code with the core but
the function that spreads points over buckets, which has its own tests.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


class Reading(NamedTuple):
    """A reading as it is delivered; energy in milliwatt-hours."""

    point: str
    start: datetime
    resolution: int
    registered: datetime
    status: str
    energy: int

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
    at = datetime(2026, 6, 1, registered, tzinfo=UTC)
    return [
        Reading(POINTS[point], each, resolution, at, status, 0 if status == "MISSING" else energy + position)
        for position, each in enumerate(starts)
    ]


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
    every = set(delivered)
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


def by_name(rows: Iterable[tuple], at: int, what: Sequence[int]) -> list[list[tuple]]:
    """Gather rows by a name that they share, and forget the name: pseudonyms must gather them alike."""
    named = sorted((row for row in rows if row[at] is not None), key=lambda row: str(row[at]))
    groups = groupby(named, key=lambda row: str(row[at]))
    return sorted((sorted((tuple(row[i] for i in what) for row in group), key=str) for _, group in groups), key=str)


def assert_as_the_rules_say(lake: Path, delivered: Iterable[Reading], reference: Reference) -> None:
    merged = merge(delivered)
    readings, days = tell_readings(merged, reference), tell_days(merged, reference)
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
