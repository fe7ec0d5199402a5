"""Reads a generated fleet back with other means than the generator's and works out, reading by reading, what is right."""

import csv
import json
import re
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import fastavro
import pyarrow.parquet as pq
from stdnum import ean

HELSINKI = ZoneInfo("Europe/Helsinki")
MAX_ENERGY = 99_999_999_999_999
WORDS = ("MISSING", "PARTIAL", "UNCERTAIN", "ESTIMATED", "CALCULATED", "OK", "REVISED")
QUALITIES = {"QM": "MISSING", "Z04": "PARTIAL", "Z02": "UNCERTAIN", "99": "ESTIMATED", "": "OK", "Z01": "REVISED"}
RESOLUTIONS = {"PT15M": 900, "PT1H": 3600, "P1D": 86_400}


class Reading(NamedTuple):
    point: str
    resolution: int
    start: int
    registered: int
    status: int
    energy: int


class Fleet(NamedTuple):
    delivered: list[tuple[str, int]]  # reason ("" where sound) and decoded energy of every reading in any file
    sound: list[Reading]


def read_fleet(folder: Path, bad_files: list[dict[str, str]]) -> Fleet:
    fleet = Fleet([], [])
    bad = {file["name"] for file in bad_files}
    for path in sorted((folder / "readings").iterdir()):
        if path.name in bad:
            continue
        stamp = re.search(r"\d{8}T\d{6}Z", path.name)[0]
        registered = int(datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp())
        for point, resolution, start, told, status, energy in _read_rows(path):
            assert told in (None, registered)
            reason = _judge(point, resolution, start, registered, status, energy)
            decoded = energy if isinstance(energy, int) and reason not in ("bad_energy", "unreadable_row") else 0
            fleet.delivered.append((reason, decoded))
            if not reason:
                fleet.sound.append(Reading(point, resolution, start, registered, status, decoded))
    return fleet


def _read_rows(path):
    if path.suffix == ".csv":
        yield from _read_csv(path)
        return
    if path.suffix in (".xml", ".json"):
        yield from _read_xml(path) if path.suffix == ".xml" else _read_json(path)
        return
    records = fastavro.reader(path.open("rb")) if path.suffix == ".avro" else pq.read_table(path).to_pylist()
    for record in records:
        assert record["product"] == "8716867000030"
        point, resolution = record["metering_point_id"], record["resolution_s"]
        start, registered = (int(record[name].timestamp()) for name in ("start", "registered_at"))
        energy, status = record["energy"], record["status"]
        if not isinstance(energy, list):
            yield point, resolution, start, registered, status, energy
        elif len(energy) != len(status):
            yield point, None, start, registered, None, energy[0]
        else:
            for place, (one, quality) in enumerate(zip(energy, status, strict=True)):
                yield point, resolution, start + place * resolution, registered, quality, one


def _read_csv(path):
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    lines = csv.reader(raw.decode("utf-8-sig").splitlines(), delimiter=";")
    assert len(next(lines)) == 8
    for fields in lines:
        if len(fields) != 8:
            yield "", None, 0, None, None, None
            continue
        point, product, resolution, unit, kind, start, quantity, quality = fields
        assert (product, unit, kind) == ("8716867000030", "kWh", "BN01")
        energy = quantity or None
        if re.fullmatch(r"-?\d+,\d{6}", quantity):
            energy = int(quantity.replace(",", ""))
        status = WORDS.index(quality) if quality in WORDS else None
        yield point, RESOLUTIONS[resolution], int(datetime.fromisoformat(start).timestamp()), None, status, energy


def _read_xml(path):
    message = ET.parse(path).find(".//{*}EnergyTimeSeries")  # noqa: S314 - we wrote it
    told = int(datetime.fromisoformat(message.find("{*}Header/{*}RegistrationTimestamp").text).timestamp())
    for series in message.iterfind("{*}Transaction"):
        assert series.findtext("{*}ProductIncludedProductCharacteristic/{*}UnitType") == "kWh"
        point = series.findtext("{*}MeteringPointUsedDomainLocation/{*}Identification")
        resolution = RESOLUTIONS[series.findtext(".//{*}ResolutionDuration")]
        start = int(datetime.fromisoformat(series.findtext(".//{*}Start")).timestamp())
        for one in series.iterfind("{*}OBS"):
            number, quantity = one.findtext("{*}SEQ"), one.findtext("{*}EOBS/{*}QTY")
            quality = "QM" if one.find("{*}EOBS/{*}QM") is not None else one.findtext("{*}EOBS/{*}QQ", "")
            if not number.isdigit():
                yield "", None, 0, told, None, None
                continue
            energy = quantity
            if re.fullmatch(r"-?\d+\.\d{6}", quantity or ""):
                energy = int(quantity.replace(".", ""))
            status = WORDS.index(QUALITIES[quality]) if quality in QUALITIES else None
            yield point, resolution, start + (int(number) - 1) * resolution, told, status, energy


def _read_json(path):
    answer = json.loads(path.read_text("utf-8"))["RetrieveTimeSeriesData"]
    told = int(datetime.fromisoformat(answer["Header"]["Creation"]).timestamp())
    for series in answer["Transaction"]["TimeSeries"]:
        assert (series["ProductType"], series["UnitType"]) == ("8716867000030", "kWh")
        for one in series["Observations"]:
            if not one["PeriodStartTime"].startswith("20"):
                yield "", None, 0, told, None, None
                continue
            energy = quantity = one["Quantity"]
            if re.fullmatch(r"-?\d+\.\d{6}", quantity or ""):
                energy = int(quantity.replace(".", ""))
            status = WORDS.index(one["Quality"]) if one["Quality"] in WORDS else None
            start = int(datetime.fromisoformat(one["PeriodStartTime"]).timestamp())
            yield series["MeteringPointEAN"], RESOLUTIONS[series["ResolutionDuration"]], start, told, status, energy


def _judge(point, resolution, start, registered, status, energy):
    if resolution is None:
        return "unreadable_row"
    if not re.fullmatch(r"\d{16,18}", point):
        return "mangled_identifier"
    if energy is None and status == 0:
        energy = 0
    if not isinstance(energy, int) or abs(energy) > MAX_ENERGY:
        return "bad_energy"
    if status not in range(7):
        return "unknown_status"
    if resolution < 86_400 and start % resolution:
        return "off_grid"
    return "future" if start > registered else ""


def local_date(start: int) -> date:
    return datetime.fromtimestamp(start, tz=HELSINKI).date()


def span(reading: Reading) -> range:
    """The hours, since 1970, that a reading lies in."""
    if reading.resolution < 86_400:
        return range(reading.start // 3600, reading.start // 3600 + 1)
    next_day = local_date(reading.start) + timedelta(days=1)
    end = datetime.combine(next_day, time(), tzinfo=HELSINKI).timestamp()
    return range(reading.start // 3600, int(end) // 3600)


class Settled(NamedTuple):
    final: list[Reading]
    conflicting: int
    superseded: dict[str, list[Reading]]


def settle(readings: list[Reading]) -> Settled:
    by_key, by_hour = defaultdict(list), defaultdict(list)
    for reading in readings:
        by_key[reading[:3]].append(reading)
        for hour in span(reading):
            by_hour[reading.point, hour].append(reading)
    settled = Settled([], 0, {"identical": [], "conflicting": [], "older": [], "other_resolution": []})
    conflicting = 0
    for deliveries in by_key.values():
        *losers, best = sorted(deliveries, key=lambda r: (r.registered, r.status, r.energy))
        conflict = False
        for loser in losers:
            if loser == best:
                settled.superseded["identical"].append(loser)
            elif loser.registered == best.registered:
                conflict = True
                settled.superseded["conflicting"].append(loser)
            else:
                settled.superseded["older"].append(loser)
        rivals = [
            rival
            for hour in span(best)
            for rival in by_hour[best.point, hour]
            if rival.resolution != best.resolution
            and (
                rival.registered > best.registered
                or (rival.registered == best.registered and rival.resolution < best.resolution)
            )
        ]
        if rivals:
            settled.superseded["other_resolution"].append(best)
        else:
            settled.final.append(best)
            conflicting += conflict
    return settled._replace(conflicting=conflicting)


def total(readings) -> dict[str, int]:
    return {"count": len(readings), "energy_mwh": sum(reading.energy for reading in readings)}


def work_out(folder: Path, bad_files: list[dict[str, str]]) -> dict:
    """What ``truth.json`` must say, from the files alone."""
    fleet = read_fleet(folder, bad_files)
    settled = settle(fleet.sound)
    sites = {row["metering_point_id"]: row for row in pq.read_table(folder / "reference/sites.parquet").to_pylist()}
    contracts = defaultdict(list)
    for row in pq.read_table(folder / "reference/contracts.parquet").to_pylist():
        contracts[row["metering_point_id"]].append(row)
    quarantined = defaultdict(lambda: {"count": 0, "energy_mwh": 0})
    for reason, energy in fleet.delivered:
        if reason:
            quarantined[reason]["count"] += 1
            quarantined[reason]["energy_mwh"] += energy
    flags, dates = Counter(conflicting_duplicate=settled.conflicting), {}
    by_customer = defaultdict(list)
    for reading in settled.final:
        day, site = local_date(reading.start), sites.get(reading.point)
        covering = [
            row
            for row in contracts[reading.point]
            if row["valid_from"] <= day and (row["valid_to"] is None or day < row["valid_to"])
        ]
        hours = reading.resolution / 3600 if reading.resolution < 86_400 else len(span(reading))
        flags["negative"] += reading.energy < 0
        flags["above_fuse"] += site is not None and reading.energy > 3 * site["fuse_a"] * 230 * hours * 1000
        flags["check_digit"] += (
            len(reading.point) != 18 or ean.calc_check_digit(reading.point[:-1]) != reading.point[-1]
        )
        flags["no_contract"] += site is not None and not covering
        flags["unknown_point"] += site is None
        flags["overlapping_contracts"] += len(covering) > 1
        holder = max(covering, key=lambda row: row["signed_at"])["customer_id"] if covering else None
        by_customer[reading.point, holder].append(reading)
        told = dates.setdefault(day.isoformat(), defaultdict(list))
        told[site["direction"] if site else "consumption"].append(reading)
        told["with_customer" if holder else "without_customer"].append(reading)
        told["customers"].append(int(holder.split("-")[1]) - 10_000_000 if holder else 0)
    return {
        "readings_delivered": len(fleet.delivered),
        "energy_delivered_mwh": sum(energy for _, energy in fleet.delivered),
        "rows_final": len(settled.final),
        "energy_final_mwh": total(settled.final)["energy_mwh"],
        "superseded": total([reading for losers in settled.superseded.values() for reading in losers]),
        "superseded_by_kind": {kind: total(losers) for kind, losers in settled.superseded.items()},
        "quarantined": dict(quarantined),
        "status": {word: sum(r.status == code for r in settled.final) for code, word in enumerate(WORDS)},
        "flags": dict(flags),
        "dates": {
            day: {
                **total(told["consumption"] + told["production"]),
                **{
                    name: total(told[name])
                    for name in ("consumption", "production", "with_customer", "without_customer")
                },
                "customer_number_sum": sum(told["customers"]),
            }
            for day, told in dates.items()
        },
        "by_customer": {key: total(readings) for key, readings in by_customer.items()},
    }
