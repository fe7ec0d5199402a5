"""What was erased leaves with the next fold, and no delivery brings it back."""

import json
import shutil
from datetime import date

import pyarrow as pa
import pytest
from privacy_support import make_fleet
from whole_job import DATA_TABLES, assert_same_rows, query, rows_of

from pipeline.cells import READINGS
from pipeline.commit import commit_run
from pipeline.erasure import Erasures, add_tombstones, digest_tombstones, read_tombstones
from pipeline.errors import MeterveilError
from pipeline.journal import sole_committer
from pipeline.keys import Keyset, open_keyset
from pipeline.lake import create_lake, open_lake
from pipeline.policy_file import load_policy
from pipeline.verify import verify_lake

FIRST, LAST = date(2026, 3, 29), date(2026, 3, 29)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake of two days."""
    made = make_fleet(tmp_path_factory.mktemp("erasure"))
    assert made.ingest(buckets=2).code == 0
    shutil.copytree(made.lake, made.folder / "copy")
    return made


@pytest.fixture
def lake(made):
    yield open_lake(made.lake)
    shutil.rmtree(made.lake)
    shutil.copytree(made.folder / "copy", made.lake)


@pytest.fixture
def keyset(made):
    return open_keyset(made.folder / "keyset.json", str(made.folder / "kek.bin"))


def erase(lake, keyset, ids, first=FIRST, last=LAST) -> None:
    with sole_committer(lake):
        add_tombstones(lake, keyset, pa.array(ids, pa.string()), first, last)


def count(lake, where: str) -> int:
    rows = query(lake.root, READINGS, f"SELECT count(*) FROM t WHERE {where}")
    return rows[0][0] if rows else 0


def points_of(lake) -> list[str]:
    return [row[0] for row in query(lake.root, READINGS, "SELECT DISTINCT metering_point_id FROM t ORDER BY ALL")]


def ingest(made, **options) -> dict[str, int]:
    record = made.folder / "record.json"
    assert made.ingest(force=True, run_record=record, **options).code == 0
    return json.loads(record.read_text())["totals"]["counts"]


def assert_clean(lake) -> None:
    findings = verify_lake(lake, load_policy(lake.stored_policy()))
    assert [place for check in findings for place in check.places] == []


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
    counts = ingest(made)
    assert counts["dropped:erased"] > 0
    assert count(lake, f"local_date = '{FIRST}'") == 0
    assert_clean(lake)


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
