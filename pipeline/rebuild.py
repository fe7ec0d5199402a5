"""Rebuilding: every dataset derived again from ``operational.readings``, by another policy, key or reference.

Cell by cell, into new files that no reader sees until all are there. Then all tables change at once. A rebuild that is
interrupted goes on with the cells that it has not done; what other runs commit meanwhile is taken in at the end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsList

from pipeline.begin import RunRequest, begin_run, own_policy, read_run_record
from pipeline.cells import READINGS, CellWork, cell_of, label_of, path_of, rewrite_cell
from pipeline.coders import register_coders
from pipeline.commit import CommitRules, RunOutcome, commit_run
from pipeline.context import RunContext, open_run
from pipeline.lake import open_lake
from pipeline.overlap import OverlappedDoFn
from pipeline.parquet import DataFile
from pipeline.policy_file import load_policy
from pipeline.progress import PROGRESS
from pipeline.resume import Target, WorkLog
from pipeline.runners import Engine, run_pipeline
from pipeline.steps import DeriveEntities
from pipeline.stores import Place
from transforms.limits import NO_LIMITS
from transforms.pieces import Cell

register_coders(CellWork, DataFile)


@dataclass(frozen=True, slots=True)
class RebuildRequest:
    """What a user asks of ``meterveil rebuild``.

    Attributes:
        lake: root of the lake.
        run: keys, reference and threads.
        policy: policy file, or None for the lake's own.
    """

    lake: Place
    run: RunRequest
    policy: Place | None = None


def run_rebuild(request: RebuildRequest) -> dict[str, Any]:
    """Derive every dataset of a lake again.

    Returns:
        The run record (``pipeline.commit``).

    Raises:
        MeterveilError: whatever went wrong, in one line; the lake is as it was, and the same command goes on.
    """
    lake = open_lake(request.lake)
    stored = own_policy(lake)
    policy = request.policy or stored
    plan = load_policy(policy)
    now = datetime.now(UTC)
    with begin_run(lake, policy, plan, request.run, "rebuild", now, rebuilds=True) as context:
        PROGRESS.reset()
        pipeline = Engine().make_pipeline()
        build_rebuild(pipeline, context, CommitRules("rebuild", now.isoformat(), NO_LIMITS))
        run_pipeline(pipeline)
    return read_run_record(lake, context.run_id)


def build_rebuild(pipeline: beam.Pipeline, context: RunContext, rules: CommitRules) -> None:
    """Wire the job: every cell that has readings, every bucket of what is of the reference, one commit."""
    run = open_run(context)
    cells = (
        pipeline
        | "Cells" >> beam.Create([tuple(cell_of(label)) for label in sorted(run.current[READINGS])], reshuffle=False)
        | "SpreadCells" >> beam.Reshuffle()
        | "RebuildCells" >> beam.ParDo(RebuildCells(context)).with_output_types(CellWork)
    )
    entities = (
        pipeline
        | "Buckets" >> beam.Create(range(run.lake.settings.bucket_count)).with_output_types(int)
        | "DeriveEntities" >> beam.ParDo(DeriveEntities(context)).with_output_types(DataFile)
    )
    _ = (
        pipeline
        | "Once" >> beam.Create([context.run_id]).with_output_types(str)
        | "Commit" >> beam.ParDo(CommitRebuild(context, rules), AsList(cells), AsList(entities)).with_output_types(str)
    )


class RebuildCells(OverlappedDoFn):
    """Cell to what became of it, unless an earlier attempt has done it already."""

    def __init__(self, context: RunContext) -> None:
        super().__init__(context.threads)
        self.context = context

    def work(self, element: tuple[int, int]) -> Sequence[Any]:
        """Derive one cell."""
        run, cell = open_run(self.context), Cell(*element)
        log, done = _open_log(self.context)
        work = done.get(cell)
        if work is None or work.base != path_of(run.current[READINGS].get(label_of(cell))):
            work = rewrite_cell(run, cell, ())
            log.add(work)
        PROGRESS.advance("readings derived", work.totals.count("after"))
        return [work]


class CommitRebuild(beam.DoFn):
    """The last step: all tables change at once."""

    def __init__(self, context: RunContext, rules: CommitRules) -> None:
        self.context, self.rules = context, rules

    def process(self, element: str, cells: Sequence[CellWork], entities: Sequence[DataFile]) -> Iterable[str]:
        """Commit the rebuild; its id comes out when it is done."""
        commit_run(open_run(self.context), RunOutcome(cells, entities, [], [], [], []), self.rules)
        yield element


@lru_cache(maxsize=1)
def _open_log(context: RunContext) -> tuple[WorkLog, dict[Cell, CellWork]]:
    """Open the log of a rebuild, once a process, with what is done."""
    run = open_run(context)
    target = Target(run.plan.digest, run.keyset.primary.info.id, context.reference, context.tombstones)
    log = WorkLog(run.staging, target)
    return log, log.read()
