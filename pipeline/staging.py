"""Staging: frames on their way from reading to folding, in files of the run; only references to them are shuffled.

So memory holds the cells that are being folded and no others, however much a run reads; and a cell can be folded again
at the commit, should another run have changed it meanwhile.
"""

import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.files import create_file, make_folder
from pipeline.stores import ObjectPath
from transforms.pieces import Cell

_WRITE_OPTIONS = pa.ipc.IpcWriteOptions(use_threads=False)


@dataclass(frozen=True, slots=True)
class FrameRef:
    """Where a frame stands.

    Attributes:
        file: name of a file in the run's staging folder.
        offset: first byte.
        length: bytes.
    """

    file: str
    offset: int
    length: int


def write_frames(
    folder: Path | ObjectPath, frames: Iterable[tuple[Cell, pa.RecordBatch]]
) -> Iterator[tuple[Cell, FrameRef]]:
    """Write frames to a new file; it is complete when the iterator is at its end.

    Args:
        folder: the run's staging folder; made (0700) if need be.
        frames: cells and frames (``transforms.pieces.split_by_cell``).

    Yields:
        Each frame's cell and where it stands, in the same order.
    """
    path = folder / f"{secrets.token_hex(8)}.frames"
    with _open_sink(path) as sink:
        for cell, frame in frames:
            offset = sink.tell()
            with pa.ipc.new_stream(sink, frame.schema, options=_WRITE_OPTIONS) as writer:
                writer.write_batch(frame)
            yield cell, FrameRef(path.name, offset, sink.tell() - offset)


def read_frames(folder: Path | ObjectPath, refs: Iterable[FrameRef]) -> list[pa.RecordBatch]:
    """Read frames, zero-copy from mapped files, or each by one request from a store."""
    return [_read_frame(folder, ref) for ref in refs]


def _open_sink(path: Path | ObjectPath) -> Any:
    if isinstance(path, ObjectPath):
        return path.create()
    make_folder(path.parent, private=True)
    os.close(create_file(path, private=True))
    return pa.OSFile(str(path), "wb")


def _read_frame(folder: Path | ObjectPath, ref: FrameRef) -> pa.RecordBatch:
    with _open_source(folder / ref.file) as source, pa.ipc.open_stream(_read_range(source, ref)) as reader:
        return reader.read_next_batch()


def _open_source(path: Path | ObjectPath) -> Any:
    return path.open() if isinstance(path, ObjectPath) else pa.memory_map(str(path))


def _read_range(source: Any, ref: FrameRef) -> pa.Buffer:
    source.seek(ref.offset)
    return source.read_buffer(ref.length)
