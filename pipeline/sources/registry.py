"""The one list of sources, which of them reads a file, and the two calls that the graph makes.

A source is named by an entry point, whether it is ours or comes with another package, and imported when it is asked.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType

from pipeline.errors import BadFileError, MeterveilError
from pipeline.sources.base import Delivery, ReadOptions, Source, Split
from pipeline.stores import local_copy, locate

#: Group of entry points under which other packages offer sources.
GROUP = "meterveil.sources"
#: Our own, in the order in which they are asked: those with a magic number first, those that need an option last.
_OWN = {
    "avro": "pipeline.sources.avro:AvroSource",
    "parquet": "pipeline.sources.parquet:ParquetSource",
    "nem12": "pipeline.sources.nem12:Nem12Source",
    "nem13": "pipeline.sources.nem13:Nem13Source",
    "datahub-xml": "pipeline.sources.datahub_xml:DatahubXmlSource",
    "datahub-json": "pipeline.sources.datahub_json:DatahubJsonSource",
    "datahub-csv": "pipeline.sources.datahub_csv:DatahubCsvSource",
    "mapped-csv": "pipeline.sources.mapped_csv:MappedCsvSource",
}
#: What a source must have (``pipeline.sources.base.Source``).
_CALLS = ("recognises", "splits", "read")
_HEAD_BYTES = 64 << 10


@cache
def list_sources() -> Mapping[str, EntryPoint]:
    """List the formats, ours first, without importing any of their sources.

    Raises:
        MeterveilError: two packages offer a format of one name, or one that is ours.
    """
    found = {name: EntryPoint(name, value, GROUP) for name, value in _OWN.items()}
    for plug_in in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if plug_in.name in found:
            raise MeterveilError(
                f"{_describe(found[plug_in.name])} and {_describe(plug_in)} both offer it",
                where=f"format {plug_in.name}",
                remedy="uninstall one of them, or rename its entry point and its source",
            )
        found[plug_in.name] = plug_in
    return MappingProxyType(found)


@cache
def load_source(name: str) -> Source:
    """Import a source.

    Raises:
        MeterveilError: there is none of that name, it can't be imported, or it is no source.
    """
    sources = list_sources()
    if name not in sources:
        raise MeterveilError(
            "there is no such format",
            where="--format",
            remedy=f"name one of {', '.join(sources)}, or install the package that offers it",
        )
    entry = sources[name]
    try:
        source: Source = entry.load()()
    except Exception as error:
        raise _broken(entry, f"it can't be loaded ({type(error).__name__})") from error
    if missing := [call for call in _CALLS if not callable(getattr(source, call, None))]:
        raise _broken(entry, f"it has no {', '.join(missing)}")
    if source.name != name:
        raise _broken(entry, "the source has another name than its entry point")
    return source


def find_source(path: str, options: ReadOptions) -> Source:
    """Find the source that reads a file: by the option, else by the file's content.

    Raises:
        BadFileError: no format known here.
        MeterveilError: the option names none, or a source can't be loaded.
    """
    if options.format is not None:
        return load_source(options.format)
    with Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for source in map(load_source, list_sources()):
        if source.recognises(path, head, options):
            return source
    raise BadFileError(
        f"its content is of no known format ({', '.join(list_sources())})",
        where=path,
        remedy="name it with --format, or give a --mapping",
    )


def plan_file(path: str, options: ReadOptions) -> Sequence[Split]:
    """Check a file and cut it into parts; it is read once for its digest, and touched in few places for the rest.

    Raises:
        BadFileError: missing, empty, damaged, or of no known format.
        MeterveilError: an option is missing or wrong, or a source can't be loaded.
    """
    try:
        stamp = _stamp(path)
        with _here(path) as local:
            return [replace(split, path=path, stamp=stamp) for split in _split(local, options)]
    except OSError as error:
        raise BadFileError("it can't be opened", where=path, remedy=error.strerror or "check the path") from None


def _split(path: str, options: ReadOptions) -> Sequence[Split]:
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    if size == 0:
        raise BadFileError("the file is empty (0 bytes)", where=path, remedy="fetch it again")
    return find_source(path, options).splits(path, digest, options)


def read_split(split: Split, options: ReadOptions) -> Iterator[Delivery]:
    """Decode a part of a file, batch by batch; every reading in it ends in ``series`` or in ``rejected``.

    Raises:
        BadFileError: what only decoding shows to be damaged; or the file is not the one that was planned any more.
    """
    try:
        with _here(split.path) as local:
            yield from load_source(split.format).read(replace(split, path=local), options)
    finally:  # also where its end is gone, or its content is torn
        if not locate(split.path).exists() or _stamp(split.path) != split.stamp:
            raise BadFileError(
                "it changed while it was read", where=split.path, remedy="run again when whoever writes it is done"
            )


def _stamp(path: str) -> str:
    """Say how a file stands on its disk: whoever writes to it, or replaces it, changes that."""
    status = locate(path).stat()
    return f"{getattr(status, 'st_ino', 0)} {status.st_size} {status.st_mtime_ns}"


@contextmanager
def _here(path: str) -> Iterator[str]:
    """Give a file's path on this machine; an error that names it says where the file really is."""
    try:
        with local_copy(path) as copy:
            yield str(copy)
    except BadFileError as error:
        raise BadFileError(error.problem, where=error.where.replace(str(copy), path), remedy=error.remedy) from None


def _describe(entry: EntryPoint) -> str:
    return f"the package {entry.dist.name}" if entry.dist else "meterveil"


def _broken(entry: EntryPoint, problem: str) -> MeterveilError:
    return MeterveilError(
        problem, where=f"format {entry.name}, from {_describe(entry)}", remedy="mend that package, or uninstall it"
    )
