"""Whatever fails under a run (disk, permission, catalog, clock, input, worker): the lake is as before or as after."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from privacy_support import PROGRAM
from whole_job import DATA_TABLES, ingest, large, make_keys, rows_of

from pipeline.errors import BadFileError, MeterveilError
from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions
from pipeline.journal import sole_committer
from pipeline.lake import open_lake
from pipeline.policy_file import load_policy
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import plan_file, read_split
from pipeline.verify import verify_lake


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    generate_fleet(FleetOptions(points=200, days=2, start=date(2026, 3, 28), format="parquet"), folder)
    return folder, make_keys(folder), sorted((folder / "readings").iterdir())


def command(fleet, lake, files, *more):
    folder, keys, _ = fleet
    options = ["--keyset", str(keys["keyset"]), "--kek", keys["kek"], "--lake", str(lake), *more]
    return [*PROGRAM, "ingest", "--readings", *map(str, files), "--reference", str(folder / "reference"), *options]


def run(fleet, lake, files, *more):
    """Run the real command; its exit code and what it says."""
    ended = subprocess.run(command(fleet, lake, files, *more), capture_output=True, text=True, check=False)
    return ended.returncode, ended.stderr


#: The command, which kills itself at a call of a function: before it, or after.
DYING = """
import os, sys
from importlib import import_module

module, owner, name, number, when = sys.argv.pop(1).split()
owner = getattr(import_module(module), owner)
whole, calls = getattr(owner, name), []

def dying(*args, **kwargs):
    calls.append(name)
    if len(calls) == int(number):
        if when == "after":
            whole(*args, **kwargs)
        os.kill(os.getpid(), 9)
    return whole(*args, **kwargs)

setattr(owner, name, staticmethod(dying) if name == "_write_metadata" else dying)
from pipeline.cli import main
sys.exit(main())
"""


def begin(fleet, lake):
    folder, keys, files = fleet
    ingest(lake, files[:1], keys, reference=folder / "reference", buckets=2)
    return tables(lake)


def tables(lake):
    return {name: rows_of(lake, name) for name in DATA_TABLES}


def assert_whole(lake):
    """Finish what was begun, as the next command does, then look."""
    opened = open_lake(lake)
    with sole_committer(opened):
        pass
    findings = verify_lake(opened, load_policy(opened.stored_policy()))
    assert findings.violations == 0, findings.describe()


def assert_nothing_left(lake):
    opened = open_lake(lake)
    findings = verify_lake(opened, load_policy(opened.stored_policy()))
    assert [place for check in findings for place in check.places] == []


def assert_one_line(said):
    assert said.startswith("meterveil: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def done(fleet, tmp_path_factory):
    """What the lake holds before the run of the tests, and after it."""
    lake = tmp_path_factory.mktemp("done") / "lake"
    before = begin(fleet, lake)
    folder, keys, files = fleet
    ingest(lake, files, keys, reference=folder / "reference")
    return before, tables(lake)


def assert_before_or_after(lake, done):
    assert tables(lake) in done


@contextmanager
def small_disk(folder, size):
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a disk of its own can be mounted by root alone, where the system lets it")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # what was looked at may be mapped still


def used_kb(folder):
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize // 1024


#: The rest of what a fault may hit.
more = partial(pytest.param, marks=large)


@pytest.mark.parametrize("share", [0.93, *map(more, (0.02, 0.3, 0.55, 0.8, 0.98))])
def test_a_disk_that_fills(fleet, done, tmp_path, share):
    disk = tmp_path / "disk"
    with small_disk(disk, 1 << 20):
        assert run(fleet, disk / "lake", fleet[2][:1], "--buckets", "2")[0] == 0
        at_first = used_kb(disk)
        shutil.copytree(disk / "lake", tmp_path / "copy")
        assert run(fleet, disk / "lake", fleet[2])[0] == 0
        needed = used_kb(disk) - at_first
        shutil.rmtree(disk / "lake")
        shutil.copytree(tmp_path / "copy", disk / "lake")
        # Staged frames are gone by the end, so what is needed is more than what is left.
        subprocess.run(["mount", "-o", f"remount,size={at_first + int(needed * share)}k", disk], check=True)
        code, said = run(fleet, disk / "lake", fleet[2])
        assert code == 1
        assert_one_line(said)
        subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
        assert_whole(disk / "lake")
        assert_before_or_after(disk / "lake", done)
        assert run(fleet, disk / "lake", fleet[2])[0] == 0
        assert_whole(disk / "lake")
        assert tables(disk / "lake") == done[1]
        assert not list((disk / "lake" / "operational" / "staging").iterdir())


@contextmanager
def immutable(path):
    if (
        shutil.which("chattr") is None
        or subprocess.run(["chattr", "+i", path], capture_output=True, check=False).returncode
    ):
        pytest.skip("this file system, or user, can't make a folder that not even root may write to")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


@pytest.mark.parametrize(
    "folder", ["operational", *map(more, ("analytics", "analytics/readings/data", "analytics/readings/metadata"))]
)
def test_a_folder_that_may_not_be_written_to(fleet, done, tmp_path, folder):
    lake = tmp_path / "lake"
    begin(fleet, lake)
    with immutable(lake / folder):
        code, said = run(fleet, lake, fleet[2])
        assert code == 1
        assert_one_line(said)
    assert_whole(lake)
    assert_before_or_after(lake, done)
    assert run(fleet, lake, fleet[2])[0] == 0
    assert_whole(lake)
    assert tables(lake) == done[1]


@large
def test_a_permission_that_is_lost_half_way(fleet, done, tmp_path):
    lake = tmp_path / "lake"
    begin(fleet, lake)
    data = lake / "operational" / "readings" / "data"
    at_first = len(list(data.rglob("*.parquet")))
    with subprocess.Popen(command(fleet, lake, fleet[2]), stderr=subprocess.PIPE, text=True) as process:
        while len(list(data.rglob("*.parquet"))) == at_first and process.poll() is None:
            time.sleep(0.0005)
        with immutable(lake / "analytics" / "readings" / "metadata"):
            said = process.stderr.read()
    if process.returncode:  # it lost the permission in time
        assert_one_line(said)
    assert_whole(lake)
    assert run(fleet, lake, fleet[2])[0] == 0
    assert tables(lake) == done[1]


def metadata_files(lake):
    """Files of metadata, and drafts of what replaces a file."""
    return {*lake.glob("*/*/metadata/*"), *lake.glob("operational/**/.*.json.*"), *lake.glob("*/.*.yaml.*")}


@pytest.mark.parametrize(
    ("held", "instant"),
    [
        (True, "pyiceberg.catalog MetastoreCatalog _write_metadata 3 before"),  # manifests that no metadata names
        more(True, "pyiceberg.catalog MetastoreCatalog _write_metadata 3 after"),  # metadata that no catalog names
        more(False, "pyiceberg.catalog MetastoreCatalog _write_metadata 3 after"),  # of a table that is in no catalog
        (True, "pathlib Path replace 4 before"),  # the journal, not in its place yet
    ],
    ids=["manifests", "metadata", "a table", "the journal"],
)
def test_what_a_killed_run_wrote_and_no_table_ever_named_goes_with_the_next(fleet, done, tmp_path, held, instant):
    lake, options = tmp_path / "lake", ("--buckets", "2")
    if held:
        begin(fleet, lake)
    files = fleet[2]
    program = [PROGRAM[0], "-c", DYING, instant, *command(fleet, lake, files, *options)[len(PROGRAM) :]]
    assert subprocess.run(program, capture_output=True, check=False).returncode == -signal.SIGKILL
    with sole_committer(open_lake(lake)):
        left = metadata_files(lake)
    assert run(fleet, lake, files, *options)[0] == 0
    assert_nothing_left(lake)
    assert left - metadata_files(lake)
    assert tables(lake) == done[1]


@pytest.mark.parametrize("zone", ["operational", "analytics"])
def test_a_catalog_that_another_program_holds(fleet, done, tmp_path, zone):
    lake = tmp_path / "lake"
    begin(fleet, lake)
    folder, keys, files = fleet
    holder = sqlite3.connect(lake / zone / "catalog.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with (
            patch("pipeline.lake.CATALOG_TIMEOUT_S", 0.2),
            patch("pipeline.catalog.CATALOG_TIMEOUT_S", 0.2),
            pytest.raises(MeterveilError, match="locked"),
        ):
            ingest(lake, files, keys, reference=folder / "reference")
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert_whole(lake)
    assert_before_or_after(lake, done)
    ingest(lake, files, keys)
    assert tables(lake) == done[1]


def test_a_clock_that_is_set_back_is_waited_for_or_told(fleet, done, tmp_path):
    lake = tmp_path / "lake"
    _, keys, files = fleet
    now = time.time()
    with patch("time.time", lambda: now + 7200):
        begin(fleet, lake)
    with pytest.raises(MeterveilError, match="behind the lake's last commit"):
        ingest(lake, files, keys)
    with patch("time.time", lambda: now + 7200 - 1 + time.monotonic() - started) as _:
        started = time.monotonic()
        ingest(lake, files, keys)
    for name in DATA_TABLES:
        times = [entry["timestamp-ms"] for entry in open_lake(lake).state(name).log]
        assert times == sorted(times), name
    assert tables(lake) == done[1]


def test_an_input_that_changes_while_it_is_read(fleet, tmp_path):
    path = shutil.copy2(fleet[2][0], tmp_path / "readings.parquet")
    [split, *_] = plan_file(str(path), ReadOptions())
    assert list(read_split(split, ReadOptions()))
    content = Path(path).read_bytes()
    for change in (content + b" ", content[:-1], content[: len(content) // 2], content):  # the last: written again
        time.sleep(0.01)
        Path(path).write_bytes(change)
        with pytest.raises(BadFileError, match="changed while it was read"):
            list(read_split(split, ReadOptions()))
    Path(path).unlink()
    with pytest.raises(BadFileError, match="changed while it was read"):
        list(read_split(split, ReadOptions()))


@pytest.mark.parametrize(
    "step", ["pipeline.cells.fold", *map(more, ("pipeline.reading.validate", "pipeline.steps.write_frames"))]
)
def test_a_worker_that_fails(fleet, done, tmp_path, step):
    lake = tmp_path / "lake"
    before = begin(fleet, lake)
    folder, keys, files = fleet
    unforeseen = pytest.raises(MeterveilError, match=r"RuntimeError in .* which nobody foresaw")
    with patch(step, side_effect=RuntimeError("P-1234567 lives here")), unforeseen as told:
        ingest(lake, files, keys, reference=folder / "reference")
    assert "1234567" not in str(told.value)
    assert tables(lake) == before
    assert_whole(lake)
    ingest(lake, files, keys, reference=folder / "reference")
    assert tables(lake) == done[1]
