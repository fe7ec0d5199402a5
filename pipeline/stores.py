"""Places of files: a folder of this machine, or a prefix of an object store. Nothing else knows of stores.

``locate`` makes a place of what a user or a manifest says. A file of this machine is a ``Path``, and nothing of it is
any slower. An object is an ``ObjectPath``, which has those of ``Path``'s methods that a lake needs: an object is put
whole or not at all, there are no folders, and nothing is renamed. Credentials and endpoints come from the environment
of whoever opens it (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``,
``STORAGE_EMULATOR_HOST`` …), or from the machine's role; no place, option or graph holds one.
"""

import errno
import fnmatch
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeVar

from pipeline.errors import MeterveilError, name_fault
from pipeline.records import RecordPath

#: How often a request is tried, each time after a longer wait: half a minute of a server that is away.
_ATTEMPTS = 8
#: The same of Google's client, which goes by the time.
_AGAIN = timedelta(seconds=45)
Found = TypeVar("Found")
#: Requests at a time, where many objects are looked at.
_AT_ONCE = 16
_MAGIC = re.compile(r"[*?\[]")
_CHUNK = 8 << 20


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What ``Path.stat`` says, as far as a store knows it: size in bytes, time of the last write in s and ns."""

    st_size: int
    st_mtime: float
    st_mtime_ns: int


class ObjectPath(PurePosixPath):
    """An object, or all objects under a prefix: ``s3://bucket/key``. Methods are those of ``Path``, errors too."""

    __slots__ = ()

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    @property
    def filesystem(self) -> Any:
        """The store."""
        return _open_store(self.parts[0])

    @property
    def key(self) -> str:
        """Bucket and key, as the store has them."""
        return "/".join(self.parts[1:])

    def resolve(self) -> Self:
        """Give the place itself: there are no links."""
        return self

    def read_bytes(self) -> bytes:
        """Read an object."""
        with _store_faults(self), self.filesystem.open_input_file(self.key) as file:
            return bytes(file.read())

    def read_text(self, encoding: str = "utf-8") -> str:
        """Read an object of text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes | memoryview) -> None:
        """Put an object, whole or not at all."""
        with _store_faults(self), self.filesystem.open_output_stream(self.key) as file:
            file.write(content)

    def create(self) -> Any:
        """Open a new object to write it, as an Arrow file; it is there when that is closed."""
        with _store_faults(self):
            return self.filesystem.open_output_stream(self.key)

    def open(self, mode: str = "rb") -> Any:
        """Open an object to read any part of it, as an Arrow file."""
        assert mode == "rb"
        with _store_faults(self):
            return self.filesystem.open_input_file(self.key)

    def stat(self) -> ObjectStat:
        """Look at an object."""
        found = self._look()
        if not found.is_file:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return ObjectStat(found.size, found.mtime_ns / 1e9, found.mtime_ns)

    def exists(self) -> bool:
        """Tell whether there is such an object, or any under this prefix."""
        return int(self._look().type) != _NOT_FOUND

    def is_file(self) -> bool:
        """Tell whether there is such an object."""
        return bool(self._look().is_file)

    def is_dir(self) -> bool:
        """Tell whether there is any object under this prefix."""
        return int(self._look().type) == _FOLDER

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Delete an object."""
        with _store_faults(self):
            try:
                self.filesystem.delete_file(self.key)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def delete_below(self) -> None:
        """Delete all objects under this prefix."""
        with _store_faults(self):
            self.filesystem.delete_dir(self.key)

    def iterdir(self) -> Iterator[Self]:
        """List objects and prefixes one level below; none where there is nothing."""
        return (self / info.base_name for info in self._list(recursive=False))

    def rglob(self, pattern: str) -> Iterator[Self]:
        """List all objects below whose last name fits."""
        files = (info for info in self._list(recursive=True) if info.is_file)
        return (type(self)(self.parts[0], info.path) for info in files if fnmatch.fnmatchcase(info.base_name, pattern))

    def glob(self, pattern: str) -> Iterator[Self]:
        """List objects and prefixes that fit a pattern, which may end in ``**/`` and a name."""
        head, _, rest = pattern.partition("/")
        if head == "**":
            yield from self.rglob(rest)
            return
        children = self.iterdir() if _MAGIC.search(head) else [self / head]
        for child in children:
            if _MAGIC.search(head) and not fnmatch.fnmatchcase(child.name, head):
                continue
            if rest:
                yield from child.glob(rest)
            elif _MAGIC.search(head) or child.exists():
                yield child

    def _look(self) -> Any:
        with _store_faults(self):
            return self.filesystem.get_file_info(self.key)

    def _list(self, *, recursive: bool) -> Any:
        from pyarrow.fs import FileSelector

        with _store_faults(self):
            return self.filesystem.get_file_info(FileSelector(self.key, recursive=recursive, allow_not_found=True))


class GoogleObjectPath(ObjectPath):
    """An object of Google Cloud Storage, ``gs://bucket/key``: pyarrow's client takes no prefix for a folder."""

    __slots__ = ()

    def delete_below(self) -> None:
        """Delete all objects under this prefix."""
        with _store_faults(self):
            self.filesystem.delete_dir_contents(self.key, missing_dir_ok=True)

    def iterdir(self) -> Iterator[Self]:
        """List objects and prefixes one level below: found by all that is below, since no listing tells prefixes."""
        depth = len(self.parts)
        below = (type(self)(self.parts[0], info.path) for info in self._list(recursive=True) if info.is_file)
        return iter(sorted({type(self)(*path.parts[: depth + 1]) for path in below}))


#: Where a file is, or is to be.
Place = Path | ObjectPath | RecordPath
#: pyarrow's ``FileType``, whose import is that of every store.
_NOT_FOUND, _FOLDER = 0, 3
_KINDS: dict[str, type[ObjectPath | RecordPath]] = {"s3": ObjectPath, "gs": GoogleObjectPath, "postgresql": RecordPath}


def locate(place: str | Place) -> Place:
    """Make a place of a path or a URI: ``data/lake``, ``file:///data/lake``, ``s3://bucket/lake``, ``gs://bucket/lake``.

    Raises:
        MeterveilError: no such store is known.
    """
    if not isinstance(place, str):
        return place
    scheme, found, rest = place.partition("://")
    if not found:
        return Path(place)
    if scheme == "file":
        return Path("/", rest.partition("/")[2])
    if scheme not in _KINDS:
        raise MeterveilError("no such store is known", where=f"{scheme}://", remedy="name a path, s3:// or gs://")
    return _KINDS[scheme](f"{scheme}:", rest)


def columnar(path: str) -> Any:
    """Give what pyarrow opens a Parquet file by: a local path as it is, an object as an Arrow file."""
    place = locate(path)
    return place.open() if isinstance(place, ObjectPath) else path


def is_readable(place: Place) -> bool:
    """Tell whether there is such a file, and this user may read it."""
    if isinstance(place, Path):
        return os.access(place, os.R_OK)
    try:
        return place.is_file()
    except PermissionError:
        return False


def list_sorted(folder: Place, pattern: str) -> list[Place]:
    """List what fits a pattern under a place, in the order of names."""
    return sorted(folder.glob(pattern))


def look_at_each(look: Callable[[str], Found], paths: Iterable[str]) -> list[Found]:
    """Look at files, one after the other; at objects several at a time, since each takes a request's time."""
    paths = list(paths)
    if not any("://" in path for path in paths):
        return list(map(look, paths))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(look, paths))


def measure(path: str) -> int | None:
    """Tell the size of a file in bytes; None where there is none."""
    place = locate(path)
    try:
        return place.stat().st_size if place.is_file() else None
    except FileNotFoundError:  # it has just gone
        return None


def delete_tree(place: Place) -> None:
    """Delete all that is under a place, if there is anything."""
    if isinstance(place, Path):
        shutil.rmtree(place)
    elif isinstance(place, ObjectPath):
        place.delete_below()


@contextmanager
def local_copy(place: str | Place) -> Iterator[Path]:
    """Give a file of this machine with the content, name and time of one that may be elsewhere."""
    place = locate(place)
    if isinstance(place, Path):
        yield place
        return
    with TemporaryDirectory(prefix="meterveil-input-") as folder:
        yield _fetch(place, Path(folder) / place.name)


@contextmanager
def local_folder(place: Place) -> Iterator[Path]:
    """Give a folder of this machine with the files right below a place that may be elsewhere."""
    if isinstance(place, Path):
        yield place
        return
    with TemporaryDirectory(prefix="meterveil-input-") as folder:
        for file in place.glob("*"):
            if file.is_file():
                _fetch(file, Path(folder) / file.name)
        yield Path(folder)


def upload(files: Iterable[Path], folder: ObjectPath) -> None:
    """Put files of this machine under a prefix, in their order."""
    for file in files:
        target = folder / file.name
        with file.open("rb") as source, _store_faults(target), target.filesystem.open_output_stream(target.key) as out:
            shutil.copyfileobj(source, out, _CHUNK)


def _fetch(place: Place, out: Path) -> Path:
    with place.open("rb") as source, open(out, "xb", opener=_private) as copy:
        shutil.copyfileobj(source, copy, _CHUNK)
    when = place.stat().st_mtime_ns
    os.utime(out, ns=(when, when))
    return out


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@cache
def _open_store(scheme: str) -> Any:
    """Open a store, once a process."""
    from pyarrow import fs

    if scheme == "gs:":
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")  # as Google's own clients have it
        secure, _, host = emulator.rpartition("://")
        named = {"endpoint_override": host, "scheme": secure or "http", "anonymous": True} if emulator else {}
        return fs.GcsFileSystem(retry_time_limit=_AGAIN, **named)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=True,  # a small object is one request
        background_writes=False,
    )


@contextmanager
def _store_faults(place: ObjectPath) -> Iterator[None]:
    """Say of a store's errors which object they are about."""
    try:
        yield
    except OSError as error:
        if error.filename:
            raise
        if error.errno:
            raise type(error)(error.errno, os.strerror(error.errno), str(place)) from None
        raise OSError(errno.EIO, name_fault(error), str(place)) from None
