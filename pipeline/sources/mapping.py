"""The mapping of a delimited file: its YAML, checked, as an immutable value."""

import json
import re
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from pipeline.checked_yaml import load_document
from pipeline.errors import BadFileError, MeterveilError
from pipeline.sources.base import ReadOptions
from pipeline.sources.fields import parse_resolution, parse_stamp, require_registration
from schemas.series import ACTIVE_ENERGY
from schemas.status import Status


@dataclass(frozen=True, slots=True)
class Register:
    """How registers count.

    Attributes:
        digits: before the decimal sign; after as many nines comes 0.
        most: the most that one interval can have, in the unit of the values.
    """

    digits: int
    most: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """How a delimited file maps to readings.

    Attributes:
        columns: our field to the column's name.
        resolution_s: of every interval, seconds, or None where a column or start and end say it.
        product: of every value, where no column says it.
        register: how registers count, or None where the values are energy.
        unit: of every value, or None where a column says it.
        status: of every value, or None where a column says it.
        status_words: words of the status column.
        stamp: expression that finds the registration time in a file's name, or None.
        time_zone: of times without an offset, or None where all have one.
        delimiter: between fields.
        decimal_sign: of values.
        encoding: of the file.
    """

    columns: MappingType[str, str]
    resolution_s: int | None
    product: str
    register: Register | None
    unit: str | None
    status: Status | None
    status_words: MappingType[str, Status]
    stamp: re.Pattern[str] | None
    time_zone: ZoneInfo | None
    delimiter: str
    decimal_sign: str
    encoding: str

    def find_registration(self, path: str, options: ReadOptions) -> int | None:
        """Find the registration time of a whole file, microseconds UTC; None where a column says it.

        Raises:
            BadFileError: neither a column, nor the file's name, nor the options say it.
        """
        if "registered_at" in self.columns:
            return None
        if self.stamp is None:
            return require_registration(path, options)
        found = self.stamp.search(Path(path).name)
        try:
            return parse_stamp(found.group(1) if found else "")
        except ValueError:
            raise BadFileError(
                "the mapping finds no time stamp in its name",
                where=path,
                remedy="name it as the mapping's registered_at.file_name says, or correct that expression",
            ) from None


def load_mapping(path: str) -> Mapping:
    """Load and check a mapping file.

    Raises:
        MeterveilError: no such file, no YAML, an unknown or missing key, or keys that contradict each other.
    """
    content = load_document(path, _load_schema()).content
    _check_choices(content, path)
    return _build(content, path)


def _check_choices(content: dict[str, Any], path: str) -> None:
    """Check what has to be said exactly once, and never guessed."""
    columns = content["columns"]
    if "product" in columns and "product" in content:
        raise _wrong(path, "name the product once: as a column or for all")
    if "register" in content:
        _check_register(content, path)
    else:
        _check_interval(content, path)
    for name in ("unit", "status"):
        if (name in columns) + (name in content) != 1:
            raise _wrong(path, f"name the {name} once: as a column or for all")
    if ("status" in columns) != ("status_words" in content):
        raise _wrong(path, "a status column and status_words belong together")
    if "registered_at" in columns and "registered_at" in content:
        raise _wrong(path, "name registered_at once: as a column or in the file's name")
    if content.get("delimiter", ",") == content.get("decimal_sign", "."):
        raise _wrong(path, "delimiter and decimal_sign are the same: name both")


def _check_interval(content: dict[str, Any], path: str) -> None:
    columns = content["columns"]
    if "energy" not in columns:
        raise _wrong(path, "columns names no energy")
    if stray := [name for name in ("register", "read_at", "meter") if name in columns]:
        raise _wrong(path, f"columns names {stray[0]}: say in register how it counts")
    bounds = [name for name in ("start", "end") if name in columns]
    if not bounds:
        raise _wrong(path, "columns names neither start nor end: say which of them the time of a row is")
    lengths = ("resolution" in columns) + ("resolution" in content)
    if len(bounds) == 2 and lengths:
        raise _wrong(path, "start and end give the resolution already: leave out resolution, or one of them")
    if len(bounds) == 1 and lengths != 1:
        raise _wrong(path, "with start or end alone, name the resolution once: as a column or for all")


def _check_register(content: dict[str, Any], path: str) -> None:
    columns = content["columns"]
    if missing := [name for name in ("register", "read_at") if name not in columns]:
        raise _wrong(path, f"columns names no {missing[0]}, which register needs")
    if stray := [name for name in ("energy", "start", "end", "resolution", "unit") if name in columns]:
        raise _wrong(path, f"columns names {stray[0]}: with register, energy and its interval follow from reads")
    if "resolution" not in content:
        raise _wrong(path, "name the resolution: how far apart reads are")
    if content["register"]["most"] >= 10 ** content["register"]["digits"]:
        raise _wrong(path, "register.most is more than a register of so many digits can show")


def _build(content: dict[str, Any], path: str) -> Mapping:
    resolution_s = None
    if "resolution" in content:
        resolution_s = parse_resolution(pa.array([content["resolution"]]))[0].as_py()
        if resolution_s is None:
            raise _wrong(path, "resolution is no ISO 8601 duration such as PT15M, PT1H or P1D")
    stamp = time_zone = None
    if "registered_at" in content:
        try:
            stamp = re.compile(content["registered_at"]["file_name"])
        except re.error:
            raise _wrong(path, "registered_at.file_name is no regular expression") from None
        if stamp.groups != 1:
            raise _wrong(path, "registered_at.file_name must have one group, around the time stamp")
    if "time_zone" in content:
        try:
            time_zone = ZoneInfo(content["time_zone"])
        except (OSError, ValueError, KeyError):
            raise _wrong(path, "time_zone is no zone such as Europe/Helsinki") from None
    return Mapping(
        columns=content["columns"],
        resolution_s=resolution_s,
        product=content.get("product", ACTIVE_ENERGY),
        register=Register(**content["register"]) if "register" in content else None,
        unit=content.get("unit"),
        status=Status[content["status"]] if "status" in content else None,
        status_words={word: Status[status] for word, status in content.get("status_words", {}).items()},
        stamp=stamp,
        time_zone=time_zone,
        delimiter=content.get("delimiter", ","),
        decimal_sign=content.get("decimal_sign", "."),
        encoding=content.get("encoding", "utf-8"),
    )


@cache
def _load_schema() -> MappingType[str, Any]:
    schema: dict[str, Any] = json.loads(files("schemas").joinpath("mapping.schema.json").read_text("utf-8"))
    return schema


def _wrong(path: str, problem: str) -> MeterveilError:
    return MeterveilError(problem, where=path, remedy="see schemas/mapping.schema.json")
