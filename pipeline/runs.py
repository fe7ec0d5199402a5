"""What became of runs: those that committed, those that are at work, and those that died."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from pipeline.begin import read_run_record
from pipeline.context import RUNS
from pipeline.errors import MeterveilError
from pipeline.journal import list_unfinished
from pipeline.lake import Lake
from pipeline.lease import list_holders
from pipeline.stores import columnar

#: How many runs are listed of those that committed.
_NEWEST = 20
_COMMITTED, _HALF, _AT_WORK, _DEAD = "committed", "commit not finished", "at work", "dead"
#: What is told of a run that has not committed, and what to do.
_TELLS = {
    _HALF: ("its commit was begun and is not finished", "the next run finishes it"),
    _AT_WORK: ("it is at work", "ask again later"),
    _DEAD: ("it died, and committed nothing", "run it again: that clears away what was left"),
    "": (
        "no run of this id has committed or is at work",
        "unless it is a slip, it died: run it again",
    ),
}


@dataclass(frozen=True, slots=True)
class Run:
    """A run.

    Attributes:
        run_id: its id.
        command: what it does.
        began: when, ISO 8601.
        state: ``committed``, ``commit not finished``, ``at work`` or ``dead``.
        until: when it committed; else until when it counts as at work without another sign of life, or empty where its
            process can be asked. ISO 8601.
    """

    run_id: str
    command: str
    began: str
    state: str
    until: str


def list_runs(lake: Lake) -> list[Run]:
    """List the newest runs that committed, then all that have not, each the oldest first; changes nothing."""
    committed, half = _find_committed(lake), list_unfinished(lake)
    others = []
    for holder in list_holders(lake):
        state = _HALF if holder.run_id in half else _AT_WORK if holder.is_live else _DEAD
        until = holder.until.isoformat() if holder.until else ""
        others.append(Run(holder.run_id, holder.command, holder.started_at, state, until))
    newest = [_read(committed[run_id]) for run_id in sorted(committed)[-_NEWEST:]]
    return [*newest, *(run for run in others if run.run_id not in committed)]


def find_record(lake: Lake, run_id: str) -> dict[str, Any]:
    """Read the record of a run that committed (``pipeline.commit``).

    Raises:
        MeterveilError: it has not; the error says what became of it.
    """
    if run_id in _find_committed(lake):
        return read_run_record(lake, run_id)
    states = [run.state for run in list_runs(lake) if run.run_id == run_id]
    problem, remedy = _TELLS[states[0] if states else ""]
    raise MeterveilError(problem, where=run_id, remedy=remedy)


def _find_committed(lake: Lake) -> dict[str, str]:
    """Map the id of each run that committed to the file of its record."""
    return {file.label: file.path for file in lake.state(RUNS).files()} if lake.has_table(RUNS) else {}


def _read(path: str) -> Run:
    [text] = pq.read_table(columnar(path), columns=["record"])["record"].to_pylist()
    record = json.loads(text)
    return Run(record["run_id"], record["command"], record["started_at"], _COMMITTED, record["committed_at"])
