"""Backups of a lake, and what brings one back: while runs are at work, and without what a backup before it has.

A backup folder holds ``files/``, what never changes once it is written (data, metadata, digests, the ledger, reference
snapshots), each once whichever backups need it; and a folder per backup under ``backups/`` with what does change (the
catalogs, the policy, horizons, the audit logs) and ``manifest.json``, which lists all files with size, mode and digest.
A folder without its manifest is of a backup that died. The keyset is no part of a lake: back it up apart from this.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.context import mark_of
from pipeline.errors import MeterveilError
from pipeline.files import create_file, make_folder, replace_file
from pipeline.journal import sole_committer
from pipeline.lake import CATALOG, Lake
from pipeline.lease import list_live

_MANIFEST = "manifest.json"
#: Of what is at work, and of no use to anybody afterwards.
_PASSING = frozenset({"staging", "leases", "journal", "commit.lock"})
#: How often to begin again where housekeeping deletes what is being copied.
_TRIES = 3
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Copied:
    """A file of a backup.

    Attributes:
        name: path below the lake's root.
        bytes: its size.
        sha256: its digest, hex.
        mode: its permissions.
        changes: whether it stands with its backup, since the lake's own may be another one tomorrow.
    """

    name: str
    bytes: int
    sha256: str
    mode: int
    changes: bool


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that is complete.

    Attributes:
        stamp: its name: when it was made.
        lake: the lake's path, which is that of its tables.
        files: all that it needs.
    """

    stamp: str
    lake: str
    files: tuple[Copied, ...]


def back_up(lake: Lake, target: Path, now: datetime) -> dict[str, Any]:
    """Copy a lake as it is at one moment into a backup folder; commits wait for as long as the catalogs take.

    Args:
        lake: the lake; both zones must be in reach.
        target: the backup folder, outside of the lake; made (0700) if need be.
        now: names the backup.

    Returns:
        ``backup``, and how much there is in it and how much of that was new: ``files``, ``bytes``, ``new_files``,
        ``new_bytes``.

    Raises:
        MeterveilError: the target is inside the lake or of another one, or files vanish again and again.
    """
    if lake.settings.catalog:
        raise MeterveilError(
            "a lake with a catalog server is backed up by what keeps it",
            where=str(lake.root),
            remedy="dump the database first, then copy or version the store's objects (deploy/store/README.md)",
        )
    target = target.resolve()
    if target.is_relative_to(lake.root):
        raise MeterveilError("a backup can't be in its lake", where=str(target), remedy="name a folder on another disk")
    before = {file.name: file for backup in list_backups(target) for file in _check_lake(backup, lake, target).files}
    make_folder(target / "backups", private=True)
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    for _ in range(_TRIES):
        with sole_committer(lake):
            lasting, folder = _list_lasting(lake), target / "backups" / stamp
            changing = list(_copy_changing(lake, folder))
        try:
            files = [_copy_lasting(lake, name, target, before) for name in lasting]
        except FileNotFoundError:
            continue  # housekeeping has deleted what an old state needed
        backup = Backup(stamp, str(lake.root), (*changing, *files))
        replace_file(folder / _MANIFEST, json.dumps(asdict(backup)).encode(), private=True)
        new = [file for file in files if file.name not in before]
        return {
            "backup": stamp,
            "files": len(backup.files),
            "bytes": sum(file.bytes for file in backup.files),
            "new_files": len(new),
            "new_bytes": sum(file.bytes for file in new),
        }
    raise MeterveilError(
        "files vanish while they are copied", where=str(lake.root), remedy="back up when no maintain runs"
    )


def list_backups(target: Path) -> list[Backup]:
    """List the complete backups of a folder, the oldest first.

    Raises:
        MeterveilError: a manifest is damaged.
    """
    return [_read(path) for path in sorted((target / "backups").glob(f"*/{_MANIFEST}"))]


def restore(target: Path, root: Path, stamp: str = "") -> dict[str, Any]:
    """Bring a lake back where it was; every file is looked at before the first is written.

    Args:
        target: the backup folder.
        root: where the lake is to be; nothing may be there.
        stamp: which backup; the newest if empty.

    Raises:
        MeterveilError: there is no such backup, it is damaged, or it is of a lake that was elsewhere.
    """
    backups = {backup.stamp: backup for backup in list_backups(target)}
    backup = backups.get(stamp) if stamp else next(reversed(backups.values()), None)
    root = root.resolve()
    if backup is None:
        have = f"name one of those there are: {', '.join(backups) or 'none'}"
        raise MeterveilError("there is no such backup", where=str(target), remedy=have)
    if str(root) != backup.lake:
        raise MeterveilError(
            "a lake can be restored only where it was: Iceberg's paths are absolute",
            where=str(root),
            remedy=f"restore to {backup.lake}",
        )
    if root.exists() and any(root.iterdir()):
        raise MeterveilError("there is something here", where=str(root), remedy="move it away first")
    for file in backup.files:
        _check(_place(target, backup.stamp, file), file)
    draft = root.with_name(f".{root.name}.restoring")
    shutil.rmtree(draft, ignore_errors=True)
    make_folder(draft, private=False)
    for file in backup.files:
        out = draft / file.name
        make_folder(out.parent, private=file.name.startswith("operational/"))
        _copy(_place(target, backup.stamp, file), out)
        out.chmod(file.mode)
    with suppress(FileNotFoundError):
        root.rmdir()
    draft.rename(root)
    return {"backup": backup.stamp, "files": len(backup.files), "bytes": sum(file.bytes for file in backup.files)}


def _list_lasting(lake: Lake) -> list[str]:
    """List the files that never change once they are written, without those that runs at work have not committed."""
    marks = tuple(f"-{mark_of(run_id)}" for run_id in list_live(lake))
    committed = {path for table in lake.table_names() for path in lake.state(table).kept_files()} if marks else set()
    names = (path.relative_to(lake.root) for path in lake.root.rglob("*") if path.is_file())
    return sorted(
        str(name)
        for name in names
        if len(name.parts) > 2
        and not _PASSING.intersection(name.parts)
        and not name.name.startswith(".")
        and (
            name.suffix != ".parquet"
            or str(lake.root / name) in committed
            or not any(mark in name.name for mark in marks)
        )
    )


def _copy_changing(lake: Lake, folder: Path) -> Iterator[Copied]:
    """Copy what changes, as the sole committer."""
    shutil.rmtree(folder, ignore_errors=True)
    paths = (*lake.root.glob("*"), *lake.root.glob("*/*"))
    for path in sorted(path for path in paths if path.is_file() and path.name not in _PASSING):
        name, out = path.relative_to(lake.root), folder / path.relative_to(lake.root)
        make_folder(out.parent, private=True)
        if path.name == CATALOG:
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(out)) as copy:
                source.backup(copy)
        elif not path.name.startswith(CATALOG):
            content = path.read_bytes()
            # A line of the audit log that is being written is no line yet.
            out.write_bytes(content[: content.rfind(b"\n") + 1] if path.suffix == ".jsonl" else content)
        else:
            continue  # SQLite's own, of a transaction
        out.chmod(0o600)
        yield _describe(str(name), out, path.stat().st_mode, changes=True)


def _copy_lasting(lake: Lake, name: str, target: Path, before: dict[str, Copied]) -> Copied:
    """Copy a file that never changes, unless a backup has it."""
    path, out = Path(lake.root) / name, target / "files" / name
    known = before.get(name)
    if known and out.exists() and out.stat().st_size == known.bytes:
        return known
    make_folder(out.parent, private=True)
    draft = out.with_name(f".{out.name}")
    draft.unlink(missing_ok=True)
    _copy(path, draft)
    draft.replace(out)
    return _describe(name, out, path.stat().st_mode, changes=False)


def _copy(path: Path, out: Path) -> None:
    """Copy the content of a file into a new one that its owner alone may read, onto the disk."""
    with path.open("rb") as source, os.fdopen(create_file(out, private=True), "wb") as copy:
        shutil.copyfileobj(source, copy, _CHUNK)
        copy.flush()
        os.fsync(copy.fileno())


def _place(target: Path, stamp: str, file: Copied) -> Path:
    return (target / "backups" / stamp if file.changes else target / "files") / file.name


def _check(path: Path, file: Copied) -> None:
    if not path.is_file() or _digest(path) != file.sha256:
        raise MeterveilError(
            "missing, or not the bytes that were backed up",
            where=str(path),
            remedy="restore another backup of this folder",
        )


def _describe(name: str, path: Path, mode: int, *, changes: bool) -> Copied:
    return Copied(name, path.stat().st_size, _digest(path), mode & 0o777, changes)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_lake(backup: Backup, lake: Lake, target: Path) -> Backup:
    if backup.lake != str(lake.root):
        raise MeterveilError(
            "this folder has backups of another lake", where=str(target), remedy="name a folder for this one"
        )
    return backup


def _read(path: Path) -> Backup:
    try:
        fields = json.loads(path.read_bytes())
        return Backup(fields["stamp"], fields["lake"], tuple(Copied(**file) for file in fields["files"]))
    except (ValueError, TypeError, KeyError) as error:
        raise MeterveilError(
            "the manifest can't be read", where=str(path), remedy="delete this backup's folder"
        ) from error
