"""What was shown of people who may not be shown any more goes with the run that knows it, history included.

A dataset that leaves people out (``transforms.plan.Dataset.withholds``) has no history: its earlier states hold whoever
was left out since. So a commit forgets them, and deletes their files at once: they lie in a folder that the dataset's
audience may read. Whoever dies in between leaves that to the next run, or to housekeeping. A state that another run
at work builds on stays until that one is done.
"""

from datetime import UTC, datetime

from pipeline.context import OpenRun
from pipeline.lake import Lake
from pipeline.lease import begin_of_live, delete_strays
from transforms.plan import Dataset


def list_outlived(lake: Lake, dataset: Dataset, run_id: str, *, replaced: bool) -> tuple[int, ...]:
    """List the snapshots that a dataset which withholds is to forget.

    Args:
        lake: the lake.
        dataset: any dataset; one that leaves nobody out keeps its history.
        run_id: the run that commits.
        replaced: whether it gives the table another snapshot.
    """
    if not dataset.withholds:
        return ()
    now = datetime.now(UTC)
    others = begin_of_live(lake, now, apart=run_id)
    state = lake.state(dataset.name)
    kept = state.list_since(others)
    if replaced and others == now:
        kept.discard(state.snapshot_id or 0)
    return tuple(one["snapshot-id"] for one in state.snapshots if one["snapshot-id"] not in kept)


def delete_outlived(run: OpenRun) -> None:
    """Delete the files that no snapshot needs of datasets that withhold; to be called by the sole committer."""
    delete_strays(run.lake, (dataset.name for dataset in run.plan.datasets.values() if dataset.withholds))
