import json
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_cases import POINT, avro_schema, series_records, write_avro

from pipeline.cli import main
from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FILE_FAULTS, FORMATS, ROW_FAULTS, FleetOptions
from pipeline.inspection import inspect_file
from pipeline.reading import read_part
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import plan_file
from pipeline.totals import add_totals
from transforms.calendar import local_calendar

CALENDAR = local_calendar("Europe/Helsinki")
OPTIONS = ReadOptions(registered_at="file-name")
FLEET = FleetOptions(points=110, days=1, start=date(2026, 3, 28), faults=frozenset(ROW_FAULTS))


def look(path, options=OPTIONS, *, identifiers=False):
    return inspect_file(str(path), options, CALENDAR, identifiers=identifiers)


@pytest.mark.parametrize("kind", FORMATS)
def test_it_says_what_ingest_would_do(tmp_path, kind):
    generate_fleet(replace(FLEET, format=kind), tmp_path)
    for path in (tmp_path / "readings").iterdir():
        parts = [read_part(split, OPTIONS, CALENDAR, 4) for split in plan_file(str(path), OPTIONS)]
        totals = add_totals(part.totals for part in parts)
        found = look(path)
        assert found["problem"] is None
        assert found["readings"]["delivered"] == totals.count("delivered")
        assert sum(found["readings"]["quarantined"].values()) == totals.count("quarantined")
        assert found["readings"]["accepted"] == sum(
            len(frame.column("energy").flatten()) for part in parts for _, frame in part.frames
        )
        assert found["local_days"] == len({cell.local_date for part in parts for cell, _ in part.frames})
        assert sum(found["statuses"].values()) == found["readings"]["accepted"]


def test_gaps_repetitions_and_points(tmp_path):
    records = series_records(count=3, length=8)
    records += [records[0], {**records[1], "start": records[1]["start"] + 10 * 900_000_000}]
    found = look(write_avro(tmp_path / "f.avro", records, avro_schema("meter_series")), identifiers=True)
    assert (found["points"], found["repeated"]) == (3, 8)
    assert found["gaps"] == {"stretches": 1, "readings": 2}
    assert [(stream["slots"], stream["missing"]) for stream in found["streams"]] == [(8, 0), (16, 2), (8, 0)]
    assert (found["first"], found["end"]) == ("2022-03-23T00:00:00Z", "2022-03-23T05:30:00Z")
    assert found["check_digits"]["wrong"] + found["check_digits"]["right"] == 3


def test_no_identifier_shows_unless_it_is_asked_for(tmp_path, capsys):
    path = write_avro(tmp_path / "f.avro", series_records(), avro_schema("meter_series"))
    for options in ([], ["--json"]):
        assert main(["inspect", path, *options]) == 0
        assert "643006966022" not in capsys.readouterr().out
        assert main(["inspect", path, "--identifiers", *options]) == 0
        assert "643006966022790003" in capsys.readouterr().out


def test_a_file_that_lacks_an_option_is_looked_at_and_the_option_named(tmp_path):
    path = tmp_path / "export.csv"
    header = "MeteringPointGSRN;Product Type;Resolution;Unit Type;Reading Type;Start Time;Quantity;Quality"
    path.write_text(f"{header}\n0;0;PT1H;kWh;BN01;2026-01-01T00:00:00Z;1,5;OK\n", "utf-8")
    found = look(path, ReadOptions())
    assert "--registered-at" in found["problem"]
    assert (found["readings"]["accepted"], found["kwh"]) == (1, "1.500000")
    found = look(path, ReadOptions(registered_at="now"))
    assert "--metering-point" in found["problem"]
    assert look(path, ReadOptions(registered_at="now", metering_point=POINT))["problem"] is None


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_are_findings(tmp_path, kind):
    generate_fleet(
        replace(FLEET, format=kind, faults=frozenset(), points=20, file_faults=frozenset(FILE_FAULTS)), tmp_path
    )
    problems = [look(path)["problem"] for path in (tmp_path / "readings").iterdir()]
    assert sum(problem is not None for problem in problems) >= 3


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(b"100,NEM12,200405011135\n200,".__add__)))
def test_garbage_is_a_finding(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("garbage") / "f"
    path.write_bytes(content)
    found = look(path, ReadOptions())
    # Garbage can be a file without a reading: a header and an end.
    assert found["problem"] or not found["readings"]["delivered"]
    assert "nobody foresaw" not in (found["problem"] or "")
    assert json.dumps(found)


def test_exit_codes(tmp_path, capsys):
    (tmp_path / "bad").write_bytes(b"\0\1\2")
    (tmp_path / "empty").write_bytes(b"")
    assert main(["inspect", str(tmp_path / "bad"), str(tmp_path / "empty")]) == 0
    said = capsys.readouterr().out
    assert "of no known format" in said
    assert "the file is empty" in said
    assert main(["inspect", str(tmp_path / "none")]) == 1
    assert main(["inspect", str(tmp_path / "bad"), "--format", "odd"]) == 1
    assert main(["inspect", str(tmp_path / "bad"), "--time-zone", "Moon"]) == 1


def test_reference_feeds(tmp_path):
    generate_fleet(FLEET, tmp_path)
    found = {path.stem: look(path) for path in (tmp_path / "reference").iterdir()}
    assert found["sites"]["problem"] is None
    assert found["sites"]["check_digits"]["metering_point_id"]["right"] > 30
    assert found["customers"]["check_digits"]["identity_code"]["wrong"] == 0
    assert found["customers"]["check_digits"]["identity_code"]["right"] > 10
    assert found["customers"]["check_digits"]["business_id"]["wrong"] == 0
    (tmp_path / "sites.csv").write_bytes(b"\0\xff\n")
    assert look(tmp_path / "sites.csv")["problem"]
