"""What can be asked of a generated fleet."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType

from pipeline.errors import MeterveilError
from schemas.registers import REGISTERS

#: Formats that readings can be written in, with the file suffix of each.
FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "avro-series": "avro",
        "avro-readings": "avro",
        "parquet-series": "parquet",
        "parquet": "parquet",
        "datahub-csv": "csv",
        "datahub-xml": "xml",
        "datahub-json": "json",
    }
)

#: Faults of the reference or of an id: they hold for a metering point on every day.
POINT_FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "check_digit": "a GSRN with a wrong check digit, or an id that is no GSRN",
        "no_contract": "a metering point that no contract ever covered",
        "unknown_point": "a metering point that the reference doesn't know",
    }
)

#: Faults of one metering point on one local day.
CELL_FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "gap_head": "the first hours of the day never come",
        "gap_tail": "the last hours of the day never come",
        "gap_inside": "some hours of the day never come",
        "day_absent": "nothing of the day comes",
        "late": "some hours come days later than the rest",
        "redelivery": "the same values again, registered days later",
        "duplicate_same_file": "the same readings twice in one file",
        "duplicate_other_file": "the same readings again in another file with the same registration",
        "late_older": "an older registration with other values, in a file that comes after the newer",
        "correction": "other values, marked as revised, registered days later",
        "conflict": "other values with the same registration, in the same or another file",
        "two_resolutions": "hours delivered at two resolutions, registered before, with or after each other",
        "daily_value": "a value of the whole day beside its intervals, registered before, with or after them",
        "missing": "no value, marked as missing",
        "estimated": "values marked as estimated",
        "negative": "energy below zero",
        "above_fuse": "more than the main fuse carries",
        "flat": "one value repeated for many hours",
        "spike": "one value far above the others",
        "stale_then_double": "zeros, then one value that makes up for them",
        "bad_energy": "an energy that is no number or out of range",
        "unknown_status": "a status that is not on the scale of the format",
        "off_grid": "a start beside the grid of its resolution",
        "future": "a start after the registration",
        "mangled_identifier": "an id that is empty or in exponent form",
        "junk_row": "a row that can't be read at all",
    }
)

#: Every fault of single points or rows, with what it plants.
ROW_FAULTS: Mapping[str, str] = MappingProxyType({**POINT_FAULTS, **CELL_FAULTS})

#: Faults of a whole file; each adds one file that must be refused.
FILE_FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "truncated": "a file that ends too early",
        "wrong_sync": "an Avro file with a wrong sync marker",
        "empty": "a file of 0 bytes",
        "wrong_schema": "a file of the format with other columns",
        "not_readings": "a file of another kind under a name of readings",
    }
)

#: What a format has no way to express; it is left out, and the truth says so.
NOT_CARRIED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "avro-series": frozenset(),
        "avro-readings": frozenset({"junk_row"}),
        "parquet-series": frozenset({"wrong_sync"}),
        "parquet": frozenset({"junk_row", "wrong_sync"}),
        "datahub-csv": frozenset({"truncated", "wrong_sync"}),
        "datahub-xml": frozenset({"wrong_sync"}),
        "datahub-json": frozenset({"wrong_sync"}),
    }
)


#: Points that a file of a format has at most, since its readers take it whole.
_MOST_FILE_POINTS: Mapping[str, int] = MappingProxyType({"datahub-json": 16_384})
#: Share of the points that still deliver hours, where nothing else is asked for.
HOURLY_SHARE = 0.28


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """What to generate. The same options give the same fleet, whatever ``file_points`` and ``block_points`` are.

    Attributes:
        points: metering points.
        days: local days, from ``start`` on.
        start: first local date (Europe/Helsinki).
        seed: seed of everything that is drawn.
        hourly_share: share of the points that still deliver hours. The rest deliver quarter-hours only; of those that
            do, 5 of 14 change to quarter-hours within the days.
        format: one of ``FORMATS``.
        faults: names of ``ROW_FAULTS`` to plant.
        file_faults: names of ``FILE_FAULTS`` to plant.
        feeds: names of ``schemas.registers.REGISTERS`` to make as well.
        file_points: metering points that share a file of a day.
        block_points: metering points that are worked on at a time: few enough that the processor's cache holds them.

    Raises:
        MeterveilError: a value that can't be generated.
    """

    points: int = 1000
    days: int = 2
    start: date = date(2026, 3, 28)
    seed: int = 7
    hourly_share: float = HOURLY_SHARE
    format: str = "avro-series"
    faults: frozenset[str] = frozenset(ROW_FAULTS)
    file_faults: frozenset[str] = frozenset()
    feeds: frozenset[str] = frozenset()
    file_points: int = 65_536
    block_points: int = 2048

    def __post_init__(self) -> None:
        for name in ("points", "days", "file_points", "block_points"):
            if getattr(self, name) < 1:
                raise MeterveilError("must be at least 1", where=name, remedy="give a positive number")
        if self.seed < 0:
            raise MeterveilError("must not be negative", where="seed", remedy="give 0 or a positive number")
        if not 0 <= self.hourly_share <= 1:
            raise MeterveilError("must be a share", where="hourly_share", remedy="give a number from 0 to 1")
        _require_known("format", {self.format}, FORMATS)
        _require_known("faults", self.faults, ROW_FAULTS)
        _require_known("file_faults", self.file_faults, FILE_FAULTS)
        _require_known("feeds", self.feeds, REGISTERS)

    @property
    def points_a_file(self) -> int:
        """How many metering points share a file of a day: ``file_points``, or what the format has room for."""
        return min(self.file_points, _MOST_FILE_POINTS.get(self.format, self.file_points))

    @property
    def dates(self) -> tuple[date, ...]:
        """The local dates, in order."""
        return tuple(self.start + timedelta(days=day) for day in range(self.days))

    @property
    def planted(self) -> tuple[str, ...]:
        """The row faults asked for that the format can carry, in the order of ``ROW_FAULTS``."""
        return tuple(name for name in ROW_FAULTS if name in self.faults - NOT_CARRIED[self.format])

    @property
    def damaged(self) -> tuple[str, ...]:
        """The file faults asked for that the format can carry, in the order of ``FILE_FAULTS``."""
        return tuple(name for name in FILE_FAULTS if name in self.file_faults - NOT_CARRIED[self.format])


def _require_known(option: str, asked: frozenset[str] | set[str], known: Mapping[str, object]) -> None:
    if unknown := sorted(asked - set(known)):
        raise MeterveilError(f"unknown: {', '.join(unknown)}", where=option, remedy=f"choose from {', '.join(known)}")
