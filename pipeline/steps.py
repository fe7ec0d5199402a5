"""The steps of the graph: thin DoFns around plain functions."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import apache_beam as beam
import pyarrow as pa

from pipeline.cells import rewrite_cell
from pipeline.context import RunContext, open_run
from pipeline.entities import derive_bucket, list_stale_buckets
from pipeline.errors import BadFileError, in_plain_words
from pipeline.ledger import find_run
from pipeline.overlap import OverlappedDoFn, OverlappedGroupsDoFn
from pipeline.progress import PROGRESS
from pipeline.quarantine import set_aside
from pipeline.reading import read_part
from pipeline.sources.base import Split
from pipeline.sources.registry import plan_file
from pipeline.staging import FrameRef, write_frames
from pipeline.touched import find_touched, list_changed_buckets
from schemas.series import REJECTED_SCHEMA
from transforms.pieces import Cell

REJECTED, TOTALS, PROBLEMS, REPEATED = "rejected", "totals", "problems", "repeated"


class PlanFiles(OverlappedDoFn):
    """Path to the parts of the file that workers read; a file that can't be read is a problem or ends the run.

    A file that a run has taken in before is told with that run, and not read again unless that is forced.
    """

    def __init__(self, context: RunContext, *, skip_bad_files: bool, force: bool) -> None:
        super().__init__(context.threads)
        self.context, self.skip_bad_files, self.force = context, skip_bad_files, force

    def work(self, element: str) -> Sequence[Any]:
        """Check one file's structure and cut it."""
        try:
            splits = plan_file(element, self.context.read)
        except BadFileError as error:
            if not self.skip_bad_files:
                raise
            return [beam.pvalue.TaggedOutput(PROBLEMS, str(error))]
        if splits and not self.force:
            digest, name = splits[0].digest, element.rpartition("/")[2]
            if before := find_run(open_run(self.context).lake, self.context.options, digest, name):
                return [beam.pvalue.TaggedOutput(REPEATED, (digest, name, before))]
        return list(splits)


class ReadReadings(OverlappedDoFn):
    """Part of a file to staged frames by cell; rejected readings by file; totals."""

    def __init__(self, context: RunContext) -> None:
        super().__init__(context.threads)
        self.context = context

    def work(self, element: Split) -> Sequence[Any]:
        """Read one part of a file."""
        run = open_run(self.context)
        part = read_part(element, self.context.read, run.calendar, run.lake.settings.bucket_count)
        name = element.path.rpartition("/")[2]
        PROGRESS.advance("readings read", part.totals.count("delivered"))
        return [
            *((tuple(cell), (ref,)) for cell, ref in write_frames(run.staging, part.frames)),
            *(beam.pvalue.TaggedOutput(REJECTED, (element.digest, (name, rejected))) for rejected in part.rejected),
            beam.pvalue.TaggedOutput(TOTALS, part.totals),
        ]


class ListChanged(beam.DoFn):
    """The run to the buckets that a reference may have changed."""

    def __init__(self, context: RunContext) -> None:
        self.context = context

    def process(self, element: str) -> Iterator[int]:
        """Compare the versions of the run's reference and the lake's."""
        del element
        with in_plain_words():
            yield from list_changed_buckets(open_run(self.context))


class ListStale(beam.DoFn):
    """The run to the buckets whose entity datasets are to be derived."""

    def __init__(self, context: RunContext) -> None:
        self.context = context

    def process(self, element: str) -> Iterator[int]:
        """Look at reference and register of bans."""
        del element
        with in_plain_words():
            yield from list_stale_buckets(open_run(self.context))


class FindTouched(OverlappedDoFn):
    """Bucket whose reference may have changed to the cells that this touches, without frames."""

    def __init__(self, context: RunContext) -> None:
        super().__init__(context.threads)
        self.context = context

    def work(self, element: int) -> Sequence[Any]:
        """Compare the bucket's reference with the lake's."""
        return [(tuple(cell), ()) for cell in find_touched(open_run(self.context), element)]


class FoldCells(OverlappedGroupsDoFn):
    """Cell with its frames, if any came, to what became of it."""

    def __init__(self, context: RunContext) -> None:
        super().__init__(context.threads)
        self.context = context

    def work(self, element: tuple[tuple[int, int], Iterable[Iterable[FrameRef]]]) -> Sequence[Any]:
        """Fold and derive one cell."""
        key, refs = element
        work = rewrite_cell(open_run(self.context), Cell(*key), chain.from_iterable(refs))
        PROGRESS.advance("readings written", work.totals.count("after"))
        return [work]


class WriteQuarantine(OverlappedGroupsDoFn):
    """Rejected readings of one input file to its quarantine file, which takes the place of an earlier one.

    A file is what it contains: of copies under several names, the first name stands for all.
    """

    def __init__(self, context: RunContext) -> None:
        super().__init__(context.threads)
        self.context = context

    def work(self, element: tuple[str, Iterable[tuple[str, pa.RecordBatch]]]) -> Sequence[Any]:
        """Write one file of every dataset of quarantined readings."""
        digest, named = element
        batches = list(named)
        name = min(name for name, _ in batches)
        rejected = pa.Table.from_batches([batch for of, batch in batches if of == name], REJECTED_SCHEMA)
        rejected = rejected.sort_by([("row", "ascending"), ("position", "ascending"), ("reason", "ascending")])
        for field, value in (("file_name", name), ("file_digest", digest)):
            rejected = rejected.append_column(field, pa.repeat(value, len(rejected)))
        return [set_aside(open_run(self.context), digest, name, rejected)]


class DeriveEntities(OverlappedDoFn):
    """Bucket to the files of the entity datasets, from the reference snapshot."""

    def __init__(self, context: RunContext) -> None:
        super().__init__(context.threads)
        self.context = context

    def work(self, element: int) -> Sequence[Any]:
        """Derive one bucket of every entity dataset."""
        return list(derive_bucket(open_run(self.context), element))
