"""Time travel: which snapshots of the tables were current at a time, or when a run was done."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from pipeline.errors import MeterveilError
from pipeline.lake import Lake
from pipeline.table_state import TableState
from transforms.plan import Dataset

_RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_OPTION = "--as-of"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def find_instant(lake: Lake, datasets: Iterable[Dataset], as_of: str) -> datetime:
    """Understand what a user names a state of the lake by.

    Args:
        lake: the lake.
        datasets: all of its policy; those out of reach are passed over.
        as_of: a time in ISO 8601, in the lake's time zone if it has no offset, or the id of a run: the moment when the
            last of its tables was committed.

    Raises:
        MeterveilError: it is neither, the time is still to come, or no table in reach has anything of that run.
    """
    if _RUN_ID.fullmatch(as_of):
        return _find_run(lake, datasets, as_of)
    try:
        time = datetime.fromisoformat(as_of)
    except ValueError:
        raise MeterveilError(
            "neither a time nor a run", where=_OPTION, remedy="write 2026-03-30, 2026-03-30T12:00 or a run's id"
        ) from None
    time = time if time.tzinfo else time.replace(tzinfo=ZoneInfo(lake.settings.time_zone))
    if time > datetime.now(UTC):
        raise MeterveilError("this time is still to come", where=_OPTION, remedy="leave the option out for the present")
    return time.astimezone(UTC)


def snapshots_at(tables: Mapping[str, TableState], instant: datetime) -> dict[str, int | None]:
    """Find the snapshot of each table that was current at an instant; None where it had none yet.

    Raises:
        MeterveilError: a snapshot of that time has expired; names the oldest time that can be asked for.
    """
    oldest = max((begin for table in tables.values() if (begin := _begin_of(table))), default=None)
    if oldest and instant < oldest:
        raise MeterveilError(
            "the state of that time has expired",
            where=_OPTION,
            remedy=f"the oldest time that can be asked for is {oldest.isoformat()}",
        )
    return {name: _snapshot_at(table, instant) for name, table in tables.items()}


def _snapshot_at(table: TableState, instant: datetime) -> int | None:
    past = [entry["snapshot-id"] for entry in table.log if _to_time(entry["timestamp-ms"]) <= instant]
    return past[-1] if past else None


def _begin_of(table: TableState) -> datetime | None:
    """Find when the history of a table that is kept begins; None where all of it is."""
    kept = {snapshot["snapshot-id"]: snapshot for snapshot in table.snapshots}
    log = table.log
    expired = [number for number, entry in enumerate(log) if entry["snapshot-id"] not in kept]
    first = expired[-1] + 1 if expired else 0
    # Expiry takes a snapshot out of the log too; but the first ever has the sequence number 1.
    if not log or kept[log[first]["snapshot-id"]]["sequence-number"] == 1:
        return None
    return _to_time(log[first]["timestamp-ms"])


def _find_run(lake: Lake, datasets: Iterable[Dataset], run_id: str) -> datetime:
    names = [dataset.name for dataset in datasets if lake.reaches(dataset.zone)]
    times = [
        snapshot["timestamp-ms"]
        for name in names
        if lake.has_table(name)
        for snapshot in lake.state(name).snapshots
        if snapshot["summary"].get("meterveil.run") == run_id
    ]
    if not times:
        raise MeterveilError(
            "no table in reach has anything of this run, or it has expired", where=_OPTION, remedy="give a time"
        )
    return _to_time(max(times))


def _to_time(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)
