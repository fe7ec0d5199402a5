"""Targets whose files have more structure than lines: NEM12 and NEM13, E66 XML, JSON, Avro and Parquet."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
from fuzz_contract import (
    OPTIONS,
    REGISTERED,
    Outcome,
    read_bounded,
)
from fuzz_oracles import (
    canonical,
    list_days,
    list_observations,
    list_reads,
    list_records,
    microseconds,
    milliwatt_hours,
    name_product,
    seconds,
)

from schemas.series import ACTIVE_ENERGY
from schemas.status import Status

_NEM_UNITS = {"WH": "Wh", "KWH": "kWh", "MWH": "MWh", "VARH": "Wh", "KVARH": "kWh", "MVARH": "MWh"}
_TEN_HOURS = 36_000_000_000


def run_nem12(content: bytes) -> None:
    outcome = read_bounded(
        content, replace(OPTIONS, format="nem12"), rows_are_readings=False, split_bytes=len(content) // 3 + 1
    )
    if outcome is None:
        return
    days, broken = list_days(content)
    by_row = {day.row: day for day in days}
    assert outcome.count == sum(len(day.values) for day in days) + len(broken)
    counts = dict.fromkeys(by_row, 0)
    for row in [reading.row for reading in outcome.readings] + [rejected["row"] for rejected in outcome.rejected]:
        if row in counts:
            counts[row] += 1
        else:
            assert row in broken
    assert counts == {day.row: len(day.values) for day in days}
    for reading in outcome.readings:
        day = by_row[reading.row]
        begin = microseconds(f"{day.date}T000000Z")
        assert begin is not None
        slot = (reading.start - begin + _TEN_HOURS) / reading.resolution_s / 1_000_000
        assert reading.resolution_s == 86_400 // len(day.values)
        assert slot == int(slot)
        unit = _NEM_UNITS[day.stream[7].upper()]
        if reading.status != Status.MISSING:
            assert reading.energy == milliwatt_hours(day.values[int(slot)], unit)
        suffix = day.stream[4] if len(day.stream) > 4 else ""
        assert reading.point == canonical(f"{day.stream[1]}-{suffix}" if suffix else day.stream[1])


_NEM_WORDS = {"N": Status.MISSING, "E": Status.ESTIMATED, "S": Status.ESTIMATED, "F": Status.ESTIMATED, "A": Status.OK}
#: A line in its most usual form, which must not be set aside for any fault: id, times, qualities, quantity, unit.
_USUAL = re.compile(
    r"[A-Z]{3}[0-9]{7} [0-9A-Z]{2} (?:20[0-9]{12} ){2}(?:[AESF] ){2}[0-9]{1,6}(?:\.[0-9]{1,3})? kWh 2026[0-9]{10}"
)


def run_nem13(content: bytes) -> None:
    outcome = read_bounded(
        content, replace(OPTIONS, format="nem13"), rows_are_readings=True, split_bytes=len(content) // 3 + 1
    )
    if outcome is None:
        return
    reads, broken = list_reads(content)
    by_row = {read.row: read.fields for read in reads}
    aside = {rejected["row"]: rejected for rejected in outcome.rejected}
    rows = [reading.row for reading in outcome.readings] + [rejected["row"] for rejected in outcome.rejected]
    assert sorted(rows) == sorted([*by_row, *broken])
    assert all(aside[row]["reason"] == "unreadable_row" for row in broken)
    for reading in outcome.readings:
        fields = by_row[reading.row]
        begin, end = (_market_time(fields[at]) for at in (9, 14))
        assert begin == reading.start
        assert end == begin + reading.resolution_s * 1_000_000
        assert reading.status == min(_NEM_WORDS[fields[at][0].upper()] for at in (10, 15))
        unit = fields[19].upper()
        assert (reading.product == ACTIVE_ENERGY) == ("VAR" not in unit)
        if reading.status != Status.MISSING:
            assert reading.energy == milliwatt_hours(fields[18], _NEM_UNITS[unit])
        assert reading.point == canonical(f"{fields[1]}-{fields[4]}" if fields[4] else fields[1])
        said = fields[21] or fields[22]
        registered = _market_time(f"{said}0000" if len(said) == 8 else said) if said else microseconds(REGISTERED)
        assert reading.registered_at == registered
    for row, fields in by_row.items():
        begin, end = (_market_time(fields[at]) for at in (9, 14))
        if begin is None or end is None:
            assert aside[row]["reason"] == "unreadable_row"
            continue
        apart = (end - begin) // 1_000_000
        is_interval = apart >= 60 and (apart == 86_400 or 3_600 % apart == 0)
        if _USUAL.fullmatch(" ".join(fields[at] for at in (1, 4, 9, 14, 10, 15, 18, 19, 21))) and _market_time(
            fields[21]
        ):
            assert (row in aside) != is_interval
            assert is_interval or aside[row]["reason"] == "register_break"
        if row in aside and aside[row]["reason"] == "register_break":
            assert not is_interval
            assert seconds(aside[row]["resolution"].replace("-", "")) == abs(apart)
            assert microseconds(aside[row]["start"]) == begin
            if milliwatt_hours(fields[18], _NEM_UNITS[fields[19].upper()]) is not None:
                assert milliwatt_hours(aside[row]["energy"], "kWh") == milliwatt_hours(
                    fields[18], _NEM_UNITS[fields[19].upper()]
                )


def _market_time(text: str) -> int | None:
    """Read a time of UTC+10, with or without seconds, or None."""
    if not re.fullmatch("[0-9]{12}(?:[0-9]{2})?", text):
        return None
    moment = microseconds(f"{text[:8]}T{text[8:]}Z")
    return None if moment is None else moment - _TEN_HOURS


_E66_WORDS = {"OK": 5, "QM": 0, "Z04": 1, "Z02": 2, "21": 2, "99": 3, "56": 3, "Z01": 6}


def run_datahub_xml(content: bytes) -> None:
    outcome = read_bounded(content, replace(OPTIONS, format="datahub-xml"), rows_are_readings=True)
    if outcome is None:
        return
    observations = list_observations(content)
    rows = [reading.row for reading in outcome.readings] + [rejected["row"] for rejected in outcome.rejected]
    assert sorted(rows) == list(range(1, len(observations) + 1))
    for reading in outcome.readings:
        said = observations[reading.row - 1]
        start, step = microseconds(_cut_zeros(said.start or "")), seconds(said.resolution or "")
        assert start is not None
        assert step == reading.resolution_s
        assert reading.start == start + (int(said.sequence or "") - 1) * step * 1_000_000
        assert reading.point == canonical(said.point or "")
        assert reading.product == name_product(said.product or "")
        assert reading.registered_at == microseconds(_cut_zeros(said.registered or REGISTERED))
        missing = said.missing is not None and said.missing not in ("false", "0")
        assert reading.status == (
            0 if missing else _E66_WORDS[(said.quality or "").strip() if said.quality is not None else "OK"]
        )
        unit = (said.unit or "").strip()
        if reading.product != ACTIVE_ENERGY:
            unit = re.sub("(?i)var", "W", unit)
        if reading.status:
            assert reading.energy == milliwatt_hours((said.quantity or "").strip(), unit)


def _cut_zeros(text: str) -> str:
    return re.sub(r"(\.[0-9]{6})0{1,3}", r"\1", text)


_WORDS = {"MISSING": 0, "UNCERTAIN": 2, "ESTIMATED": 3, "OK": 5, "REVISED": 6}


def run_datahub_json(content: bytes) -> None:
    outcome = read_bounded(content, replace(OPTIONS, format="datahub-json"), rows_are_readings=True)
    if outcome is None:
        return
    transaction = json.loads(content.decode("utf-8-sig"))["RetrieveTimeSeriesData"].get("Transaction") or {}
    said = [
        (series, observation)
        for series in transaction.get("TimeSeries") or ()
        for observation in series.get("Observations") or ()
    ]
    rows = [reading.row for reading in outcome.readings] + [rejected["row"] for rejected in outcome.rejected]
    assert sorted(rows) == list(range(1, len(said) + 1))
    for reading in outcome.readings:
        series, observation = said[reading.row - 1]
        assert reading.start == microseconds(observation["PeriodStartTime"].strip())
        assert reading.point == canonical(series["MeteringPointEAN"])
        assert reading.resolution_s == seconds(series["ResolutionDuration"].strip())
        assert reading.status == _WORDS[observation["Quality"].strip()]
        if reading.status:
            unit = (series.get("UnitType") or "").strip()
            unit = unit if reading.product == ACTIVE_ENERGY else re.sub("(?i)var", "W", unit)
            assert reading.energy == milliwatt_hours(str(observation["Quantity"]).strip(), unit)


# Records: Avro and Parquet.


def run_avro(content: bytes) -> None:
    long = b'"array"' not in content
    options = replace(OPTIONS, format="avro")
    outcome = read_bounded(content, options, rows_are_readings=long, split_bytes=len(content) // 4 + 1)
    if outcome is not None:
        _check_records(outcome, list_records(content))


def run_parquet(content: bytes) -> None:
    long = b"list" not in content
    outcome = read_bounded(content, replace(OPTIONS, format="parquet"), rows_are_readings=long, split_readings=5)
    if outcome is not None:
        # What no reading is made of may be damaged.
        file = pq.ParquetFile(io.BytesIO(content))
        names = [name for name in ("metering_point_id", "energy", "status") if name in file.schema_arrow.names]
        _check_records(outcome, file.read(names).to_pylist())


def _check_records(outcome: Outcome, records: Sequence[Mapping[str, Any]]) -> None:
    """See that each record gives as many readings, accepted or set aside, as it has values, and integers as they are."""
    counts = dict.fromkeys(range(1, len(records) + 1), 0)
    for row in [reading.row for reading in outcome.readings] + [rejected["row"] for rejected in outcome.rejected]:
        counts[row] += 1
    for row, record in enumerate(records, 1):
        values = [record["energy"], record["status"]]
        long = not isinstance(values[0], list) and not isinstance(values[1], list)
        lengths = [len(value or ()) for value in values] if not long else [1]
        assert counts[row] in ({1} if long else {max(lengths)}), "each value is a reading, accepted or set aside"
    for reading in outcome.readings:
        record = records[reading.row - 1]
        energies = record["energy"] if isinstance(record["energy"], list) else [record["energy"]]
        assert reading.point == canonical(_as_text(record["metering_point_id"]))
        if reading.status and all(isinstance(energy, int) for energy in energies):
            assert reading.energy in energies


def _as_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
