"""Names of data files: what a file holds, whose run it is of, and something random."""

import secrets
from datetime import date, timedelta
from pathlib import PurePath

from pipeline.errors import MeterveilError

_EPOCH = date(1970, 1, 1)
_PARTITION = "local_date="
_RANDOM_BYTES = 8
_LONGEST_MONTH = 31


def name_data_file(label: str, mark: str = "") -> str:
    """Make a new, unique name for a label's file, relative to the table's ``data`` folder.

    ``20541/00007`` gives ``local_date=2026-03-29/00007-<mark><random>.parquet``, ``00007`` the same without a folder.
    The mark, without dashes, is common to the files of a run.
    """
    day, _, stem = label.rpartition("/")
    folder = f"{_PARTITION}{_EPOCH + timedelta(days=int(day))}/" if day else ""
    return f"{folder}{stem}-{mark}{secrets.token_hex(_RANDOM_BYTES)}.parquet"


def parse_label(path: str) -> tuple[str, int | None]:
    """Read label and local date (days since 1970-01-01, None where there is none) back from a data file's path.

    Raises:
        MeterveilError: the name was not made by ``name_data_file``.
    """
    pure = PurePath(path)
    stem, dash, _ = pure.stem.rpartition("-")
    if not dash or pure.suffix != ".parquet":
        raise MeterveilError("not a data file of meterveil", where=path, remedy="keep other writers out of the lake")
    if not pure.parent.name.startswith(_PARTITION):
        return stem, None
    day = (date.fromisoformat(pure.parent.name.removeprefix(_PARTITION)) - _EPOCH).days
    return f"{day}/{stem}", day


def bucket_in(label: str) -> int:
    """Read the bucket back from the label of a cell or of an entity's bucket."""
    return int(label.rpartition("/")[2])


def mark_in(path: str) -> str:
    """Read the mark back from a data file's path."""
    return PurePath(path).stem.rpartition("-")[2][: -2 * _RANDOM_BYTES]


def label_of_day(day: int) -> str:
    """Name a published day in labels of data files that are no cell's: ``2026-03-29``."""
    return str(_EPOCH + timedelta(days=day))


def label_of_month(first_day: int, bucket: int) -> str:
    """Name a bucket of a published month in labels of data files: ``2026-03-00007``."""
    return f"{_EPOCH + timedelta(days=first_day):%Y-%m}-{bucket:05d}"


def month_in(label: str) -> int:
    """Read the first day of the month back from the label of a published day or month."""
    return (date.fromisoformat(f"{label[:7]}-01") - _EPOCH).days


def bucket_in_month(label: str) -> int:
    """Read the bucket back from the label of a published month."""
    return int(label.rpartition("-")[2])


def last_day_in(label: str) -> int:
    """Read the last day back from the label of a published day or month."""
    if len(label) == len("2026-03-29"):
        return (date.fromisoformat(label) - _EPOCH).days
    return first_day_in(month_in(label) + _LONGEST_MONTH) - 1


def first_day_in(day: int) -> int:
    """Find the first day of the month of a day."""
    return ((_EPOCH + timedelta(days=day)).replace(day=1) - _EPOCH).days
