"""What a run makes of its night: which days it leaves incomplete, and whether a limit of the policy is exceeded."""

from collections.abc import Sequence
from datetime import datetime

from pipeline.cells import CellWork, label_of
from pipeline.completeness import count_days, find_daily
from pipeline.context import OpenRun
from pipeline.errors import MeterveilError
from pipeline.totals import Totals
from transforms.calendar import local_day
from transforms.completeness import DayCount
from transforms.limits import Limits


def judge_night(
    run: OpenRun, cells: Sequence[CellWork], totals: Totals, limits: Limits, now: datetime
) -> tuple[list[DayCount], list[str]]:
    """Count what the days that a run touched, and those that are due, have and miss; hold all against the limits.

    Args:
        run: the run as it commits.
        cells: what became of every cell.
        totals: of the whole run.
        limits: the policy's, or what the command line says instead.
        now: when the run began.

    Returns:
        The days, in order, and a line for every limit whose action is to warn.

    Raises:
        MeterveilError: a limit is exceeded whose action is to stop; nothing was committed.
    """
    today = local_day(now, run.lake.settings.time_zone)
    days = _count_days(run, cells, limits, today)
    breaches = [
        *limits.check_quarantined(totals.count("delivered"), totals.by_kind("quarantined")),
        *limits.check_days(days, today),
    ]
    for breach in breaches:
        if breach.action == "stop":
            raise MeterveilError(
                breach.problem,
                where="limits",
                remedy="nothing was committed; look at the input, or allow more (limits of the policy)",
            )
    return days, [breach.problem for breach in breaches]


def _count_days(run: OpenRun, cells: Sequence[CellWork], limits: Limits, today: int) -> list[DayCount]:
    dataset = find_daily(run.plan)
    if dataset is None:
        return []
    current = run.current[dataset.name]
    files = {label: file.path for label, file in current.items()}
    files |= {label_of(work.cell): file.path for work in cells for file in work.files if file.dataset == dataset.name}
    touched = {work.local_date for work in cells if not run.is_beyond(dataset.name, work.local_date)}
    held = touched.union(file.local_date for file in current.values() if file.local_date is not None)
    return count_days(
        dataset,
        files,
        run.reference,
        run.calendar,
        run.lake.settings.bucket_count,
        touched | limits.due(today, held),
    )
