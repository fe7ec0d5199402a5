"""A generated fleet through the whole job: every number of its truth, in every format, over both clock changes."""

import json
from datetime import date
from pathlib import Path

import pytest
from whole_job import ingest, large, make_keys, query, work_out_truth

from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions

FORMATS = ("avro-series", "avro-readings", "parquet", "parquet-series", "datahub-csv", "datahub-xml", "datahub-json")
#: Three days over each clock change of 2026: one day of 23 hours, one of 25.
SPRING, AUTUMN = date(2026, 3, 28), date(2026, 10, 24)
SUPERSEDED = ("identical", "conflicting", "older", "other_resolution")


def run_fleet(folder: Path, **options) -> tuple[dict, dict, Path]:
    """Generate a fleet and ingest it into an empty lake: the truth, what the lake says, the lake."""
    truth = json.loads(generate_fleet(FleetOptions(**options), folder).read_text())
    read = {"registered_at": "file-name"} if options["format"] == "datahub-csv" else {}
    lake = folder / "lake"
    record = ingest(
        lake, [folder / "readings" / "*"], make_keys(folder / "keys"), reference=folder / "reference", **read
    )
    return truth, work_out_truth(lake, record), lake


def assert_true(truth: dict, found: dict) -> None:
    for outcome in ("readings_delivered", "energy_delivered_mwh", "rows_final", "energy_final_mwh", "superseded"):
        assert found[outcome] == truth[outcome], outcome
    none = {"count": 0, "energy_mwh": 0}
    for kind in SUPERSEDED:
        assert found["superseded_by_kind"].get(kind, none) == truth["superseded_by_kind"][kind], kind
    assert found["quarantined"] == truth["quarantined"]
    assert found["quarantine_table"] == {reason: total["count"] for reason, total in truth["quarantined"].items()}
    assert found["status"] == {word: count for word, count in truth["status"].items() if count}
    assert {flag: found["flags"][flag] for flag in truth["flags"]} == truth["flags"]
    assert found["dates"] == truth["dates"]


def assert_moves(truth: dict, lake: Path) -> None:
    """Of every move: what lies under the old customer at that point, and what under the new."""
    held = {
        (point, customer): {"count": count, "energy_mwh": energy}
        for point, customer, count, energy in query(
            lake,
            "operational.readings",
            "SELECT metering_point_id, customer_id, count(*), coalesce(sum(cast(energy * 1000000 AS hugeint)), 0)"
            " FROM t GROUP BY ALL",
        )
    }
    assert truth["moves"]
    for move in truth["moves"]:
        for side in ("old", "new"):
            key = (move["metering_point_id"], move[side]["customer_id"])
            assert held.get(key, {"count": 0, "energy_mwh": 0}) == {
                what: move[side][what] for what in ("count", "energy_mwh")
            }


@pytest.mark.parametrize("start", [SPRING, AUTUMN], ids=["spring", "autumn"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_lake_is_what_the_truth_says(tmp_path, name, start):
    truth, found, lake = run_fleet(tmp_path, points=1000, days=3, start=start, format=name)
    assert set(truth["quarantined"]) >= {"bad_energy", "future", "mangled_identifier", "off_grid", "unknown_status"}
    assert all(truth["superseded_by_kind"][kind]["count"] for kind in SUPERSEDED)
    assert_true(truth, found)
    assert_moves(truth, lake)


@large
@pytest.mark.parametrize("start", [SPRING, AUTUMN], ids=["spring", "autumn"])
@pytest.mark.parametrize("name", ["avro-series", "parquet", "datahub-csv"])
def test_the_lake_is_what_the_truth_says_of_ten_thousand_points(tmp_path, name, start):
    truth, found, lake = run_fleet(tmp_path, points=10_000, days=3, start=start, format=name)
    assert_true(truth, found)
    assert_moves(truth, lake)
