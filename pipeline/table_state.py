"""What a table holds, read from its files alone: the catalog's row, Iceberg's metadata, manifests.

A query, and every start of a run, needs no more of Iceberg than the list of data files. Reading it here, by the rules
of Iceberg's specification (version 2), spares them the catalog's libraries, whose import takes longer than the query.
Whatever changes a table goes through ``pipeline.catalog``.
"""

import io
import json
import sqlite3
from collections.abc import Container, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import fastavro

from pipeline.errors import MeterveilError
from pipeline.labels import parse_label
from pipeline.records import RecordPath, find_location, list_locations
from pipeline.stores import locate, look_at_each
from schemas.views import VIEW_KINDS
from transforms.plan import Dataset

_DELETED = 2
_DATA = 0
_SECOND_MS = 1000


@dataclass(frozen=True, slots=True)
class CurrentFile:
    """A data file of a table's snapshot.

    Attributes:
        path: absolute path.
        rows: number of rows.
        bytes: size of the file.
        local_date: days since 1970-01-01 of a cell's file, else None.
        label: what the file holds, as in ``pipeline.parquet.DataFile``.
    """

    path: str
    rows: int
    bytes: int
    local_date: int | None
    label: str


@dataclass(frozen=True, slots=True)
class TableState:
    """A table as its metadata file says.

    Attributes:
        name: ``operational.readings``.
        metadata: the metadata, as the specification has it.
        file: path of the metadata file.
    """

    name: str
    metadata: dict[str, Any]
    file: str

    @property
    def snapshots(self) -> list[dict[str, Any]]:
        """The snapshots that are kept, as the specification has them."""
        return list(self.metadata.get("snapshots", ()))

    @property
    def log(self) -> list[dict[str, Any]]:
        """Which snapshot became the current one when, the oldest first."""
        return list(self.metadata.get("snapshot-log", ()))

    @property
    def updated_ms(self) -> int:
        """When the table changed last, ms since 1970."""
        return int(self.metadata["last-updated-ms"])

    @property
    def location(self) -> str:
        """The table's folder, as it was when the table was made."""
        return str(self.metadata["location"])

    @property
    def snapshot_id(self) -> int | None:
        """The current snapshot; None before the first one."""
        snapshot = self.metadata.get("current-snapshot-id")
        return None if snapshot in {None, -1} else int(snapshot)

    def list_since(self, time: datetime) -> set[int]:
        """List the current snapshot, and those that were the current one at a time or later, by id."""
        since = time.timestamp() * _SECOND_MS
        ids = {int(entry["snapshot-id"]) for entry, after in pairwise(self.log) if after["timestamp-ms"] > since}
        return ids if self.snapshot_id is None else ids | {self.snapshot_id}

    def summary(self, snapshot_id: int | None = None) -> dict[str, str]:
        """Say what a snapshot, the current one if none is named, says of itself; empty where there is none."""
        snapshot = self._find(self.snapshot_id if snapshot_id is None else snapshot_id)
        return dict(snapshot["summary"]) if snapshot else {}

    def files(self, snapshot_id: int | None = None) -> list[CurrentFile]:
        """List the data files of the current snapshot, or of the one that is named.

        Raises:
            MeterveilError: the snapshot has expired, or another program has written into the table.
        """
        wanted = self.snapshot_id if snapshot_id is None else snapshot_id
        if wanted is None:
            return []
        snapshot = self._find(wanted)
        if snapshot is None:
            raise MeterveilError(f"snapshot {wanted} has expired", where=self.name, remedy="run the command again")
        return [file for files in look_at_each(_read_manifest, self._manifests(snapshot)) for file in files]

    def kept_files(self) -> dict[str, CurrentFile]:
        """Find the data files of every snapshot that is kept, by path; reads each manifest once.

        Raises:
            MeterveilError: another program has written into the table.
        """
        manifests = {path for snapshot in self.snapshots for path in self._manifests(snapshot)}
        return {file.path: file for files in look_at_each(_read_manifest, sorted(manifests)) for file in files}

    def needed_paths(self, snapshot_ids: Container[int] | None = None) -> set[str]:
        """Find every file that some of the snapshots need, or all, and the metadata files that the table remembers.

        Raises:
            MeterveilError: another program has written into the table.
        """
        snapshots = [one for one in self.snapshots if snapshot_ids is None or one["snapshot-id"] in snapshot_ids]
        manifests = {path for one in snapshots for path in self._manifests(one)}
        return {
            self.file,
            *(entry["metadata-file"] for entry in self.metadata.get("metadata-log", ())),
            *(one["manifest-list"] for one in snapshots),
            *manifests,
            *(file.path for files in look_at_each(_read_manifest, manifests) for file in files),
        }

    def _find(self, snapshot_id: int | None) -> dict[str, Any] | None:
        return next((one for one in self.snapshots if one["snapshot-id"] == snapshot_id), None)

    def _manifests(self, snapshot: dict[str, Any]) -> Iterator[str]:
        for manifest in _read_avro(snapshot["manifest-list"]):
            if manifest["content"] != _DATA:
                raise MeterveilError(
                    "has row-level deletes, which meterveil never writes",
                    where=self.name,
                    remedy="keep other writers out of the lake",
                )
            yield manifest["manifest_path"]


def is_cell_dataset(dataset: Dataset) -> bool:
    """Tell whether the dataset has one file per cell (local date and bucket)."""
    return VIEW_KINDS[dataset.view] == "cell"


def read_metadata(name: str, location: str) -> TableState:
    """Read a table's metadata file."""
    return TableState(name, json.loads(locate(location).read_bytes()), location)


def read_state(catalog: Path | RecordPath, name: str, timeout_s: float) -> TableState | None:
    """Read a table's present state; None where the catalog has no such table.

    Args:
        catalog: the SQLite file of the zone's catalog, or its schema in a server.
        name: ``operational.readings``.
        timeout_s: how long to wait for a commit's lock.

    Raises:
        sqlite3.DatabaseError: the catalog is locked or damaged.
        FileNotFoundError: the metadata is not where the catalog says.
    """
    if isinstance(catalog, RecordPath):
        location = find_location(catalog, *name.split("."))
        return read_metadata(name, location) if location else None
    query = "SELECT metadata_location FROM iceberg_tables WHERE table_namespace = ? AND table_name = ?"
    with _connect(catalog, timeout_s) as connection:
        row = connection.execute(query, name.split(".")).fetchone()
    return read_metadata(name, row[0]) if row else None


def list_names(catalog: Path | RecordPath, timeout_s: float) -> list[str]:
    """List the names of all tables of a catalog; arguments and errors are those of ``read_state``."""
    if isinstance(catalog, RecordPath):
        return list(list_locations(catalog))
    with _connect(catalog, timeout_s) as connection:
        rows = connection.execute("SELECT table_namespace, table_name FROM iceberg_tables").fetchall()
    return [".".join(row) for row in rows]


def _connect(catalog: Path, timeout_s: float) -> closing[sqlite3.Connection]:
    # For writing, where that may be: what a process that died left half done must be rolled back before one can read.
    return closing(sqlite3.connect(f"file:{catalog}?mode=rw", uri=True, timeout=timeout_s))


def _read_manifest(path: str) -> list[CurrentFile]:
    return list(_read_files(path))


def _read_files(path: str) -> Iterator[CurrentFile]:
    for entry in _read_avro(path):
        if entry["status"] != _DELETED:
            file = entry["data_file"]
            label, local_date = parse_label(file["file_path"])
            yield CurrentFile(file["file_path"], file["record_count"], file["file_size_in_bytes"], local_date, label)


def _read_avro(path: str) -> Iterator[Any]:
    place = locate(path)
    with place.open("rb") if isinstance(place, Path) else io.BytesIO(place.read_bytes()) as stream:
        yield from fastavro.reader(stream)
