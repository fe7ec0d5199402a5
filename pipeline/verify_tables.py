"""Verifying tables as files: catalogs, Iceberg's metadata, data files, each against the digest that its commit left."""

import sqlite3
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import get_args

import pyarrow.parquet as pq
from pyiceberg.table import Table

from pipeline.digests import digest_file, digests_folder, read_digests
from pipeline.errors import MeterveilError
from pipeline.findings import Check, Findings
from pipeline.iceberg import current_files, kept_files
from pipeline.lake import Lake
from pipeline.records import RecordPath, list_locations
from pipeline.stores import columnar, list_sorted, locate
from pipeline.table_state import CurrentFile
from transforms.plan import Zone

ZONES: tuple[Zone, ...] = get_args(Zone)


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The data files of a table whose metadata is whole.

    Attributes:
        current: those of the current snapshot.
        kept: those of every snapshot that is kept, by path.
    """

    current: tuple[CurrentFile, ...] = ()
    kept: Mapping[str, CurrentFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What all commits together recorded.

    Attributes:
        files: digests by path; several where commits recorded a file several times.
        current: each table's metadata file after the last commit.
        complete: whether every commit's digests could be read.
    """

    files: Mapping[str, set[str]]
    current: Mapping[str, str]
    complete: bool


def read_locations(lake: Lake, findings: Findings) -> dict[Zone, dict[str, str]]:
    """Ask the catalogs themselves for every table's metadata file; a zone whose catalog is damaged is left out."""
    check = findings["catalogs"]
    locations: dict[Zone, dict[str, str]] = {}
    for zone in ZONES:
        path = lake.catalog_place(zone)
        check.looked_at += 1
        if isinstance(path, RecordPath):
            locations[zone] = list_locations(path)
            continue
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as catalog:
                whole = catalog.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                rows = catalog.execute("SELECT table_namespace, table_name, metadata_location FROM iceberg_tables")
                found = {f"{namespace}.{table}": str(location) for namespace, table, location in rows}
        except sqlite3.DatabaseError:
            whole = False
        if whole:
            locations[zone] = found
        else:
            check.find(path, "damaged; the tables of this zone are left out")
    return locations


def read_recorded(lake: Lake, findings: Findings) -> Recorded:
    """Read the digests that every commit left."""
    check = findings["digests"]
    files: defaultdict[str, set[str]] = defaultdict(set)
    left = []
    for path in list_sorted(digests_folder(lake), "*.json"):
        check.looked_at += 1
        try:
            left.append(read_digests(path))
        except MeterveilError:
            check.find(path, "damaged; what it recorded can't be checked")
    for digests in left:
        for name, digest in digests.files.items():
            files[name].add(digest)
    last = max(left, key=lambda one: datetime.fromisoformat(one.recorded_at), default=None)
    return Recorded(files, last.current if last else {}, complete=not check.violations)


class FileCheck:
    """Files against their digests; each is read once.

    Args:
        check: where to tell.
        expected: digests by path.
        complete: whether all digests are known: then a file without one is strange. Else it is left out.
    """

    def __init__(self, check: Check, expected: Mapping[str, set[str]], *, complete: bool) -> None:
        self._check, self._expected, self._complete = check, expected, complete
        self.seen: dict[str, bool] = {}

    def holds(self, path: str) -> bool:
        """Tell whether a file is there and as it was recorded; a fault is found once, however often one asks."""
        if path not in self.seen:
            self._check.looked_at += 1
            fault = self._find_fault(path)
            if fault:
                self._check.find(path, fault)
            self.seen[path] = not fault and path in self._expected
        return self.seen[path]

    def _find_fault(self, path: str) -> str:
        try:
            digest = digest_file(path)
        except FileNotFoundError:
            return "missing"
        except (OSError, ValueError):  # a damaged name may hold a null byte
            return "can't be read"
        if path not in self._expected:
            return "no digest of it is recorded" if self._complete else ""
        return "" if self._expected[path] == {digest} else "not the bytes that were written"


def find_tables(
    lake: Lake, findings: Findings, locations: Mapping[Zone, Mapping[str, str]], recorded: Recorded
) -> tuple[dict[str, TableFiles], Container[str]]:
    """Check every table's metadata, and only then read it.

    Returns:
        The data files of every table whose metadata is whole, and the metadata files that belong to some table.
    """
    check = findings["metadata"]
    files = FileCheck(check, recorded.files, complete=recorded.complete)
    tables = {}
    found = {name: location for zone in locations.values() for name, location in zone.items()}
    for name in sorted(found.keys() | {name for name in recorded.current if name.partition(".")[0] in locations}):
        location, last = found.get(name), recorded.current.get(name)
        if location is None:
            check.find(name, "the catalog lacks the table")
        elif last is None and _is_uncommitted(location):
            files.seen[location] = True
            tables[name] = TableFiles()
        elif recorded.complete and last is not None and location != last:
            check.find(name, "the catalog names another metadata file than was recorded last")
        elif files.holds(location):
            try:
                table = lake.table(name)
                if _holds_metadata(files, table):
                    tables[name] = TableFiles(tuple(current_files(table)), kept_files(table))
            except MeterveilError as error:
                check.find(name, error.problem)
    # What only an expired snapshot or an older state needs is of no use to a reader, but damage is damage.
    for path in recorded.files:
        if PurePath(path).parent.name == "metadata" and locate(path).exists():
            files.holds(path)
    return tables, files.seen


def _holds_metadata(files: FileCheck, table: Table) -> bool:
    """Check manifest lists and manifests of every snapshot; those of a damaged list are unknown."""
    held = []
    for snapshot in table.snapshots():
        held.append(files.holds(snapshot.manifest_list))
        held += [files.holds(item.manifest_path) for item in snapshot.manifests(table.io)] if held[-1] else ()
    return all(held)


def _is_uncommitted(location: str) -> bool:
    """Tell whether a metadata file is that of a table which nothing was committed to: such a one has no digest."""
    try:
        return b'"manifest-list"' not in locate(location).read_bytes()
    except (OSError, ValueError):
        return False


def check_data_files(
    findings: Findings, tables: Iterable[TableFiles], expected: Mapping[str, set[str]], *, complete: bool
) -> set[str]:
    """Check size, digest and row count of every data file that a snapshot lists.

    Args:
        findings: where to tell.
        tables: what the snapshots list.
        expected: digests by path.
        complete: whether all records could be read: then a file without a digest is strange.

    Returns:
        Paths of the files that hold.
    """
    check = findings["data files"]
    files = FileCheck(check, expected, complete=complete)
    intact = set()
    for table in tables:
        for path, listed in table.kept.items():
            if not files.holds(path):
                continue
            if locate(path).stat().st_size != listed.bytes or pq.read_metadata(columnar(path)).num_rows != listed.rows:
                check.find(path, "another size or row count than the manifest says")
            else:
                intact.add(path)
    return intact
