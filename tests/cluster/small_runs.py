"""A small fleet in two parts, and the ordinary command that takes them in on any engine: what tests of clusters share."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
from whole_job import DATA_TABLES, make_keys, paths_of, rows_in

from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions
from pipeline.journal import sole_committer
from pipeline.lake import is_lake, open_lake
from pipeline.policy_file import load_policy
from pipeline.stores import Place
from pipeline.verify import verify_lake

PROGRAM = (sys.executable, "-c", "import sys; from pipeline.cli import main; sys.exit(main())")
#: Beam's in-process engine with workers that are processes of their own.
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@dataclass
class Fleet:
    """A fleet with every fault over a change to summer time, and keys.

    Attributes:
        folder: where it is.
        keys: arguments that name the keys.
        expected: rows of every table after both parts, in one process.
        objects: where the objects of a store lie as files, by the beginning of their address.
    """

    folder: Path
    keys: dict[str, Any]
    expected: dict[str, pa.Table] = field(default_factory=dict)
    objects: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path) -> "Fleet":
        """Generate the fleet and take it in once, in one process."""
        options = FleetOptions(points=240, days=3, start=date(2026, 3, 28), format="parquet", file_points=90)
        generate_fleet(options, folder)
        fleet = cls(folder, make_keys(folder))
        for part in (1, 2):
            done = fleet.run(folder / "expected", part)
            assert done.returncode == 0, done.stderr
        fleet.expected.update(fleet.read_tables(folder / "expected"))
        return fleet

    def command(self, lake: Place, part: int, *options: str) -> list[str]:
        """Make the command that takes in a part: the first brings the reference, the second corrections of the first."""
        files = sorted((self.folder / "readings").iterdir(), key=lambda path: path.stem.rpartition("-")[2])
        chosen = files[:4] if part == 1 else files[4:]
        first = ("--reference", self.folder / "reference", "--buckets", 4) if part == 1 else ()
        named = ("--lake", lake, "--keyset", self.keys["keyset"], "--kek", self.keys["kek"], *first)
        return [*PROGRAM, "ingest", "--readings", *map(str, chosen), *map(str, named), *options]

    def run(self, lake: Place, part: int, *options: str) -> subprocess.CompletedProcess[str]:
        """Take in a part."""
        return run_command(self.command(lake, part, *options))

    def read_tables(self, lake: Place) -> dict[str, pa.Table]:
        """Read the rows of every table."""
        return {table: rows_in(self._find_files(paths_of(lake, table))) for table in DATA_TABLES}

    def _find_files(self, paths: Sequence[str]) -> list[str]:
        """Find the files that paths and addresses name."""
        for begin, folder in self.objects.items():
            paths = [path.replace(begin, str(folder), 1) if path.startswith(begin) else path for path in paths]
        return list(paths)

    def compare(self, lake: Place) -> list[str]:
        """List the tables whose rows are not those of the run in one process."""
        found = self.read_tables(lake)
        return [f"other rows in {name}" for name, rows in self.expected.items() if not rows.equals(found[name])]


def run_command(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(command, check=False, capture_output=True, text=True)


def find_wrong(lake: Place, *, done: bool) -> list[str]:
    """Say what ``verify`` finds in a lake; after a run that is done, also what is left over."""
    if not is_lake(lake):
        return ["there is no lake"] if done else []
    opened = open_lake(lake)
    if opened.stored_policy() is None:
        return ["there is no policy"] if done else []
    if not done:
        with sole_committer(opened):
            pass
    checks = verify_lake(opened, load_policy(opened.stored_policy()))
    places = [
        (f"{check.name}: {place} {problem}", breaks) for check in checks for place, problem, breaks in check.places
    ]
    return [what for what, breaks in places if breaks or done]
