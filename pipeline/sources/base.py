"""The small interface that every input format implements."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read inputs where the file itself does not say.

    Attributes:
        registered_at: an ISO 8601 time with offset, ``now`` resolved to one before the run starts, ``file-name`` (an
            ISO basic stamp such as ``20260330T040000Z`` in the file's name), or None.
        metering_point: the id for files whose id column is blank or ``0``.
        mapping: path of a mapping file for a mapped CSV.
        format: the format's name, when it is not to be found from the content.
    """

    registered_at: str | None = None
    metering_point: str | None = None
    mapping: str | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """A part of one file that one worker reads.

    Attributes:
        path: the file.
        format: name of the source that made the split.
        digest: SHA-256 of the whole file, hex.
        start: first byte (Avro, CSV) or first row group (Parquet) of the part.
        stop: the end, exclusive, in the same unit.
        first_row: number, from 1, of the part's first record or line in the file.
        rows: records that decoding must give, or None where the format can't tell beforehand.
        stamp: how the file stood on its disk when its digest was taken; the registry sees to it.
    """

    path: str
    format: str
    digest: str
    start: int
    stop: int
    first_row: int
    rows: int | None = None
    stamp: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a source reads at a time.

    Attributes:
        series: a batch of ``schemas.series.SERIES_SCHEMA``, ids canonical, validated only as far as decoding needs.
        rejected: readings that could not be decoded, of ``schemas.series.REJECTED_SCHEMA``.
    """

    series: pa.RecordBatch
    rejected: pa.RecordBatch


class Source(Protocol):
    """A format of readings."""

    name: str

    def recognises(self, path: str, head: bytes, options: ReadOptions) -> bool:
        """Tell from the first bytes (up to 64 KiB) whether the file is of this format."""
        ...

    def splits(self, path: str, digest: str, options: ReadOptions) -> Sequence[Split]:
        """Check the file's structure and cut it into parts.

        Raises:
            BadFileError: truncated, damaged, empty, wrong schema.
        """
        ...

    def read(self, split: Split, options: ReadOptions) -> Iterator[Delivery]:
        """Decode a part, batch by batch; every reading in it ends in ``series`` or in ``rejected``."""
        ...
