"""The same reads as NEM13 and as Avro, through the whole job: the same rows; and a release of one that was set aside."""

import csv
import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from source_cases import avro_schema, write_avro
from whole_job import CELL_TABLES, assert_same_rows, ingest, make_keys, query, rows_of

from pipeline.begin import RunRequest
from pipeline.release import ReleaseRequest, read_corrections, run_release
from schemas.series import ACTIVE_ENERGY, MAX_ENERGY
from schemas.status import Status
from transforms.fixes import Fix

MIDNIGHT = dt.datetime(2026, 3, 27, tzinfo=dt.timezone(dt.timedelta(hours=10)))
DAYS = 4
#: NMI and suffix of each register, seconds between its reads, its unit and its product.
REGISTERS = [
    ("VABD000163", "11", 86_400, "kWh", ACTIVE_ENERGY),
    ("VABD000163", "Q1", 3_600, "kVArh", "8716867000047"),
    ("NCDE001111", "41", 900, "MWh", ACTIVE_ENERGY),
]
WORDS = {Status.OK: ("A", "A"), Status.ESTIMATED: ("S14", "A"), Status.MISSING: ("A", "N")}
UNKNOWN, TOO_MUCH = 42, MAX_ENERGY + 1


def draw_reads():
    """Reads as (register, start, registered, energy, status): corrections, repeats, gaps, every fault of a value."""
    random = np.random.default_rng(7)
    reads = []
    for register in REGISTERS:
        for slot in range(DAYS * 86_400 // register[2]):
            start = MIDNIGHT + dt.timedelta(seconds=slot * register[2])
            registered = MIDNIGHT + dt.timedelta(days=DAYS, hours=4)
            energy = int(random.integers(-1_000, 3_000_000))
            status = random.choice([Status.OK, Status.OK, Status.ESTIMATED, Status.MISSING])
            reads.append((register, start, registered, energy, int(status)))
            if slot % 5 == 1:  # a correction, and itself once more
                reads += [(register, start, registered + dt.timedelta(days=3), energy + 7, int(status))] * 2
    del reads[20:23]
    for place, energy, status in ((7, TOO_MUCH, Status.OK), (40, 1, UNKNOWN), (90, TOO_MUCH, Status.OK)):
        reads[place] = (*reads[place][:3], energy, int(status))
    return reads


def stamp(moment):
    return f"{moment.astimezone(MIDNIGHT.tzinfo):%Y%m%d%H%M%S}"


def record(register, start, end, registered, energy, words):
    nmi, suffix, _, unit, _ = register
    power = 9 if unit == "MWh" else 6
    quantity = f"{'-' * (energy < 0)}{abs(energy) // 10**power}.{abs(energy) % 10**power:0{power}}"
    reads = f"1,{stamp(start)},{words[0]},,,2,{stamp(end)},{words[1]},,"
    return f"250,{nmi},,1,{suffix},,METSER1,E,{reads},{quantity},{unit},,{stamp(registered)},"


def write_nem13(path, records):
    lines = [line for number, line in enumerate(records) for line in ([line, "550,N,,A,"] if number % 3 else [line])]
    path.write_text("\n".join(["100,NEM13,202603270000,MDA1,RET1", *lines, "900"]) + "\n", "utf-8")
    return path


def write_readings(path, reads):
    records = [
        {
            "metering_point_id": f"{register[0]}-{register[1]}",
            "product": register[4],
            "start": int(start.timestamp()) * 1_000_000,
            "resolution_s": register[2],
            "registered_at": int(registered.timestamp()) * 1_000_000,
            "energy": energy,
            "status": status,
        }
        for register, start, registered, energy, status in reads
    ]
    return write_avro(path, records, avro_schema("meter_reading"))


@pytest.mark.parametrize(
    ("zone", "reasons"),
    [
        ("Australia/Brisbane", {"bad_energy", "unknown_status"}),
        # A day of the market is none of Finland's.
        ("Europe/Helsinki", {"bad_energy", "unknown_status", "off_grid"}),
    ],
)
def test_the_rows_are_those_of_avro(tmp_path, zone, reasons):
    keys, reads = make_keys(tmp_path), draw_reads()
    lakes = tmp_path / "nem13", tmp_path / "avro"
    options = {"time_zone": zone, "buckets": 2}
    records = [
        record(register, start, start + dt.timedelta(seconds=register[2]), registered, energy, WORDS.get(status, "AX"))
        for register, start, registered, energy, status in reads
    ]
    ingest(lakes[0], [write_nem13(tmp_path / "f.csv", records)], keys, **options)
    ingest(lakes[1], [write_readings(tmp_path / "f.avro", reads)], keys, **options)
    assert_same_rows(*lakes, tables=CELL_TABLES)
    counted = "SELECT reason, metering_point_id, count(*) FROM t GROUP BY ALL ORDER BY ALL"
    quarantined = [query(lake, "operational.quarantine_readings", counted) for lake in lakes]
    assert quarantined[0] == quarantined[1]
    assert {row[0] for row in quarantined[0]} == reasons
    resolutions = set(rows_of(lakes[0], "operational.readings", "resolution_s")["resolution_s"].to_pylist())
    assert resolutions == {86_400, 3_600, 900} - ({86_400} if zone == "Europe/Helsinki" else set())


def test_months_wait_in_quarantine_until_somebody_says_which_interval_they_are(tmp_path):
    keys, lake = make_keys(tmp_path), tmp_path / "lake"
    register, registered = REGISTERS[0], MIDNIGHT + dt.timedelta(days=100)
    ends = [MIDNIGHT + dt.timedelta(days=days, hours=hours) for days, hours in ((92, 10), (1, 2), (-1, 0))]
    records = [record(register, MIDNIGHT, end, registered, 5_000_000, ("A", "A")) for end in ends]
    ingest(lake, [write_nem13(tmp_path / "f.csv", records)], keys, time_zone="Australia/Brisbane", buckets=2)
    table = "operational.quarantine_readings"
    shown = "SELECT reason, metering_point_id, start, resolution, energy, status FROM t ORDER BY row"
    assert query(lake, "operational.readings", "SELECT * FROM t") == []
    aside = query(lake, table, shown)
    assert [row[3] for row in aside] == ["PT2218H", "PT26H", "P-1D"]
    assert {row[:3] + row[4:] for row in aside} == {
        ("register_break", "VABD000163-11", "2026-03-26T14:00:00Z", "5.000000", "OK")
    }
    request = ReleaseRequest(lake, RunRequest(**keys, threads=2))
    assert run_release(request) is None  # as they stand they are no better than before
    digest = query(lake, table, "SELECT DISTINCT file_digest FROM t")[0][0]
    path = tmp_path / "corrections.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file_digest", "row", "position", "resolution"), (digest, 3, 0, "P1D")])
    assert run_release(replace(request, fix=Fix(rows=read_corrections(path)))) is not None
    assert query(lake, "operational.readings", "SELECT energy::DOUBLE, resolution_s FROM t") == [(5.0, 86_400)]
    assert [row[3] for row in query(lake, table, shown)] == ["PT2218H", "P-1D"]
