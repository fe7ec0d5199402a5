import json
from datetime import date
from pathlib import Path

import fleet_oracle
import pytest

from pipeline.errors import MeterveilError
from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import CELL_FAULTS, FILE_FAULTS, FORMATS, NOT_CARRIED, ROW_FAULTS, FleetOptions

# Over the day of 23 hours; a small fleet with every fault a few times.
SMALL = {"points": 110, "days": 3, "start": date(2026, 3, 28), "seed": 11}
OUTCOMES = (
    "readings_delivered",
    "energy_delivered_mwh",
    "rows_final",
    "energy_final_mwh",
    "superseded",
    "superseded_by_kind",
    "quarantined",
    "status",
    "flags",
    "dates",
)


def make(folder: Path, **options) -> dict:
    return json.loads(generate_fleet(FleetOptions(**{**SMALL, **options}), folder).read_text())


@pytest.fixture(scope="module")
def fleets(tmp_path_factory):
    folders = {name: tmp_path_factory.mktemp(name) for name in FORMATS}
    return {name: (folder, make(folder, format=name)) for name, folder in folders.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_the_truth_is_what_the_files_say(fleets, name):
    folder, truth = fleets[name]
    right = fleet_oracle.work_out(folder, truth["bad_files"])
    for outcome in OUTCOMES:
        assert truth[outcome] == right[outcome], outcome
    none = {"count": 0, "energy_mwh": 0}
    assert truth["moves"]
    for move in truth["moves"]:
        for side in ("old", "new"):
            key = (move["metering_point_id"], move[side]["customer_id"])
            assert right["by_customer"].get(key, none) == {name: move[side][name] for name in none}


def test_formats_differ_by_what_they_cannot_carry_only(fleets):
    _, whole = fleets["avro-series"]
    for name, (_, truth) in fleets.items():
        expected = {outcome: whole[outcome] for outcome in OUTCOMES}
        assert truth["not_carried"] == (["junk_row"] if "junk_row" in NOT_CARRIED[name] else [])
        if truth["not_carried"]:
            junk = whole["quarantined"]["unreadable_row"]
            assert junk["energy_mwh"] == 0
            expected["readings_delivered"] -= junk["count"]
            expected["quarantined"] = {r: t for r, t in whole["quarantined"].items() if r != "unreadable_row"}
        assert {outcome: truth[outcome] for outcome in OUTCOMES} == expected, name


def test_readings_and_energy_are_conserved(fleets):
    for _, truth in fleets.values():
        for delivered, final, part in (
            ("readings_delivered", "rows_final", "count"),
            ("energy_delivered_mwh", "energy_final_mwh", "energy_mwh"),
        ):
            quarantined = sum(total[part] for total in truth["quarantined"].values())
            assert truth[delivered] == truth[final] + truth["superseded"][part] + quarantined


def test_the_same_options_give_the_same_bytes(tmp_path):
    for name in ("avro-series", "parquet", "datahub-csv"):
        one, two = tmp_path / name / "one", tmp_path / name / "two"
        for folder in (one, two):
            make(folder, format=name, file_faults=frozenset(FILE_FAULTS))
        for path in sorted(path for path in one.rglob("*") if path.is_file()):
            assert path.read_bytes() == (two / path.relative_to(one)).read_bytes(), path.name


def test_another_seed_gives_another_fleet(tmp_path):
    assert make(tmp_path / "a")["energy_final_mwh"] != make(tmp_path / "b", seed=12)["energy_final_mwh"]


@pytest.mark.parametrize(("file_points", "block_points"), [(17, 5), (64, 64), (64, 1000)])
def test_the_fleet_does_not_depend_on_the_size_of_files_and_blocks(tmp_path, fleets, file_points, block_points):
    folder, whole = fleets["parquet"]
    cut = make(tmp_path, format="parquet", file_points=file_points, block_points=block_points)
    unlike = {"options", "files"}
    assert {key: cut[key] for key in cut.keys() - unlike} == {key: whole[key] for key in whole.keys() - unlike}
    assert len(cut["files"]) > len(whole["files"])
    for feed in ("sites", "contracts", "customers"):
        tables = [fleet_oracle.pq.read_table(path / "reference" / f"{feed}.parquet") for path in (folder, tmp_path)]
        first, second = (table.sort_by(table.column_names[0]) for table in tables)
        assert first.equals(second)
    readings = [sorted(fleet_oracle.read_fleet(path, []).sound) for path in (folder, tmp_path)]
    assert readings[0] == readings[1]


#: What each switch must change in the truth of a fleet that is otherwise sound: a path into it.
MARKS = {
    "check_digit": ("flags", "check_digit"),
    "no_contract": ("flags", "no_contract"),
    "unknown_point": ("flags", "unknown_point"),
    "redelivery": ("superseded_by_kind", "older", "count"),
    "duplicate_same_file": ("superseded_by_kind", "identical", "count"),
    "duplicate_other_file": ("superseded_by_kind", "identical", "count"),
    "late_older": ("superseded_by_kind", "older", "count"),
    "correction": ("status", "REVISED"),
    "conflict": ("flags", "conflicting_duplicate"),
    "two_resolutions": ("superseded_by_kind", "other_resolution", "count"),
    "daily_value": ("superseded_by_kind", "other_resolution", "count"),
    "missing": ("status", "MISSING"),
    "estimated": ("status", "ESTIMATED"),
    "negative": ("flags", "negative"),
    "above_fuse": ("flags", "above_fuse"),
    "bad_energy": ("quarantined", "bad_energy", "count"),
    "unknown_status": ("quarantined", "unknown_status", "count"),
    "off_grid": ("quarantined", "off_grid", "count"),
    "future": ("quarantined", "future", "count"),
    "mangled_identifier": ("quarantined", "mangled_identifier", "count"),
    "junk_row": ("quarantined", "unreadable_row", "count"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return make(tmp_path_factory.mktemp("sound"), faults=frozenset())


def look_up(truth, path):
    for key in path:
        truth = truth.get(key, 0) if isinstance(truth, dict) else 0
    return truth


def test_a_sound_fleet_has_nothing_to_set_aside(sound):
    assert sound["readings_delivered"] == sound["rows_final"] == sound["status"]["OK"]
    assert sound["superseded"] == {"count": 0, "energy_mwh": 0}
    assert sound["quarantined"] == {}
    assert {flag for flag, count in sound["flags"].items() if count} <= {"no_contract", "overlapping_contracts"}


@pytest.mark.parametrize("fault", ROW_FAULTS)
def test_every_switch_plants_something_and_the_truth_shows_it(tmp_path, sound, fault):
    truth = make(tmp_path, faults=frozenset({fault}))
    assert truth["planted"][fault] >= 3
    if fault in CELL_FAULTS:
        assert len(truth["places"][fault]) >= 3
    if fault in MARKS:
        assert look_up(truth, MARKS[fault]) > look_up(sound, MARKS[fault])
    elif fault == "late":
        assert len(truth["files"]) > len(sound["files"])
        assert truth["rows_final"] == sound["rows_final"]
    elif fault.startswith("gap") or fault == "day_absent":
        assert truth["rows_final"] < sound["rows_final"]
    else:  # flat, spike, stale: as many readings, other energy
        assert truth["rows_final"] == sound["rows_final"]
        assert (truth["energy_final_mwh"] != sound["energy_final_mwh"]) or fault == "stale_then_double"


def test_the_forms_of_rival_resolutions_win_and_lose(tmp_path):
    truth = make(tmp_path, points=400, faults=frozenset({"two_resolutions", "daily_value"}), format="parquet")
    right = fleet_oracle.settle(fleet_oracle.read_fleet(tmp_path, []).sound)
    lost = {reading.resolution for reading in right.superseded["other_resolution"]}
    assert lost == {900, 3600, 86_400}
    assert 86_400 in {reading.resolution for reading in right.final}
    assert truth["superseded_by_kind"]["other_resolution"]["count"] == len(right.superseded["other_resolution"])


def test_nobody_knows_the_fuse_of_an_unknown_point(tmp_path):
    both = frozenset({"above_fuse", "unknown_point"})
    met = 0
    for seed in range(4):
        folder = tmp_path / str(seed)
        truth = make(folder, points=14, days=1, seed=seed, faults=both)
        known = set(fleet_oracle.pq.read_table(folder / "reference/sites.parquet")["metering_point_id"].to_pylist())
        met += any(place["metering_point_id"] not in known for place in truth["places"]["above_fuse"])
        assert truth["flags"] == fleet_oracle.work_out(folder, [])["flags"]
    assert met


@pytest.mark.parametrize(("share", "resolutions"), [(0, {900}), (1, {900, 3600})])
def test_the_share_of_hours_is_what_was_asked_for(tmp_path, share, resolutions):
    truth = make(tmp_path, days=1, start=date(2026, 3, 29), hourly_share=share, faults=frozenset(), format="parquet")
    readings = fleet_oracle.read_fleet(tmp_path, []).sound
    assert {reading.resolution for reading in readings} == resolutions
    hourly = {reading.point for reading in readings if reading.resolution == 3600}
    assert len(hourly) == share * SMALL["points"]
    assert share or truth["readings_delivered"] == SMALL["points"] * 92


@pytest.mark.parametrize(("local_date", "hours"), [("2026-03-29", 23), ("2026-03-30", 24), ("2026-10-25", 25)])
def test_a_day_is_the_local_day(tmp_path, local_date, hours):
    truth = make(tmp_path, days=1, start=date.fromisoformat(local_date), faults=frozenset(), format="parquet")
    assert list(truth["dates"]) == [local_date]
    readings = fleet_oracle.read_fleet(tmp_path, []).sound
    minutes = {point: 0 for point, *_ in readings}
    for reading in readings:
        minutes[reading.point] += reading.resolution // 60
    assert set(minutes.values()) == {hours * 60}


def test_some_points_change_to_quarter_hours_in_the_middle_of_a_file(tmp_path):
    make(tmp_path, faults=frozenset(), format="parquet")
    resolutions = {}
    for reading in fleet_oracle.read_fleet(tmp_path, []).sound:
        key = (reading.point, fleet_oracle.local_date(reading.start))
        resolutions.setdefault(key, set()).add(reading.resolution)
    assert set(map(frozenset, resolutions.values())) == {frozenset({900}), frozenset({3600}), frozenset({900, 3600})}


def test_registration_follows_the_readings_and_stands_in_the_name(fleets):
    for folder, truth in fleets.values():
        assert [file["name"] for file in truth["files"]] == sorted(
            (path.name for path in (folder / "readings").iterdir()), key=lambda name: name.split("-")[-1]
        )
        assert all(file["registered_at"] in file["name"] for file in truth["files"])
        assert sum(file["readings"] for file in truth["files"]) == truth["readings_delivered"]


@pytest.mark.parametrize("name", ["avro-series", "parquet", "datahub-csv"])
def test_every_file_fault_adds_one_bad_file(tmp_path, fleets, name):
    truth = make(tmp_path, format=name, file_faults=frozenset(FILE_FAULTS))
    carried = [fault for fault in FILE_FAULTS if fault not in NOT_CARRIED[name]]
    assert [file["fault"] for file in truth["bad_files"]] == carried
    assert truth["rows_final"] == fleets[name][1]["rows_final"]
    contents = {file["fault"]: (tmp_path / "readings" / file["name"]).read_bytes() for file in truth["bad_files"]}
    assert contents["empty"] == b""
    if name == "avro-series":  # a sound file ends with the marker that its header names
        for fault in ("truncated", "wrong_sync"):
            assert contents[fault].count(contents[fault][-16:]) == 1
        sound = (tmp_path / "readings" / truth["files"][0]["name"]).read_bytes()
        assert sound.count(sound[-16:]) >= 2
    if name == "parquet":
        assert contents["truncated"].startswith(b"PAR1")
        assert not contents["truncated"].endswith(b"PAR1")


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"points": 0}, "points"),
        ({"days": 0}, "days"),
        ({"seed": -1}, "seed"),
        ({"hourly_share": 1.1}, "hourly_share"),
        ({"file_points": 0}, "file_points"),
        ({"format": "xlsx"}, "format"),
        ({"faults": frozenset({"flood"})}, "faults"),
        ({"file_faults": frozenset({"flood"})}, "file_faults"),
        ({"points": 20, "days": 1}, "points"),
        ({"points": 2, "faults": frozenset({"check_digit"})}, "points"),
    ],
)
def test_what_cannot_be_generated_is_refused_with_a_remedy(tmp_path, options, where):
    with pytest.raises(MeterveilError) as refused:
        make(tmp_path / "fleet", **options)
    assert refused.value.where == where
    assert refused.value.remedy
    assert not (tmp_path / "fleet").exists()


def test_a_folder_with_readings_is_left_alone(tmp_path):
    make(tmp_path, faults=frozenset())
    with pytest.raises(MeterveilError, match="holds readings already"):
        make(tmp_path, faults=frozenset())
