"""The graph: readings and reference in, every dataset of the policy out, one commit at the end."""

from collections.abc import Iterable, Sequence

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsList

from pipeline.cells import CellWork
from pipeline.coders import register_coders
from pipeline.commit import CommitRules, RunOutcome, commit_run
from pipeline.context import RunContext, open_run
from pipeline.errors import in_plain_words
from pipeline.lake import open_lake
from pipeline.lease import end_run
from pipeline.parquet import DataFile
from pipeline.quarantine import InputWork
from pipeline.sources.base import Split
from pipeline.staging import FrameRef
from pipeline.steps import (
    PROBLEMS,
    REJECTED,
    REPEATED,
    TOTALS,
    DeriveEntities,
    FindTouched,
    FoldCells,
    ListChanged,
    ListStale,
    PlanFiles,
    ReadReadings,
    WriteQuarantine,
)
from pipeline.totals import Totals

register_coders(Split, FrameRef, CellWork, InputWork, DataFile, Totals)

Frames = tuple[tuple[int, int], Iterable[FrameRef]]
Rejected = tuple[str, tuple[str, pa.RecordBatch]]
#: Digest and name of an input, and the run that took it in before.
Repeated = tuple[str, str, str]


def build_ingest(
    pipeline: beam.Pipeline,
    paths: Sequence[str],
    context: RunContext,
    rules: CommitRules,
    *,
    skip_bad_files: bool,
    force: bool,
    ends_run: bool,
) -> None:
    """Wire the whole job; what each step does is a function of the module that it comes from.

    Args:
        pipeline: what it becomes part of.
        paths: input files.
        context: the run.
        rules: what the commit respects.
        skip_bad_files: whether files that can't be read are listed.
        force: whether files are read again.
        ends_run: whether the run ends with the graph's last step. On a cluster it does: whoever sent it there may have
            gone.
    """
    planned = (
        pipeline
        | "Inputs" >> beam.Create(paths).with_output_types(str)
        | "PlanFiles"
        >> beam.ParDo(PlanFiles(context, skip_bad_files=skip_bad_files, force=force))
        .with_output_types(Split, **{PROBLEMS: str, REPEATED: Repeated})
        .with_outputs(PROBLEMS, REPEATED, main="splits")
    )
    read = (
        planned.splits
        | "SpreadSplits" >> beam.Reshuffle()
        | "ReadReadings"
        >> beam.ParDo(ReadReadings(context))
        .with_output_types(Frames, **{REJECTED: Rejected, TOTALS: Totals})
        .with_outputs(REJECTED, TOTALS, main="frames")
    )
    once = pipeline | "Once" >> beam.Create([context.run_id]).with_output_types(str)
    changed = (
        once
        | "ListChanged" >> beam.ParDo(ListChanged(context)).with_output_types(int)
        | "SpreadBuckets" >> beam.Reshuffle()
    )
    touched = changed | "FindTouched" >> beam.ParDo(FindTouched(context)).with_output_types(Frames)
    cells = (
        (read.frames, touched)
        | "FramesAndTouched" >> beam.Flatten()
        | "GroupByCell" >> beam.GroupByKey()
        | "FoldCells" >> beam.ParDo(FoldCells(context)).with_output_types(CellWork)
    )
    quarantined = (
        read[REJECTED]
        | "GroupByFile" >> beam.GroupByKey()
        | "WriteQuarantine" >> beam.ParDo(WriteQuarantine(context)).with_output_types(InputWork)
    )
    stale = (
        once | "ListStale" >> beam.ParDo(ListStale(context)).with_output_types(int) | "SpreadStale" >> beam.Reshuffle()
    )
    entities = stale | "DeriveEntities" >> beam.ParDo(DeriveEntities(context)).with_output_types(DataFile)
    committed = once | "Commit" >> beam.ParDo(
        Commit(context, rules),
        AsList(cells),
        AsList(entities),
        AsList(read[TOTALS]),
        AsList(planned.splits),
        AsList(planned[PROBLEMS]),
        AsList(planned[REPEATED]),
        AsList(quarantined),
    ).with_output_types(str)
    if ends_run:
        # What is tried again behind the reshuffle finds a commit that is done, and needs nothing that was staged.
        ended = committed | "AfterCommit" >> beam.Reshuffle()
        _ = ended | "EndRun" >> beam.ParDo(EndRun(context)).with_output_types(str)


class Commit(beam.DoFn):
    """The last step: everything that was written and counted, at once."""

    def __init__(self, context: RunContext, rules: CommitRules) -> None:
        self.context, self.rules = context, rules

    def process(
        self,
        element: str,
        cells: Sequence[CellWork],
        entities: Sequence[DataFile],
        totals: Sequence[Totals],
        splits: Sequence[Split],
        problems: Sequence[str],
        repeated: Sequence[Repeated],
        quarantine: Sequence[InputWork],
    ) -> Iterable[str]:
        """Commit the run; its id comes out when it is done."""
        inputs = {(split.digest, split.path.rpartition("/")[2]) for split in splits}
        with in_plain_words():
            outcome = RunOutcome(
                *(cells, entities, totals, sorted(inputs), problems, sorted(repeated), quarantine), parts=len(splits)
            )
            commit_run(open_run(self.context), outcome, self.rules)
        yield element


class EndRun(beam.DoFn):
    """What follows the commit on a cluster: nothing that was staged is of use any more, and the lease ends."""

    def __init__(self, context: RunContext) -> None:
        self.context = context

    def process(self, element: str) -> Iterable[str]:
        """End the run; its id comes out."""
        end_run(open_lake(self.context.lake), element, tried_again=True)
        yield element
