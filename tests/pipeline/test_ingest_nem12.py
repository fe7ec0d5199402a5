"""The same readings as NEM12 and as Avro, through the whole job: the same rows."""

import datetime as dt

import numpy as np
import pytest
from source_cases import avro_schema, write_avro
from whole_job import CELL_TABLES, assert_same_rows, ingest, make_keys, query, rows_of

from schemas.series import ACTIVE_ENERGY, MAX_ENERGY
from schemas.status import Status

MIDNIGHT = dt.datetime(2026, 3, 27, tzinfo=dt.timezone(dt.timedelta(hours=10)))
DAYS = 4
#: Suffixes of the streams of each NMI, and minutes of their intervals.
STREAMS = {"VABD000163": {"E1": 5, "B1": 5, "Q1": 5}, "NCDE001111": {"E1": 15}, "NDDD001888": {"E1": 30, "E2": 30}}
PRODUCTS = {"E": ACTIVE_ENERGY, "B": ACTIVE_ENERGY, "Q": "8716867000047"}
UNITS = {"E": "kWh", "B": "MWh", "Q": "kVArh"}
WORDS = {Status.OK: "A", Status.ESTIMATED: "S14", Status.MISSING: "N"}
UNKNOWN, TOO_MUCH = 42, MAX_ENERGY + 1


def draw_deliveries():
    """Days as (NMI, suffix, minutes, day, registered, energy, status): corrections, repeats, gaps, every fault of a value."""
    random = np.random.default_rng(7)
    deliveries = []
    for nmi, streams in STREAMS.items():
        for suffix, minutes in streams.items():
            for day in range(DAYS):
                count = 1440 // minutes
                energy = random.integers(-1_000, 3_000_000, count)
                status = random.choice([Status.OK, Status.OK, Status.ESTIMATED, Status.MISSING], count)
                energy[random.integers(count)] = TOO_MUCH
                status[random.integers(count)] = UNKNOWN
                registered = MIDNIGHT + dt.timedelta(days=day + 1, hours=4)
                deliveries.append((nmi, suffix, minutes, day, registered, energy, status))
                if day == 1:  # a correction, and the same day once more, and an older one that comes late
                    deliveries.append(
                        (nmi, suffix, minutes, day, registered + dt.timedelta(days=3), energy + 7, status)
                    )
                    deliveries.append(deliveries[-2])
    # A day that never comes, and one that comes with the registration of another.
    del deliveries[2]
    nmi, suffix, minutes, day, registered, energy, status = deliveries[5]
    deliveries.append((nmi, suffix, minutes, day, registered, energy[::-1].copy(), status))
    return deliveries


def write_nem12(path, deliveries):
    lines = ["100,NEM12,202603270000,MDA1,RET1"]
    for nmi, suffix, minutes, day, registered, energy, status in deliveries:
        power = 9 if UNITS[suffix[0]] == "MWh" else 6
        values = [
            f"{'-' * (value < 0)}{abs(value) // 10**power}.{abs(value) % 10**power:0{power}}"
            for value in energy.tolist()
        ]
        words = [WORDS.get(code, "X") for code in status.tolist()]
        lines += [
            f"200,{nmi},,1,{suffix},,METSER1,{UNITS[suffix[0]]},{minutes},",
            f"300,{MIDNIGHT + dt.timedelta(days=day):%Y%m%d},{','.join(values)},V,,,{registered:%Y%m%d%H%M%S},",
        ]
        changes = [slot for slot in range(len(words)) if slot == 0 or words[slot] != words[slot - 1]]
        for first, end in zip(changes, [*changes[1:], len(words)], strict=True):
            lines.append(f"400,{first + 1},{end},{words[first]},,")
    path.write_text("\n".join([*lines, "900"]) + "\n", "utf-8")
    return path


def write_series(path, deliveries):
    records = [
        {
            "metering_point_id": f"{nmi}-{suffix}",
            "product": PRODUCTS[suffix[0]],
            "start": int((MIDNIGHT + dt.timedelta(days=day)).timestamp()) * 1_000_000,
            "resolution_s": minutes * 60,
            "registered_at": int(registered.timestamp()) * 1_000_000,
            "energy": energy.tolist(),
            "status": status.tolist(),
        }
        for nmi, suffix, minutes, day, registered, energy, status in deliveries
    ]
    return write_avro(path, records, avro_schema("meter_series"))


@pytest.mark.parametrize("zone", ["Australia/Brisbane", "Europe/Helsinki"])
def test_the_rows_are_those_of_avro(tmp_path, zone):
    keys, deliveries = make_keys(tmp_path), draw_deliveries()
    lakes = tmp_path / "nem12", tmp_path / "avro"
    options = {"time_zone": zone, "buckets": 2}
    ingest(lakes[0], [write_nem12(tmp_path / "f.csv", deliveries)], keys, **options)
    ingest(lakes[1], [write_series(tmp_path / "f.avro", deliveries)], keys, **options)
    assert_same_rows(*lakes, tables=CELL_TABLES)
    reasons = "SELECT reason, metering_point_id, position, count(*) FROM t GROUP BY ALL ORDER BY ALL"
    quarantined = [query(lake, "operational.quarantine_readings", reasons) for lake in lakes]
    assert quarantined[0] == quarantined[1]
    assert {row[0] for row in quarantined[0]} == {"bad_energy", "unknown_status"}
    resolutions = rows_of(lakes[0], "operational.readings", "resolution_s")["resolution_s"].unique().to_pylist()
    assert sorted(resolutions) == [300, 900, 1800]
