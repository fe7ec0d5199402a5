"""What was erased leaves with the next fold, and no delivery brings it back."""

import json
import shutil
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from history_oracle import BUCKETS, HOUR, POINTS, day_of, deliver, write_readings
from lent_lake import assert_clean, keep_copy, lend
from privacy_support import make_fleet
from whole_job import DATA_TABLES, assert_same_rows, make_keys, query, rows_of
from whole_job import ingest as small_ingest

from pipeline.cells import READINGS
from pipeline.commit import commit_run
from pipeline.erasure import Erasures, add_tombstones, digest_tombstones, read_tombstones
from pipeline.errors import MeterveilError
from pipeline.journal import sole_committer
from pipeline.keys import Keyset, open_keyset
from pipeline.lake import create_lake, open_lake

QUARANTINE, CHANGES = "operational.quarantine_readings", "operational.changes"
FIRST, LAST = date(2026, 3, 29), date(2026, 3, 29)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake of two days."""
    made = make_fleet(tmp_path_factory.mktemp("erasure"))
    assert made.ingest(buckets=2).code == 0
    return keep_copy(made)


@pytest.fixture
def lake(made):
    with lend(made) as lake:
        yield lake


@pytest.fixture
def keyset(made):
    return open_keyset(made.folder / "keyset.json", str(made.folder / "kek.bin"))


def erase(lake, keyset, ids, first=FIRST, last=LAST) -> None:
    with sole_committer(lake):
        add_tombstones(lake, keyset, pa.array(ids, pa.string()), first, last)


def count(lake, where: str) -> int:
    rows = query(lake.root, READINGS, f"SELECT count(*) FROM t WHERE {where}")
    return rows[0][0] if rows else 0


def in_quarantine(lake) -> list[tuple]:
    """What was set aside of known points: point, local date, and the rest of the row."""
    local = "(start::TIMESTAMPTZ AT TIME ZONE 'Europe/Helsinki')::DATE"
    rows = query(lake.root, QUARANTINE, f"SELECT metering_point_id, {local}, * FROM t WHERE length(start) = 20")
    return [row for row in rows if row[0] in points_of(lake)]


def points_of(lake) -> list[str]:
    return [row[0] for row in query(lake.root, READINGS, "SELECT DISTINCT metering_point_id FROM t ORDER BY ALL")]


def ingest(made, **options) -> dict[str, int]:
    record = made.folder / "record.json"
    assert made.ingest(force=True, run_record=record, **options).code == 0
    return json.loads(record.read_text())["totals"]["counts"]


def test_readings_under_a_tombstone_are_dropped_and_counted_and_no_others(made, lake, keyset):
    point = points_of(lake)[0]
    others = f"NOT (metering_point_id = '{point}' AND local_date = '{FIRST}')"
    held, rest = count(lake, f"NOT ({others})"), count(lake, others)
    elsewhere = count(lake, f"metering_point_id = '{point}'") - held
    assert all((held, rest, elsewhere))
    erase(lake, keyset, [point])
    counts = ingest(made)
    assert counts["dropped:erased"] >= 2 * held  # what the cell held, and what came again
    assert count(lake, f"NOT ({others})") == 0
    assert count(lake, others) == rest
    assert_clean(lake)
    assert ingest(made)["dropped:erased"] == counts["dropped:erased"] - held


def test_a_lake_that_never_had_it_is_the_same(made, lake, keyset):
    points = points_of(lake)[:3]
    erase(lake, keyset, points)
    ingest(made)
    other = create_lake(made.folder / "other", bucket_count=2)
    erase(other, keyset, points)
    assert made.ingest(lake=other.root).code == 0
    assert_same_rows(lake.root, other.root, [name for name in DATA_TABLES if name != "operational.quarantine_readings"])


def test_all_of_a_day_can_be_erased(made, lake, keyset):
    erase(lake, keyset, points_of(lake), date(2000, 1, 1), date(2100, 1, 1))
    counts = ingest(made)
    assert counts["after"] == 0
    assert count(lake, "true") == 0
    assert_clean(lake)
    other = create_lake(made.folder / "empty", bucket_count=2)
    shutil.copy(lake.operational / "tombstones.json", other.operational)
    assert made.ingest(lake=other.root).code == 0
    assert not len(rows_of(other.root, READINGS))


def test_what_is_erased_while_a_run_is_at_work_stays_out(made, lake, keyset, monkeypatch):
    points = points_of(lake)

    def erase_first(run, *args):
        erase(lake, keyset, points)
        return commit_run(run, *args)

    monkeypatch.setattr("pipeline.ingest.commit_run", erase_first)
    assert any(row[1] == FIRST for row in in_quarantine(lake))
    counts = ingest(made)
    assert counts["dropped:erased"] > 0
    assert counts["not_set_aside:erased"] > 0
    assert not any(row[1] == FIRST for row in in_quarantine(lake))
    assert count(lake, f"local_date = '{FIRST}'") == 0
    assert_clean(lake)


def test_what_was_set_aside_of_an_erased_point_goes_with_the_next_commit_and_stays_out(made, lake, keyset):
    before = in_quarantine(lake)
    points = {row[0] for row in before if row[1] == FIRST}
    rest = [row for row in before if row[0] not in points or row[1] != FIRST]
    assert points
    assert len(rest) < len(before)
    erase(lake, keyset, points)
    assert made.ingest(made.readings[-1], force=True).code == 0
    assert sorted(in_quarantine(lake), key=str) == sorted(rest, key=str), "of inputs that were not read, too"
    assert_clean(lake)
    counts = ingest(made)
    assert counts["not_set_aside:erased"] == len(before) - len(rest)
    assert sorted(in_quarantine(lake), key=str) == sorted(rest, key=str)
    assert_clean(lake)


def test_a_reading_whose_day_nobody_knows_goes_with_any_day_of_its_point(lake, keyset):
    erase(lake, keyset, ["P", "Q"], date(2026, 3, 1), date(2026, 3, 3))
    erase(lake, keyset, ["P"], date(2026, 3, 9), date(2026, 3, 9))
    days = np.array([20512, 20513, 20516, 20521, 20521, 0, 0])  # the last of February, 1, 4 and 9 March
    ids = pa.array(["P", "P", "P", "P", "Q", "Q", "R"]).dictionary_encode()
    erased = Erasures(read_tombstones(lake), keyset).find_rows(ids, days, days > 0)
    assert erased.tolist() == [False, True, False, True, False, True, False]


def test_what_corrections_changed_of_an_erased_point_goes_and_no_more_comes(tmp_path):
    keys, lake = make_keys(tmp_path), tmp_path / "lake"

    def bring(registered: int, energy: int, *points: int) -> None:
        parts = [deliver(point, 1, HOUR, 2, 2, registered, "OK", energy) for point in points]
        file = write_readings(tmp_path / f"{registered}.parquet", [one for part in parts for one in part])
        small_ingest(lake, [file], keys, **({} if registered else {"buckets": BUCKETS}))

    def changed() -> set[tuple]:
        return set(query(lake, CHANGES, "SELECT metering_point_id, energy_after::DOUBLE * 1e6 FROM t"))

    bring(0, 1, 0, 1)
    bring(1, 3, 0, 1)
    assert changed() == {(POINTS[0], 7), (POINTS[1], 7)}
    keyset = open_keyset(keys["keyset"], keys["kek"])
    erase(open_lake(lake), keyset, [POINTS[0]], day_of(1), day_of(1))
    bring(2, 5, 1)
    assert changed() == {(POINTS[1], 7), (POINTS[1], 11)}
    bring(3, 7, 0, 1)
    assert changed() == {(POINTS[1], 7), (POINTS[1], 11), (POINTS[1], 15)}
    assert_clean(open_lake(lake))


def test_tombstones_tell_nobody_whose_they_are(lake, keyset):
    points = points_of(lake)[:2]
    erase(lake, keyset, points)
    erase(lake, keyset, points)
    assert len(read_tombstones(lake)) == 2
    path = lake.operational / "tombstones.json"
    assert not any(point in path.read_text() for point in points)
    assert path.stat().st_mode & 0o077 == 0
    assert digest_tombstones(lake)


def test_days_on_both_ends_are_covered(lake, keyset):
    erase(lake, keyset, ["P"], date(2026, 3, 1), date(2026, 3, 3))
    erasures = Erasures(read_tombstones(lake), keyset)
    assert [day for day in range(1, 6) if erasures.covers(date(2026, 3, day))] == [1, 2, 3]
    assert erasures.finder(date(2026, 3, 2))(pa.array(["Q", "P"])).to_pylist() == [False, True]
    assert erasures.finder(date(2026, 3, 4)) is None


def test_without_the_key_of_a_tombstone_nothing_works(lake, keyset):
    erase(lake, keyset, ["P"])
    with pytest.raises(MeterveilError, match="known what was erased"):
        Erasures(read_tombstones(lake), Keyset((), keyset.primary))


def test_damaged_tombstones_stop_a_run(made, lake):
    (lake.operational / "tombstones.json").write_text("[{]")
    assert made.ingest(force=True).code == 1
