"""Targets whose files are lines, one reading each: the portal's export, and mapped CSV with registers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from fuzz_contract import (
    FOLDER,
    OPTIONS,
    POINT,
    REGISTERED,
    Outcome,
    Reading,
    read_bounded,
)
from fuzz_oracles import (
    canonical,
    check_lines,
    list_lines,
    microseconds,
    milliwatt_hours,
    name_product,
    seconds,
)

from pipeline.sources.delimited import parse_header
from schemas.status import Status

_PORTAL = {
    "mittauspisteen tunnus": "point",
    "meteringpointgsrn": "point",
    "tuotteen tyyppi": "product",
    "product type": "product",
    "resoluutio": "resolution",
    "resolution": "resolution",
    "yksikkötyyppi": "unit",
    "unit type": "unit",
    "alkuaika": "start",
    "start time": "start",
    "määrä": "energy",
    "quantity": "energy",
    "laatu": "status",
    "quality": "status",
}
_PORTAL_WORDS = {word: Status[word] for word in ("MISSING", "UNCERTAIN", "ESTIMATED", "OK", "REVISED")}
#: The forms that nearly every reading of a feed has.
_USUAL = {
    "point": r"[0-9]{18}",
    "product": r"[0-9]{1,13}",
    "resolution": r"PT15M|PT1H",
    "unit": r"Wh|kWh|MWh",
    "start": r"20[0-3][0-9]-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T[01][0-9]:[0-5][0-9]:[0-5][0-9]Z",
    "energy": r"-?[0-9]{1,5}(,[0-9]{1,6})?",
    "status": "OK|ESTIMATED|REVISED",
}


def run_datahub_csv(content: bytes) -> None:
    outcome = read_bounded(
        content, replace(OPTIONS, format="datahub-csv"), rows_are_readings=True, split_bytes=len(content) // 3 + 1
    )
    if outcome is None:
        return
    header = next(
        found
        for encoding in ("utf-8", "latin-1")
        if (found := parse_header(content, ";", encoding)) and _is_portal(found.names)
    )
    fields_of = [_PORTAL.get(name.lower()) for name in header.names]

    def name_fields(fields: Sequence[str]) -> dict[str, str]:
        return {name: field for name, field in zip(fields_of, fields, strict=True) if name}

    def justify(fields: Sequence[str], reading: Reading) -> bool:
        said = name_fields(fields)
        status = _PORTAL_WORDS.get(said["status"].strip())
        energy = milliwatt_hours(_plain_number(said["energy"], ","), said["unit"].strip())
        blank = said["point"].strip() in ("", "0")
        return reading[1:] == (
            microseconds(said["start"].strip()),
            POINT if blank else canonical(said["point"]),
            name_product(said["product"]),
            seconds(said["resolution"].strip()),
            microseconds(REGISTERED),
            0 if status == Status.MISSING else energy,
            status,
        )

    def is_usual(fields: Sequence[str]) -> bool:
        return bool(fields) and all(re.fullmatch(_USUAL[name], text) for name, text in name_fields(fields).items())

    check_lines(
        outcome, list_lines(content, header.encoding, ";", len(header.names), must_end=False), justify, is_usual
    )


def _is_portal(names: Sequence[str]) -> bool:
    return {_PORTAL.get(name.lower()) for name in names} >= set(_PORTAL.values())


def _plain_number(text: str, sign: str) -> str:
    text = text.strip()
    return text if sign == "." else "?" if "." in text else text.replace(sign, ".")


_HELSINKI = ZoneInfo("Europe/Helsinki")
#: Mappings, chosen by an input's first byte: what they are called here, and what stands in them.
_STATUS_WORDS = {"A": "OK", "E": "ESTIMATED", "N": "MISSING"}
MAPPINGS: Sequence[Mapping[str, Any]] = (
    {
        "columns": {"metering_point_id": "id", "start": "from", "end": "to", "energy": "kwh"},
        "unit": "kWh",
        "status": "OK",
    },
    {
        "columns": {
            "metering_point_id": "id",
            "product": "product",
            "start": "time",
            "resolution": "step",
            "energy": "value",
            "unit": "unit",
            "status": "quality",
            "registered_at": "registered",
        },
        "status_words": _STATUS_WORDS,
        "time_zone": "Europe/Helsinki",
        "delimiter": ";",
        "decimal_sign": ",",
        "encoding": "windows-1252",
    },
    {
        "columns": {"metering_point_id": "id", "end": "time", "energy": "value", "status": "quality"},
        "resolution": "P1D",
        "unit": "MWh",
        "status_words": _STATUS_WORDS,
        "time_zone": "Europe/Helsinki",
        "delimiter": "\t",
    },
    {
        "columns": {"metering_point_id": "place", "read_at": "time", "register": "kwh", "meter": "meter"},
        "product": "district_heat",
        "resolution": "PT1H",
        "unit": "kWh",
        "status": "OK",
        "time_zone": "Europe/Helsinki",
        "delimiter": ";",
        "decimal_sign": ",",
        "register": {"digits": 6, "most": 500},
    },
    {
        "columns": {"metering_point_id": "place", "read_at": "time", "register": "mwh", "status": "quality"},
        "resolution": "PT1H",
        "unit": "MWh",
        "status_words": _STATUS_WORDS,
        "register": {"digits": 8, "most": 99_999_999},
    },
)


def run_mapped_csv(data: bytes) -> None:
    number, content = (data[0] % len(MAPPINGS) if data else 0), data[1:]
    mapping = MAPPINGS[number]
    path = FOLDER / f"mapping-{number}.yaml"
    if not path.exists():
        path.write_text(yaml.safe_dump(mapping), "utf-8")
    parts = {} if {"time_zone", "register"} & mapping.keys() else {"split_bytes": len(content) // 3 + 1}
    options = replace(OPTIONS, format="mapped-csv", mapping=str(path))
    outcome = read_bounded(content, options, rows_are_readings=True, **parts)
    if outcome is None:
        return
    delimiter, encoding = mapping.get("delimiter", ","), mapping.get("encoding", "utf-8")
    header = parse_header(content, delimiter, encoding)
    assert header is not None
    places = {field: header.names.index(name) for field, name in mapping["columns"].items()}
    lines = list_lines(content, encoding, delimiter, len(header.names), must_end=True)

    def name_fields(fields: Sequence[str]) -> dict[str, str]:
        return {field: fields[place].strip() for field, place in places.items()}

    if "register" in mapping:
        by_row = {line.row: name_fields(line.fields) for line in lines if line.fields and line.clean}
        _check_registers(outcome, by_row, mapping)
        return

    def justify(fields: Sequence[str], reading: Reading) -> bool:
        return _justify_mapped(name_fields(fields), reading, mapping)

    def is_usual(fields: Sequence[str]) -> bool:
        if not fields or "time_zone" in mapping:  # a local time may be told by others only
            return False
        said = name_fields(fields)
        start, end = microseconds(said["start"]), microseconds(said["end"])
        return (
            all(re.fullmatch(_USUAL["start"], said[name]) for name in ("start", "end"))
            and re.fullmatch(_USUAL["point"], said["metering_point_id"]) is not None
            and re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,6})?", said["energy"]) is not None
            and None not in (start, end)
            and end - start in (900_000_000, 3_600_000_000)  # type: ignore[operator]
        )

    check_lines(outcome, lines, justify, is_usual)


def _justify_mapped(said: Mapping[str, str], reading: Reading, mapping: Mapping[str, Any]) -> bool:
    status = Status[mapping["status"] if "status" in mapping else mapping["status_words"][said["status"]]]
    unit = mapping["unit"] if "unit" in mapping else said["unit"]
    energy = milliwatt_hours(_plain_number(said["energy"], mapping.get("decimal_sign", ".")), unit)
    step = (
        seconds(mapping["resolution"] if "resolution" in mapping else said.get("resolution", ""))
        or reading.resolution_s
    )
    registered = set(_instants(said["registered_at"])) if "registered_at" in said else {microseconds(REGISTERED)}
    length = reading.resolution_s * 1_000_000
    starts = set(_instants(said["start"])) if "start" in said else set()
    ends = set(_instants(said["end"])) if "end" in said else set()
    daily = reading.resolution_s == 86_400
    slack = {-3_600_000_000, 0, 3_600_000_000} if daily else {0}
    return (
        reading.point == canonical(said["metering_point_id"])
        and reading.product == name_product(said.get("product", mapping.get("product", "")))
        and reading.status == status
        and reading.energy == (0 if status == Status.MISSING else energy)
        and reading.resolution_s == step
        and reading.registered_at in registered
        and (not starts or reading.start in starts)
        and (not ends or any(reading.start + length + other in ends for other in slack))
        and bool(starts or ends)
    )


def _instants(text: str) -> Iterator[int]:
    """Give what a time may be: with its offset, or on the clock of Helsinki, twice where that shows it twice."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return
    for fold in (0, 1):
        there = moment if moment.tzinfo else moment.replace(tzinfo=_HELSINKI, fold=fold)
        since = there.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        yield (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _check_registers(outcome: Outcome, by_row: Mapping[int, Mapping[str, str]], mapping: Mapping[str, Any]) -> None:
    """See that each reading is the difference of its read and one that stands where it begins."""
    rows = [reading.row for reading in outcome.readings] + [rejected["row"] for rejected in outcome.rejected]
    assert len(rows) == len(set(rows))
    unit = mapping["unit"]
    modulus = 10 ** (mapping["register"]["digits"] + 6 + 3 * (unit == "MWh"))
    for reading in outcome.readings:
        said = by_row[reading.row]
        point = canonical(said["metering_point_id"])
        assert reading.point == point
        assert reading.start + reading.resolution_s * 1_000_000 in set(_instants(said["read_at"]))
        before = [
            other
            for other in by_row.values()
            if canonical(other["metering_point_id"]) == point and reading.start in set(_instants(other["read_at"]))
        ]
        possible = {
            (_show(said, mapping) - _show(other, mapping)) % modulus for other in before if _show(other, mapping) >= 0
        }
        assert reading.energy in possible
        assert reading.energy <= mapping["register"]["most"] * 10 ** (6 + 3 * (unit == "MWh"))


def _show(said: Mapping[str, str], mapping: Mapping[str, Any]) -> int:
    """Give what a register shows in milliwatt-hours; -1 where it shows no number."""
    factor = 1_000 if mapping["unit"] == "MWh" else 1
    shown = milliwatt_hours(_plain_number(said["register"], mapping.get("decimal_sign", ".")), "kWh")
    return -1 if shown is None or shown < 0 else shown * factor
