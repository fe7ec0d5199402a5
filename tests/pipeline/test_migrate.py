"""A lake of an older format can be read, is not changed before it is migrated, and then goes on as ever."""

import json

import pytest
from privacy_support import make_fleet, run
from whole_job import DATA_TABLES, rows_of

from pipeline import migrate as module
from pipeline.erasure import read_tombstones
from pipeline.errors import MeterveilError
from pipeline.horizons import read_horizons
from pipeline.lake import MEMORY, open_lake
from pipeline.migrate import migrate
from pipeline.settings import FORMAT_VERSION


@pytest.fixture
def old(tmp_path):
    """A lake of format 1, as the versions before the horizons left it."""
    made = make_fleet(tmp_path)
    assert made.ingest(*made.readings[:2], buckets=2).code in (0, 3)
    for name in MEMORY:
        (made.lake / "operational" / name).unlink()
    _set_format(made.lake, 1)
    return made


def _set_format(lake, version):
    for path in (lake / "meterveil.json", lake / "analytics" / "meterveil.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))


def formats(lake):
    paths = (lake / "meterveil.json", lake / "analytics" / "meterveil.json")
    return [json.loads(path.read_text())["format_version"] for path in paths]


def test_an_older_lake_is_read_and_not_changed(old):
    assert run("tables", "--lake", old.lake).code == 0
    assert run("verify", "--lake", old.lake).code == 0
    before = {path: path.stat().st_mtime_ns for path in old.lake.rglob("*.json")}
    for ended in (old.ingest(), run("maintain", "--lake", old.lake, "--yes")):
        assert ended.code == 1
        assert "meterveil migrate --lake" in ended.err
    assert before == {path: path.stat().st_mtime_ns for path in old.lake.rglob("*.json")}


def test_a_migrated_lake_goes_on_as_ever(old):
    rows = {name: rows_of(old.lake, name) for name in DATA_TABLES}
    assert run("migrate", "--lake", old.lake).code == 0
    assert formats(old.lake) == [FORMAT_VERSION] * 2
    assert {name: rows_of(old.lake, name) for name in DATA_TABLES} == rows
    assert old.ingest().code in (0, 3)
    assert run("verify", "--lake", old.lake).code == 0
    assert migrate(open_lake(old.lake)) == (FORMAT_VERSION, FORMAT_VERSION)  # once more is once


def test_a_migration_that_dies_is_begun_again(old, monkeypatch):
    for name in ("write_memory", "write_settings"):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                migrate(open_lake(old.lake))
        assert formats(old.lake) == [1, 1]
    assert migrate(open_lake(old.lake)) == (1, FORMAT_VERSION)
    assert formats(old.lake) == [FORMAT_VERSION] * 2


def test_every_format_has_a_step_to_the_next():
    assert sorted(module._STEPS) == list(range(1, FORMAT_VERSION))


@pytest.mark.parametrize(("name", "read"), [("horizons.json", read_horizons), ("tombstones.json", read_tombstones)])
def test_what_a_lake_must_not_forget_is_missed(old, name, read):
    migrate(open_lake(old.lake))
    lake = open_lake(old.lake)
    assert not read(lake)
    (lake.operational / name).unlink()
    with pytest.raises(MeterveilError, match="could come back"):
        read(lake)
    assert old.ingest().code == 1
