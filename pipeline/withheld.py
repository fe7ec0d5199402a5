"""What was shown of people who may not be shown any more goes with the run that knows it, history included.

A dataset that leaves people out (``transforms.plan.Dataset.withholds``) has no history: its earlier states hold whoever
was left out since. So a commit forgets them, and deletes their data files: they lie in a folder that the dataset's
audience may read. Both stand in the journal: a commit is not finished, whoever finishes it, while one of these files is
there. The run that comes next may have nothing to commit, so it could not be left to that. A state that another run at
work builds on stays until that one is done.
"""

from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime

from pipeline.context import OpenRun
from pipeline.journal import TableChange
from pipeline.labels import mark_in
from pipeline.lake import Lake
from pipeline.lease import begin_of_live, find_stray_metadata, list_busy
from pipeline.stores import locate
from transforms.plan import Dataset


def forget_outlived(lake: Lake, dataset: Dataset, change: TableChange, run_id: str, *, anew: bool) -> TableChange:
    """Let a change of a dataset that withholds forget the earlier states, and delete what no snapshot has then.

    Args:
        lake: the lake.
        dataset: any dataset; one that leaves nobody out keeps its history.
        change: the files that come and go.
        run_id: the run that commits.
        anew: whether the table begins empty, without the snapshots that it has.
    """
    if not dataset.withholds:
        return change
    if anew:
        return replace(change, deleted=_find_unneeded(lake, dataset.name, set()))
    now = datetime.now(UTC)
    others = begin_of_live(lake, now, apart=run_id)
    state = lake.state(dataset.name)
    kept = state.list_since(others)
    if (change.added or change.removed) and others == now:
        kept.discard(state.snapshot_id or 0)
    expired = tuple(one["snapshot-id"] for one in state.snapshots if one["snapshot-id"] not in kept)
    goes_on = {file.path for file in state.files()}.difference(change.removed)
    deleted = _find_unneeded(lake, dataset.name, state.needed_paths(kept) | goes_on)
    return replace(change, expired=expired, deleted=deleted)


def delete_outlived(run: OpenRun) -> None:
    """Delete the metadata that no snapshot needs of datasets that withhold; to be called by the sole committer.

    It tells of nobody, so whoever dies before that may leave it to the next clean-up.
    """
    for dataset in run.plan.datasets.values():
        if dataset.withholds:
            needed = run.lake.state(dataset.name).needed_paths()
            for path in find_stray_metadata(run.lake, dataset.name, needed):
                locate(path).unlink(missing_ok=True)


def _find_unneeded(lake: Lake, name: str, needed: AbstractSet[str]) -> tuple[str, ...]:
    """Find a table's data files that are not among the needed ones and that nobody at work has written."""
    found = lake.marked_data_paths(name, "") - needed
    busy = list_busy(lake)  # looked up afterwards: a run that has just begun may have written one of them
    return tuple(sorted(path for path in found if mark_in(path) not in busy))
