"""Rows on their way to the buckets of a reference snapshot, in files, so that no step has to hold them all."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import pyarrow as pa

from transforms.buckets import bucket_of

Made = TypeVar("Made")

#: Results that wait for whoever takes them; more would only fill memory.
_AHEAD = 4
#: Of each bucket's file while rows are cut into all of them.
_BUFFER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Spill:
    """Rows in a file per bucket of their key, so that no step has to hold them all."""

    folder: Path
    key: str
    schema: pa.Schema
    bucket_count: int

    @contextmanager
    def open(self) -> Iterator[Callable[[pa.RecordBatch], None]]:
        """Make the files; gives the function that writes batches to them."""
        self.folder.mkdir(mode=0o700)
        with ExitStack() as stack:
            files = [stack.enter_context(self._create(bucket)) for bucket in range(self.bucket_count)]
            writers = [stack.enter_context(pa.ipc.new_stream(file, self.schema)) for file in files]

            def write(batch: pa.RecordBatch) -> None:
                buckets = bucket_of(batch[self.key], self.bucket_count)
                ordered = batch.take(pa.array(np.argsort(buckets.astype(np.uint16), kind="stable")))
                ends = np.cumsum(np.bincount(buckets, minlength=self.bucket_count)).tolist()
                for writer, start, end in zip(writers, [0, *ends], ends, strict=False):
                    if end > start:
                        writer.write_batch(ordered.slice(start, end - start))

            yield write

    def scatter(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Write batches; gives the number of rows."""
        rows = 0
        with self.open() as write:
            for batch in batches:
                rows += batch.num_rows
                write(batch)
        return rows

    def replace(self, bucket: int, rows: pa.Table) -> None:
        """Write other rows in the place of a bucket's."""
        path = self._name(bucket)
        path.unlink()
        with create_private(path) as file, pa.ipc.new_stream(file, self.schema) as writer:
            writer.write_table(rows.combine_chunks())

    def gather(self, bucket: int, *order: str) -> pa.Table:
        """Read a bucket, sorted by the columns given."""
        with pa.memory_map(str(self._name(bucket))) as file:
            table = pa.ipc.open_stream(file).read_all().combine_chunks()
        return table.sort_by([(name, "ascending") for name in order]) if order else table

    def drain(self, bucket: int, *order: str) -> pa.Table:
        """Read a bucket for the last time, as ``gather`` does: its space is free as soon as nobody has its rows."""
        rows = self.gather(bucket, *order)
        self._name(bucket).unlink()
        return rows

    def _create(self, bucket: int) -> pa.NativeFile:
        # A batch is many small buffers: each would be a call of Python, and a turn at the GIL.
        create_private(self._name(bucket)).close()
        return pa.output_stream(str(self._name(bucket)), compression=None, buffer_size=_BUFFER_BYTES)

    def _name(self, bucket: int) -> Path:
        return self.folder / f"{bucket:05d}.arrows"


def create_private(path: Path) -> BinaryIO:
    """Open a new file that only its owner may read."""
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))


def map_ahead(pool: ThreadPoolExecutor, work: Callable[[int], Made], buckets: int) -> Iterator[Made]:
    """Give what ``work`` makes of each bucket, in order, a few buckets ahead of who takes it."""
    waiting: deque[Future[Made]] = deque()
    for bucket in range(buckets):
        waiting.append(pool.submit(work, bucket))
        if len(waiting) > _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
