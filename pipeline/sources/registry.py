"""Which source reads a file, and the two calls that the graph makes."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import BadFileError, MeterveilError
from pipeline.sources.avro import AvroSource
from pipeline.sources.base import Delivery, ReadOptions, Source, Split
from pipeline.sources.datahub_csv import DatahubCsvSource
from pipeline.sources.mapped_csv import MappedCsvSource
from pipeline.sources.parquet import ParquetSource

#: The formats, in the order in which they are asked: those with a magic number first.
SOURCES: dict[str, Source] = {
    source.name: source for source in (AvroSource(), ParquetSource(), DatahubCsvSource(), MappedCsvSource())
}
_HEAD_BYTES = 64 << 10


def find_source(path: str, options: ReadOptions) -> Source:
    """Find the source that reads a file: by the option, else by the file's content.

    Raises:
        BadFileError: no format known here.
        MeterveilError: the option names none.
    """
    known = ", ".join(SOURCES)
    if options.format is not None:
        if options.format not in SOURCES:
            raise MeterveilError("there is no such format", where="--format", remedy=f"name one of {known}")
        return SOURCES[options.format]
    with Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for source in SOURCES.values():
        if source.recognises(path, head, options):
            return source
    raise BadFileError(
        f"its content is of no known format ({known})", where=path, remedy="name it with --format, or give a --mapping"
    )


def plan_file(path: str, options: ReadOptions) -> Sequence[Split]:
    """Check a file and cut it into parts; it is read once for its digest, and touched in few places for the rest.

    Raises:
        BadFileError: missing, empty, damaged, or of no known format.
        MeterveilError: an option is missing or wrong.
    """
    try:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise BadFileError("it can't be opened", where=path, remedy=error.strerror or "check the path") from None
    if size == 0:
        raise BadFileError("the file is empty (0 bytes)", where=path, remedy="fetch it again")
    return find_source(path, options).splits(path, digest, options)


def read_split(split: Split, options: ReadOptions) -> Iterator[Delivery]:
    """Decode a part of a file, batch by batch; every reading in it ends in ``series`` or in ``rejected``.

    Raises:
        BadFileError: what only decoding shows to be damaged.
    """
    return SOURCES[split.format].read(split, options)
