"""Verifying a lake: that every file is as it was written, and that the tables say of each other what they should.

Nothing is changed. Memory holds lists of files and a block of rows, never a table. Damage is found once: checks that
need a damaged file leave it out. What can't be seen: bytes of the SQLite catalogs that SQLite doesn't mind and that
hold no table's name or location; and whatever somebody changes together with its digest.
"""

import json
from collections.abc import Container, Mapping
from typing import Any

import pyarrow.parquet as pq

from pipeline.audit import verify_chain
from pipeline.context import RUNS, reference_folder
from pipeline.digests import digest_file
from pipeline.errors import MeterveilError
from pipeline.findings import Check, Findings
from pipeline.lake import Lake
from pipeline.lease import find_drafts
from pipeline.records import RecordPath
from pipeline.reference import NO_REFERENCE, Snapshot, open_snapshot
from pipeline.stores import columnar, list_sorted
from pipeline.totals import Totals, check_conservation
from pipeline.verify_cells import CellChecks
from pipeline.verify_published import check_kept, check_published
from pipeline.verify_tables import (
    ZONES,
    Recorded,
    TableFiles,
    check_data_files,
    find_tables,
    read_locations,
    read_recorded,
)
from transforms.plan import Plan


def verify_lake(lake: Lake, plan: Plan) -> Findings:
    """Check a whole lake.

    Args:
        lake: the lake; both zones must be in reach.
        plan: the lake's policy.

    Raises:
        MeterveilError: a zone is out of reach, or a run committed while this worked.
    """
    for zone in ZONES:
        if not lake.reaches(zone):
            lake.catalog(zone)  # raises, and says why
    findings = Findings(lake.root)
    locations = read_locations(lake, findings)
    recorded = read_recorded(lake, findings)
    tables, metadata = find_tables(lake, findings, locations, recorded)
    # Records first: they have the digests of all other data files.
    runs = {RUNS: tables[RUNS]} if RUNS in tables else {}
    others = {name: table for name, table in tables.items() if name != RUNS}
    intact = check_data_files(findings, runs.values(), recorded.files, complete=recorded.complete)
    history = _read_history(findings["runs"], [file.path for table in runs.values() for file in table.current], intact)
    whole = bool(runs) and all(file.path in intact for file in runs[RUNS].current)
    intact |= check_data_files(findings, others.values(), history.digests, complete=whole)
    history.check_last(findings["runs"], others)
    references = _check_reference(lake, findings["reference"], recorded)
    newest = _choose_reference(findings["reference"], references, history.reference) if whole else None
    CellChecks(lake, plan, findings, newest, history.keys).check_all(others, intact)
    check_published(plan, findings, others, intact)
    check_kept(lake, plan, findings, others, intact)
    _check_audit(lake, findings["audit log"])
    _look_for_remains(lake, findings["left over"], tables, metadata, recorded)
    if read_locations(lake, Findings(lake.root)) != locations:
        raise MeterveilError("a run committed meanwhile", where=str(lake.root), remedy="verify again")
    return findings


class _History:
    """What the run records say.

    Attributes:
        digests: of every data file that a record names, by path.
        keys: ids of the keys that runs worked with, that of the last run last.
        reference: version of the reference that the tables stand by; empty for none.
    """

    def __init__(self, records: list[dict[str, Any]]) -> None:
        records.sort(key=lambda record: record["committed_at"])
        self._last = records[-1] if records else {"tables": {}, "data_files": {}}
        self.keys = [record["key_id"] for record in records]
        self.reference = self._last.get("reference_version") or ""
        self.digests: dict[str, set[str]] = {}
        for record in records:
            for path, digest in record["data_files"].items():
                self.digests.setdefault(path, set()).add(digest)

    def check_last(self, check: Check, tables: Mapping[str, TableFiles]) -> None:
        """Check rows and bytes that the last run says it wrote against its files, where all are current still."""
        written = self._last["data_files"]
        for name, entry in self._last["tables"].items():
            files = [file for file in tables.get(name, TableFiles()).current if file.path in written]
            found = (sum(file.rows for file in files), sum(file.bytes for file in files))
            if len(files) == entry["files"] and found != (entry["rows"], entry["bytes"]):
                check.find(name, "the last run says that it wrote another number of rows or bytes")


def _read_history(check: Check, paths: list[str], intact: Container[str]) -> _History:
    """Read every run record, and check that conservation holds in it."""
    records = []
    for path in paths:
        if path not in intact:
            check.find(path, "records that can't be trusted are left out")
            continue
        for text in pq.ParquetFile(columnar(path)).read(["record"])["record"].to_pylist():
            check.looked_at += 1
            record = json.loads(text)
            try:
                check_conservation(Totals(**record["totals"]))
            except MeterveilError:
                check.find(path, "conservation does not hold in this run record")
            records.append(record)
    return _History(records)


def _check_reference(lake: Lake, check: Check, recorded: Recorded) -> dict[str, Snapshot | None]:
    """Check every reference snapshot; gives them by version, None for those that are damaged."""
    root = reference_folder(lake)
    found: dict[str, Snapshot | None] = {NO_REFERENCE.version: NO_REFERENCE}
    for folder in sorted(path for path in root.glob("*") if path.is_dir() and not path.name.startswith(".")):
        check.looked_at += 1
        manifest = folder / "manifest.json"
        try:
            expected = recorded.files.get(str(manifest), set())
            damaged = [] if expected <= {digest_file(manifest)} else [manifest.name]
            snapshot = open_snapshot(root, folder.name)
            damaged = damaged or snapshot.find_damage()
        except (MeterveilError, OSError, KeyError, TypeError, AttributeError):
            damaged = [manifest.name]
        for name in damaged:
            check.find(folder / name, "missing, or not the bytes that were written")
        found[folder.name] = None if damaged else snapshot
    return found


def _choose_reference(check: Check, references: Mapping[str, Snapshot | None], version: str) -> Snapshot | None:
    """Find the snapshot that the tables stand by, unless it is damaged."""
    if version not in references:
        check.find(f"reference/{version}", "the tables stand by this snapshot, and it is not here")
    return references.get(version)


def _check_audit(lake: Lake, check: Check) -> None:
    """Check the chain of each audit log."""
    for zone in ZONES:
        path = lake.records(zone) / "audit.jsonl"
        try:
            check.looked_at += verify_chain(path)[0] if isinstance(path, RecordPath) or path.exists() else 0
        except MeterveilError as error:
            check.find(path, error.problem)


def _look_for_remains(
    lake: Lake, check: Check, tables: Mapping[str, TableFiles], metadata: Container[str], recorded: Recorded
) -> None:
    """Look for what runs that died left behind; of a table whose metadata is damaged nothing can be told."""
    for path in list_sorted(lake.records("operational") / "journal", "*.json"):
        check.looked_at += 1
        check.find(path, "a commit is unfinished; the next run finishes it")
    for path in find_drafts(lake):
        check.looked_at += 1
        check.note(path, "a file that was not complete yet when its run died, or is at work")
    for pattern in ("staging/*", "reference/.building-*"):
        for path in list_sorted(lake.operational, pattern):
            check.looked_at += 1
            check.note(path, "of a run that died, or is at work")
    for name, table in tables.items():
        data = lake.marked_data_paths(name, "")
        check.looked_at += len(data)
        for stray in sorted(data - table.kept.keys()):
            check.note(stray, "a data file that no snapshot lists")
        zone, _, folder = name.partition(".")
        for path in list_sorted(lake.root / zone / folder / "metadata", "*"):
            check.looked_at += 1
            if str(path) not in metadata and str(path) not in recorded.files:
                check.note(path, "a metadata file that no snapshot needs")
