"""A generated fleet, a lake that took it in by the command line, and everything in it that tells who somebody is."""

import contextlib
import io
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from pipeline.access import current_user
from pipeline.cli import main
from pipeline.iceberg import current_files
from pipeline.lake import open_lake
from pipeline.policy_file import DEFAULT_POLICY, load_policy

#: Columns of the reference by which somebody can be told; others, such as a city, are shared by many.
IDENTIFYING = {
    "metering_point_id", "site_id", "contract_id", "customer_id", "name", "identity_code", "business_id", "phone",
    "email", "street_address",
}  # fmt: skip
#: The command line in a process of its own.
PROGRAM = (sys.executable, "-c", "import sys; from pipeline.cli import main; sys.exit(main())")


class Outcome(NamedTuple):
    code: int
    out: bytes
    err: str


class Retailer(NamedTuple):
    """Keys, a fleet with every fault of rows, and perhaps a lake of it; all below one folder."""

    folder: Path

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def analytics(self) -> Path:
        return self.lake / "analytics"

    @property
    def readings(self) -> list[Path]:
        return sorted((self.folder / "fleet" / "readings").iterdir())

    def ingest(self, *readings: Any, lake: Path | None = None, **options: Any) -> Outcome:
        return run(*self.arguments(*readings, lake=lake, **options))

    def arguments(self, *readings: Any, lake: Path | None = None, **options: Any) -> list[str]:
        """List the arguments of an ingest; an option that is True stands alone, one that is None is left out."""
        named = {
            "lake": lake or self.lake,
            "reference": self.folder / "fleet" / "reference",
            "keyset": self.folder / "keyset.json",
            "kek": self.folder / "kek.bin",
        } | options
        listed = ["ingest", "--readings", *map(str, readings or self.readings)]
        for name, value in named.items():
            if value is not None:
                listed += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
        return listed

    def words(self) -> set[str]:
        """Everything in the reference that tells who somebody is."""
        found: set[str] = set()
        for feed in (self.folder / "fleet" / "reference").iterdir():
            table = pq.read_table(feed)
            for name in IDENTIFYING.intersection(table.column_names):
                found.update(word for word in table[name].to_pylist() if word)
        return found


def run(*arguments: Any) -> Outcome:
    """Run the command line in this process."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    return Outcome(code, out.buffer.getvalue(), err.getvalue())


def make_fleet(folder: Path, *, points: int = 60, days: int = 2, faults: str = "all") -> Retailer:
    """Generate a fleet, and keys for it."""
    fleet = ["--points", points, "--days", days, "--faults", faults, "--out", folder / "fleet"]
    made = run("generate", *fleet)
    assert made.code == 0, made.err
    assert run("keys", "create", "--keyset", folder / "keyset.json", "--kek", folder / "kek.bin").code == 0
    return Retailer(folder)


def make_policy(path: Path, *roles: str) -> Path:
    """Write the default policy with roles granted to whoever runs the tests."""
    text = DEFAULT_POLICY.read_text(encoding="utf-8")
    granted = text.replace("grants:\n", f"grants:\n  {current_user().name}: [{', '.join(roles)}]\n", 1)
    assert granted != text
    path.write_text(granted, encoding="utf-8")
    return path


def snapshots_of(lake: Path) -> dict[str, int | None]:
    """Tell every table's current snapshot; of a lake that is not there, nothing."""
    if not (lake / "meterveil.json").exists():
        return {}
    opened = open_lake(lake)
    tables = {name: opened.table(name) for name in load_policy(DEFAULT_POLICY).datasets if opened.has_table(name)}
    return {
        name: snapshot.snapshot_id if (snapshot := table.current_snapshot()) else None for name, table in tables.items()
    }


def stray_files(lake: Path) -> set[Path]:
    """Find data files that no table lists."""
    if not (lake / "meterveil.json").exists():
        return set()
    opened = open_lake(lake)
    tables = [name for name in load_policy(DEFAULT_POLICY).datasets if opened.has_table(name)]
    listed = {Path(file.path) for name in tables for file in current_files(opened.table(name))}
    return {path for path in lake.glob("*/*/data/**/*") if path.is_file()} - listed
