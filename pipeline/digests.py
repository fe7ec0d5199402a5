"""Digests of what a run record can't name: the files that come to be when the record itself is committed, or after it.

A run record names its data files with their SHA-256. Iceberg's metadata of a table is written when the table is
committed, that of ``operational.runs`` after the record. So the end of every commit, whatever it was for, leaves
``operational/digests/<run id>.json``, which holds its own SHA-256 too. Nothing is ever recorded anew:
of a path with two digests both must hold, so that damage is never blessed by a later run.
"""

import hashlib
import json
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pyiceberg.table import Table

from pipeline.context import reference_folder
from pipeline.errors import MeterveilError
from pipeline.files import make_folder, replace_file
from pipeline.iceberg import current_files
from pipeline.lake import Lake
from pipeline.stores import ObjectPath, Place, locate, look_at_each, measure

_FOLDER = "digests"


@dataclass(frozen=True, slots=True)
class RecordedDigests:
    """What one commit left.

    Attributes:
        recorded_at: when, ISO 8601, UTC.
        current: every committed table's metadata file at that moment, by the table's name.
        files: SHA-256 by path, hex.
    """

    recorded_at: str
    current: dict[str, str]
    files: dict[str, str]


def digest_file(path: str | Place) -> str:
    """Compute the SHA-256 of a file, hex."""
    with locate(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_metadata(table: Table) -> dict[str, str]:
    """Digest what a table's last commit wrote: metadata file, manifest list, new manifests; and the metadata before."""
    paths = [table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log[-1:])]
    if snapshot := table.current_snapshot():
        manifests = snapshot.manifests(table.io)
        paths.append(snapshot.manifest_list)
        paths += [item.manifest_path for item in manifests if item.added_snapshot_id == snapshot.snapshot_id]
    return dict(zip(paths, look_at_each(digest_file, paths), strict=True))


def record_digests(lake: Lake, tables: Iterable[str], run_id: str, reference: str = "") -> None:
    """Record the digests of every table's metadata, after the last commit of a run and before others may commit.

    Doing it again is as good as doing it once: a run that is finished by another one is recorded by that.

    Args:
        lake: the lake.
        tables: names of its tables.
        run_id: the run, or whatever else changed the tables; the name of the file.
        reference: version of the reference snapshot that the run used; its manifest is recorded too.
    """
    current: dict[str, str] = {}
    files: dict[str, str] = {}
    for name in tables:
        table = lake.table(name)
        current[name] = table.metadata_location
        files |= digest_metadata(table)
        # The file of the run's record, which no record names.
        files |= {file.path: digest_file(file.path) for file in current_files(table) if file.label == run_id}
    if reference:
        manifest = reference_folder(lake) / reference / "manifest.json"
        files[str(manifest)] = digest_file(manifest)
    recorded = RecordedDigests(datetime.now(UTC).isoformat(), current, files)
    folder = digests_folder(lake)
    make_folder(folder, private=True)
    replace_file(folder / f"{run_id}.json", _encode(recorded), private=True)


def read_digests(path: Place) -> RecordedDigests:
    """Read what one commit left.

    Raises:
        MeterveilError: the file is damaged.
    """
    content = path.read_bytes()
    try:
        recorded = RecordedDigests(**json.loads(content)["recorded"])
        damaged = content != _encode(recorded)
    except (ValueError, KeyError, TypeError):
        damaged = True
    if damaged:
        raise MeterveilError("the digests are damaged", where=str(path), remedy="restore the file")
    return recorded


def find_superseded(lake: Lake, gone: Container[str] = ()) -> list[Path | ObjectPath]:
    """Find the records that say nothing more: of every file of theirs that is still there a later one says the same.

    Damaged records are left where they are, for verification to find.

    Args:
        lake: the lake.
        gone: files that are to be taken as deleted.
    """
    records = []
    for path in digests_folder(lake).glob("*.json"):
        with suppress(MeterveilError):
            records.append((read_digests(path), path))
    named = sorted({name for record, _ in records for name in record.files if name not in gone})
    there = {name for name, size in zip(named, look_at_each(measure, named), strict=True) if size is not None}
    said: set[tuple[str, str]] = set()
    superseded = []
    # The last one has every table's metadata as it is now, so it always stays.
    for record, path in sorted(records, key=lambda one: datetime.fromisoformat(one[0].recorded_at), reverse=True):
        still = {(name, digest) for name, digest in record.files.items() if name in there}
        if said and still <= said:
            superseded.append(path)
        else:
            said |= still
    return superseded


def _encode(recorded: RecordedDigests) -> bytes:
    body = asdict(recorded)
    own = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    return json.dumps({"sha256": own, "recorded": body}).encode()


def digests_folder(lake: Lake) -> Path | ObjectPath:
    """Where a lake keeps the digests."""
    return lake.operational / _FOLDER
