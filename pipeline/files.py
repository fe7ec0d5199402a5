"""Folders and files of the lake, made with the modes of their zone: operational ones for their owner alone.

And the bytes of any file, without reading it whole. Objects and records (``pipeline.stores``) have no folders and no
modes: who may read them is said where they are kept, by bucket or prefix, and by schema.
"""

import mmap
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.records import RecordPath
from pipeline.stores import Place

_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
_SHARED_FOLDER, _SHARED_FILE = 0o777, 0o666  # cut by the umask of the process
_RANDOM_BYTES = 8


def make_folder(path: Place, *, private: bool) -> None:
    """Make a folder and the missing ones above it; one that is there already keeps its mode."""
    if not isinstance(path, Path) or path.is_dir():
        return
    make_folder(path.parent, private=private)
    with suppress(FileExistsError):  # made by another process meanwhile
        path.mkdir(mode=_PRIVATE_FOLDER if private else _SHARED_FOLDER)
    _sync_folder(path.parent)


def create_file(path: Path, *, private: bool) -> int:
    """Make an empty file and give its descriptor, open for reading and writing.

    Raises:
        FileExistsError: the file is there already.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE if private else _SHARED_FILE)


def write_file(path: Place, content: bytes | memoryview, *, private: bool) -> None:
    """Write a new file, with the folders above it, so that it outlives a power failure.

    Raises:
        FileExistsError: the file is there already; of objects, whose names are unique, that is not looked at.
    """
    if not isinstance(path, Path):
        path.write_bytes(content)
        return
    make_folder(path.parent, private=private)
    with os.fdopen(create_file(path, private=private), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def replace_file(path: Place, content: bytes, *, private: bool) -> None:
    """Write a file at once: a reader sees the old content or the new, never a part."""
    if not isinstance(path, Path):
        path.write_bytes(content)
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM_BYTES)}")
    try:
        write_file(draft, content, private=private)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def touch_file(path: Path | RecordPath) -> None:
    """Note that a file is as good as written now.

    Raises:
        FileNotFoundError: it is gone.
    """
    if isinstance(path, Path):
        os.utime(path)
    else:
        path.touch()


def list_drafts(folder: Place) -> list[Path]:
    """List what ``replace_file`` has begun in a folder and not done, at work or dead; elsewhere there is no draft."""
    if not isinstance(folder, Path):
        return []
    return sorted(folder.glob(f".*.{'[0-9a-f]' * 2 * _RANDOM_BYTES}"))


@contextmanager
def map_file(path: str | Path) -> Iterator[mmap.mmap]:
    """Give a file's bytes, which are read where they are touched."""
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
