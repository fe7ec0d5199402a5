"""The settings of a lake, which are fixed when it is made: the file by which a lake is known."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipeline.errors import MeterveilError
from pipeline.files import replace_file
from pipeline.stores import ObjectPath

#: 1: as it was first. 2: a lake has the files of ``MEMORY`` from the beginning, so that one that is gone is missed;
#: programs of format 1 don't know them, and would bring back what they keep out.
FORMAT_VERSION = 2
BUCKET_FUNCTION = "iceberg-murmur3"
SETTINGS = "meterveil.json"
#: Labels have five digits for a bucket.
_MOST_BUCKETS = 1 << 16


@dataclass(frozen=True, slots=True)
class LakeSettings:
    """What is fixed when a lake is made.

    Attributes:
        format_version: layout of the lake.
        time_zone: IANA name of the zone of local dates.
        bucket_count: buckets that metering points are spread over; a power of two.
        bucket_function: how; ``iceberg-murmur3`` is Iceberg's ``bucket[N]`` of the canonical id.
        catalog: server and database that hold the lake's catalogs and locks (``pipeline.records``), for a lake of many
            machines; empty for SQLite files in its folders, for one machine.
    """

    format_version: int
    time_zone: str
    bucket_count: int
    bucket_function: str
    catalog: str = ""

    def __post_init__(self) -> None:
        if self.bucket_function != BUCKET_FUNCTION:
            raise MeterveilError(f"unknown bucket function {self.bucket_function!r}", where=SETTINGS)
        if not 1 <= self.bucket_count <= _MOST_BUCKETS or self.bucket_count & (self.bucket_count - 1):
            raise MeterveilError(
                f"not a power of two up to {_MOST_BUCKETS}", where="bucket count", remedy="choose 1, 2, 4, 8 …"
            )
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise MeterveilError(
                f"unknown time zone {self.time_zone!r}", where="time zone", remedy="use an IANA name, Europe/Helsinki"
            ) from error


def read_settings(file: Path | ObjectPath) -> LakeSettings:
    """Read a lake's settings.

    Raises:
        MeterveilError: they are damaged, or of a newer format.
    """
    try:
        fields = json.loads(file.read_bytes())
        if fields["format_version"] > FORMAT_VERSION:
            raise MeterveilError(
                f"the lake has format {fields['format_version']}, this version reads up to {FORMAT_VERSION}",
                where=str(file),
                remedy="upgrade meterveil",
            )
        return LakeSettings(**fields)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise MeterveilError("the settings can't be read", where=str(file), remedy="restore the file") from error


def write_settings(root: Path | ObjectPath, settings: LakeSettings) -> None:
    """Write a lake's settings, for both zones."""
    fields = {name: value for name, value in asdict(settings).items() if name != "catalog" or value}
    text = json.dumps(fields, indent=2).encode() + b"\n"
    replace_file(root / "analytics" / SETTINGS, text, private=False)
    replace_file(root / SETTINGS, text, private=False)  # last: with this file it is a lake
