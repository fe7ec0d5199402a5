import json
import os
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_lake import ANALYTICS, CELL, OPERATIONAL, PLAN, write_readings

from pipeline.errors import MeterveilError
from pipeline.iceberg import current_files, replace_files
from pipeline.lake import create_lake, is_lake, open_lake
from pipeline.settings import FORMAT_VERSION, LakeSettings


@pytest.fixture
def lake(tmp_path):
    lake = create_lake(tmp_path / "lake", bucket_count=4)
    lake.ensure_tables(PLAN)
    return lake


@given(count=st.integers(-4, 5000))
def test_bucket_counts_are_powers_of_two(count):
    if count > 0 and count.bit_count() == 1:
        LakeSettings(1, "Europe/Helsinki", count, "iceberg-murmur3")
    else:
        with pytest.raises(MeterveilError, match="power of two"):
            LakeSettings(1, "Europe/Helsinki", count, "iceberg-murmur3")


def test_operational_files_are_private_from_the_first_commit_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        lake = create_lake(tmp_path / "lake", bucket_count=4)
        lake.ensure_tables(PLAN)
        for of in (OPERATIONAL, ANALYTICS):
            replace_files(lake.table(of.name), [write_readings(lake, of)], [], {})
            replace_files(lake.table(of.name), [write_readings(lake, of)], [], {})
        lake.store_policy("version: 1\n")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in lake.root.rglob("*")}
    private = {path for path in modes if path.is_relative_to(lake.operational)}
    assert {modes[path] for path in private if path.is_dir()} == {0o700}
    assert {modes[path] for path in private if path.is_file()} == {0o600}
    assert {modes[path] for path in modes.keys() - private if path.is_file()} == {0o666}
    assert any(path.suffix == ".avro" for path in private)


def test_the_layout_is_the_documented_one(lake):
    replace_files(lake.table(ANALYTICS.name), [file := write_readings(lake, ANALYTICS)], [], {})
    assert sorted(path.name for path in lake.root.iterdir()) == ["analytics", "meterveil.json", "operational"]
    assert lake.table("operational.readings").location() == str(lake.root / "operational" / "readings")
    assert file.path.startswith(str(lake.root / "analytics/readings/data/local_date=2026-03-29/00000-"))
    assert json.loads((lake.root / "meterveil.json").read_text()) == {
        "format_version": FORMAT_VERSION,
        "time_zone": "Europe/Helsinki",
        "bucket_count": 4,
        "bucket_function": "iceberg-murmur3",
    }


def test_a_lake_travels_as_its_path(lake):
    lake.catalog("operational")
    there = pickle.loads(pickled := pickle.dumps(lake))  # noqa: S301 - our own bytes
    assert (there.root, there.settings) == (lake.root, lake.settings)
    assert len(pickled) < 300
    assert there.table("operational.readings").location() == lake.table("operational.readings").location()


def test_a_lake_is_opened_again_with_its_settings_only(lake):
    assert create_lake(lake.root, bucket_count=4).settings == lake.settings
    with pytest.raises(MeterveilError, match="made with 4 buckets"):
        create_lake(lake.root, bucket_count=8)
    with pytest.raises(MeterveilError, match="Europe/Helsinki"):
        create_lake(lake.root, bucket_count=4, time_zone="Europe/Oslo")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format_version": FORMAT_VERSION + 1, "colour": "blue"}, "upgrade meterveil"),
        ({"bucket_function": "crc32"}, "bucket function"),
        ({"time_zone": "Europe/Kouvola"}, "time zone"),
        ({"colour": "blue"}, "restore the file"),
    ],
)
def test_settings_of_another_kind_are_refused(lake, change, text):
    file = lake.root / "meterveil.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(MeterveilError, match=text):
        open_lake(lake.root)


def test_what_is_no_lake_is_refused(tmp_path):
    (tmp_path / "photo.jpg").touch()
    assert not is_lake(tmp_path)
    with pytest.raises(MeterveilError, match="not a lake"):
        open_lake(tmp_path)
    with pytest.raises(MeterveilError, match="not empty"):
        create_lake(tmp_path, bucket_count=4)
    with pytest.raises(MeterveilError, match="the path has #"):
        create_lake(tmp_path / "lake #1", bucket_count=4)


def test_names_with_spaces_and_letters_work(tmp_path):
    lake = create_lake(tmp_path / "järvi 'uusi', a=b", bucket_count=1)
    lake.ensure_tables(PLAN)
    replace_files(lake.table(ANALYTICS.name), [write_readings(lake, ANALYTICS)], [], {})
    assert lake.table(ANALYTICS.name).scan().to_arrow().num_rows == 3 * 92


def test_many_may_make_it_at_once(tmp_path):
    def make(_):
        lake = create_lake(tmp_path / "lake", bucket_count=2)
        lake.ensure_tables(PLAN)
        return lake.settings.bucket_count

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(make, range(8))) == {2}
    assert {name for (_, name) in open_lake(tmp_path / "lake").catalog("analytics").list_tables("analytics")} == {
        "daily",
        "readings",
    }


def test_a_creation_that_died_is_completed(tmp_path):
    lake = create_lake(tmp_path / "lake", bucket_count=2)
    (lake.root / "meterveil.json").rename(lake.root / ".meterveil.json.0123456789abcdef")
    (lake.operational / "catalog.db").write_bytes(b"")
    create_lake(lake.root, bucket_count=2).ensure_tables(PLAN)


def test_analytics_opens_alone(lake):
    file = write_readings(lake, ANALYTICS)
    replace_files(lake.table(ANALYTICS.name), [file], [], {})
    lake.store_policy("version: 1\n")
    lake.operational.rename(lake.root.parent / "away")
    (lake.root / "meterveil.json").unlink()
    for path in (lake.root, lake.analytics):
        assert is_lake(path)
        alone = open_lake(path)
        assert alone.root == lake.root
        assert [current.path for current in current_files(alone.table(ANALYTICS.name))] == [file.path]
        assert alone.stored_policy().read_text() == "version: 1\n"
        with pytest.raises(MeterveilError, match="operational: not there, or not readable"):
            alone.table("operational.readings")
    assert not lake.operational.exists()


def test_the_stored_policy_is_replaced(lake):
    assert lake.stored_policy() is None
    lake.store_policy("version: 1\n")
    lake.store_policy("version: 2\n")
    assert lake.stored_policy().read_text() == "version: 2\n"
    assert not list(lake.root.rglob(".policy*"))


def test_tables_are_made_once_and_their_columns_compared(lake):
    before = lake.table(ANALYTICS.name).metadata_location
    lake.ensure_tables(PLAN)
    assert lake.table(ANALYTICS.name).metadata_location == before
    narrower = replace(ANALYTICS, columns=ANALYTICS.columns[:4])
    with pytest.raises(MeterveilError, match="policy that it was made with"):
        lake.ensure_tables(replace(PLAN, datasets={ANALYTICS.name: narrower}))


def test_errors_name_the_remedy(lake):
    with pytest.raises(MeterveilError, match=r"analytics\.nothing: no such table"):
        lake.table("analytics.nothing")
    for name in ("readings", "quarantine.readings", "analytics.a.b"):
        with pytest.raises(MeterveilError, match="not a table's name"):
            lake.new_data_path(name, CELL)
    moved = lake.root.rename(lake.root.parent / "moved")
    with pytest.raises(MeterveilError, match="move the lake back"):
        open_lake(moved).table(ANALYTICS.name)
