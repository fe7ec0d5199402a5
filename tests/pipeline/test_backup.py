"""A backup is the lake of one moment, whatever is at work beside it; and comes back as it was, or not at all."""

import random
import shutil
import stat
import threading
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from lent_lake import assert_clean
from whole_job import DATA_TABLES, ingest, rows_of

from pipeline import backup as module
from pipeline.backup import back_up, list_backups, restore
from pipeline.errors import MeterveilError
from pipeline.lake import open_lake

NOW = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)


@pytest.fixture
def half(tmp_path, fleet_run):
    """A lake that has the first half of a fleet's files; the path of the lake, and the files of the other half."""
    files = sorted((fleet_run.folder / "readings").iterdir())
    lake = tmp_path / "lake"
    ingest(lake, files[: len(files) // 2], fleet_run.keys, reference=fleet_run.folder / "reference", buckets=2)
    return lake, files[len(files) // 2 :]


def tables(lake):
    return {name: rows_of(lake, name) for name in DATA_TABLES}


def modes(lake):
    passing = {"commit.lock", "leases", "staging", "journal"}
    paths = (path for path in lake.rglob("*") if not passing.intersection(path.parts))
    return {str(path.relative_to(lake)): stat.S_IMODE(path.stat().st_mode) for path in paths}


def test_each_backup_comes_back_as_the_lake_was(half, tmp_path, fleet_run):
    lake, rest = half
    states, stamps = [], []
    for number, files in enumerate([[], rest]):
        if files:
            ingest(lake, files, fleet_run.keys)
        states.append((tables(lake), modes(lake)))
        done = back_up(open_lake(lake), tmp_path / "backups", NOW + timedelta(days=number))
        stamps.append(done["backup"])
    assert 0 < done["new_files"] < done["files"]
    for stamp, (rows, permissions) in zip(stamps, states, strict=True):
        shutil.rmtree(lake)
        restore(tmp_path / "backups", lake, stamp)
        assert tables(lake) == rows
        assert modes(lake) == permissions
        assert_clean(open_lake(lake))
    shutil.rmtree(lake)
    restore(tmp_path / "backups", lake)  # the newest
    ingest(lake, rest, fleet_run.keys)  # and it works
    assert tables(lake) == states[1][0]
    assert_clean(open_lake(lake))


def test_what_a_backup_has_is_not_copied_again(half, tmp_path):
    lake, _ = half
    first = back_up(open_lake(lake), tmp_path / "backups", NOW)
    again = back_up(open_lake(lake), tmp_path / "backups", NOW + timedelta(days=1))
    assert first["new_files"] > 0
    assert again["new_files"] == 0
    assert again["files"] == first["files"]


def test_a_backup_while_runs_commit_is_of_one_moment(half, tmp_path, fleet_run):
    lake, rest = half
    before = tables(lake)
    run = threading.Thread(target=ingest, args=(lake, rest, fleet_run.keys))
    run.start()
    number = 0
    while run.is_alive():
        back_up(open_lake(lake), tmp_path / "backups", NOW + timedelta(seconds=number))
        number += 1
    run.join()
    after = tables(lake)
    found = [one.stamp for one in list_backups(tmp_path / "backups")]
    for stamp in {found[0], found[-1], *random.sample(found, min(1, len(found)))}:
        shutil.rmtree(lake)
        restore(tmp_path / "backups", lake, stamp)
        assert tables(lake) in (before, after)
        assert_clean(open_lake(lake))


def test_a_backup_that_dies_is_none_and_the_next_one_is_whole(half, tmp_path):
    lake, _ = half
    with patch.object(module, "_copy_lasting", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        back_up(open_lake(lake), tmp_path / "backups", NOW)
    assert list_backups(tmp_path / "backups") == []
    rows = tables(lake)
    back_up(open_lake(lake), tmp_path / "backups", NOW)
    shutil.rmtree(lake)
    restore(tmp_path / "backups", lake)
    assert tables(lake) == rows


def test_files_that_vanish_meanwhile_begin_it_again(half, tmp_path):
    lake, _ = half
    copy, calls = module._copy_lasting, []

    def vanish(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise FileNotFoundError
        return copy(*arguments)

    with patch.object(module, "_copy_lasting", vanish):
        done = back_up(open_lake(lake), tmp_path / "backups", NOW)
    assert done["files"] > 5
    with (
        patch.object(module, "_copy_lasting", side_effect=FileNotFoundError),
        pytest.raises(MeterveilError, match="vanish"),
    ):
        back_up(open_lake(lake), tmp_path / "backups", NOW + timedelta(days=1))


@pytest.mark.parametrize("where", ["files/operational/readings/data", "backups", "files/operational/digests"])
def test_damage_is_found_before_anything_is_written(half, tmp_path, where):
    lake, _ = half
    back_up(open_lake(lake), tmp_path / "backups", NOW)
    shutil.rmtree(lake)
    damaged = next(
        path
        for path in sorted((tmp_path / "backups" / where).rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    )
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(MeterveilError, match="not the bytes"):
        restore(tmp_path / "backups", lake)
    assert not lake.exists()


def test_a_backup_is_restored_only_where_the_lake_was_and_over_nothing(half, tmp_path):
    lake, _ = half
    with pytest.raises(MeterveilError, match="can't be in its lake"):
        back_up(open_lake(lake), lake / "backups", NOW)
    back_up(open_lake(lake), tmp_path / "backups", NOW)
    with pytest.raises(MeterveilError, match="only where it was"):
        restore(tmp_path / "backups", tmp_path / "elsewhere")
    with pytest.raises(MeterveilError, match="something here"):
        restore(tmp_path / "backups", lake)
    with pytest.raises(MeterveilError, match="no such backup"):
        restore(tmp_path / "backups", lake, "20200101T000000Z")


def test_no_key_is_in_a_backup(half, tmp_path, fleet_run):
    lake, _ = half
    back_up(open_lake(lake), tmp_path / "backups", NOW)
    secrets = [fleet_run.keys["keyset"].read_bytes()[:64], open(fleet_run.keys["kek"], "rb").read()]
    for path in (tmp_path / "backups").rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert not any(secret in path.read_bytes() for secret in secrets)
