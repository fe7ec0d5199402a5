"""A rebuild that is killed and gone on with, again and again, while somebody reads: the old tables or the new ones."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import date
from pathlib import Path

from kills import change_columns
from whole_job import ingest, large, make_keys, query

from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions
from pipeline.lake import CATALOG, open_lake
from pipeline.policy_file import load_policy
from pipeline.resume import interrupted_run
from pipeline.table_state import read_metadata
from pipeline.verify import verify_lake

#: 20 M readings.
POINTS, KILLS = 208_334, 10
_PROGRAM = (sys.executable, "-c", "import sys; from pipeline.cli import main; sys.exit(main())")
REBUILT = ("analytics.daily", "analytics.readings")


class Reader(threading.Thread):
    """Looks at a zone's tables as a reader does, as often as it can, and keeps what it sees."""

    def __init__(self, lake: Path) -> None:
        super().__init__()
        self.catalog, self.done = lake / "analytics" / CATALOG, threading.Event()
        self.seen: set[tuple[str, ...]] = set()
        self.missing: set[str] = set()
        self.looks = 0

    def run(self) -> None:
        while not self.done.is_set():
            with closing(sqlite3.connect(f"file:{self.catalog}?mode=ro", uri=True, timeout=30)) as catalog:
                rows = catalog.execute("SELECT table_name, metadata_location FROM iceberg_tables").fetchall()
            states = {f"analytics.{name}": read_metadata(name, location) for name, location in rows}
            self.missing |= {
                file.path for name in REBUILT for file in states[name].files() if not Path(file.path).exists()
            }
            self.seen.add(tuple(states[name].summary()["meterveil.policy"] for name in REBUILT))
            self.looks += 1
            time.sleep(0.01)


@large
def test_killed_and_gone_on_with_while_somebody_reads(tmp_path):
    generate_fleet(FleetOptions(points=POINTS, days=1, start=date(2026, 3, 28), format="parquet"), tmp_path)
    keys, lake, policy = make_keys(tmp_path), tmp_path / "lake", change_columns(tmp_path / "policy.yaml")
    readings = sorted((tmp_path / "readings").iterdir())
    ingest(lake, readings, keys, reference=tmp_path / "reference", buckets=16)
    command = [*_PROGRAM, "rebuild", "--lake", str(lake), "--policy", str(policy)]
    command += ["--keyset", str(keys["keyset"]), "--kek", keys["kek"]]
    old, new = load_policy(open_lake(lake).stored_policy()).digest, load_policy(policy).digest
    shutil.copytree(lake, tmp_path / "copy")
    started = time.monotonic()
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    seconds = time.monotonic() - started
    wanted = {name: digest_rows(lake, name) for name in REBUILT}
    shutil.rmtree(lake)
    (tmp_path / "copy").rename(lake)

    chance, reader, killed = random.Random(1), Reader(lake), 0
    reader.start()
    try:
        for _ in range(KILLS):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(0.3, 0.9) * seconds / (1 + killed / 3))
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
            found = verify_lake(open_lake(lake), load_policy(open_lake(lake).stored_policy()))
            assert not found.violations, found.describe()
        assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
        time.sleep(0.1)
    finally:
        reader.done.set()
        reader.join()
    assert killed
    assert not reader.missing
    assert reader.seen == {(old, old), (new, new)}, reader.looks
    assert not interrupted_run(open_lake(lake))
    assert {name: digest_rows(lake, name) for name in REBUILT} == wanted
    found = verify_lake(open_lake(lake), load_policy(policy))
    assert not found.violations, found.describe()
    sys.stdout.write(f"{killed} kills, {reader.looks} looks, {seconds:.1f} s for a rebuild that nobody kills\n")


def digest_rows(lake: Path, name: str) -> list[tuple]:
    """Add up a table's rows, so that no order counts and any other row shows."""
    return query(lake, name, "SELECT count(*), sum(hash(t)::hugeint) FROM t")
