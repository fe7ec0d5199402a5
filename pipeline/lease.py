"""Leases: which runs are at work on a lake, and cleaning up after those that died."""

import json
import os
import socket
import threading
import time
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.context import mark_of, reference_folder, staging_folder
from pipeline.errors import MeterveilError
from pipeline.files import list_drafts, replace_file, touch_file
from pipeline.journal import list_unfinished, sole_committer
from pipeline.labels import mark_in
from pipeline.lake import Lake
from pipeline.machine import tell_machine, tell_start
from pipeline.records import RecordPath
from pipeline.resume import interrupted_run
from pipeline.stores import ObjectPath, Place, delete_tree, list_sorted, locate
from pipeline.table_state import TableState

_HEARTBEAT_S = 10.0
#: How long a run on another machine may be silent before it is taken for dead.
_SILENCE_S = 300.0
#: The same of a run that nobody watches, so that it is always silent: longer than a night's work takes, and over before
#: the next night's begins, which clears away what a dead one left.
_UNWATCHED_S = 12 * 3600.0
#: Folders of the operational zone with files that are replaced.
_DRAFTED = ("journal", "digests", "rebuild")


@dataclass(frozen=True, slots=True)
class Lease:
    """Who works on a run.

    Attributes:
        command: what they do.
        started_at: since when, ISO 8601.
        host: the machine's name, for people.
        machine: boot and process namespace, in which ``pid`` means one process; empty where that can't be told.
        pid: the process.
        process_started: its start in ticks since boot: a pid is used again, this pair is not.
        silence_s: for how many seconds its file may be as it is before the run is taken for dead, where there is no
            process to be asked.
    """

    command: str
    started_at: str
    host: str
    machine: str
    pid: int
    process_started: str
    silence_s: float = _SILENCE_S

    @classmethod
    def of_this_process(cls, command: str) -> "Lease":
        """Make the lease of a command that begins now."""
        pid = os.getpid()
        now = datetime.now(UTC).isoformat()
        return cls(command, now, socket.gethostname(), tell_machine(), pid, tell_start(pid))


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose lease is there.

    Attributes:
        run_id: the run.
        command: what it does.
        started_at: since when, ISO 8601.
        is_live: whether it counts as at work.
        until: until when it does without another sign of life; None where its process can be asked.
    """

    run_id: str
    command: str
    started_at: str
    is_live: bool
    until: datetime | None


@contextmanager
def leased(lake: Lake, run_id: str, command: str, *, in_process: bool, resumes: bool = False) -> Iterator[None]:
    """Hold a lease while a run is at work, and leave nothing behind that no table lists.

    A run on a cluster ends its own lease, in the last step of its graph: this block only keeps the lease alive. What
    can't be deleted now, because the process dies or the disk is gone, the next run deletes.

    Args:
        lake: the lake.
        run_id: the run.
        command: what it does.
        in_process: whether all its workers end with this block; those of a cluster may still write after a failure.
        resumes: whether the next run of its kind goes on with what this one leaves.
    """
    lake.check_format()
    path = _path(lake, run_id)
    replace_file(path, json.dumps(asdict(Lease.of_this_process(command))).encode(), private=True)
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, done), daemon=True)
    heart.start()
    try:
        yield
        if in_process:
            end_run(lake, run_id, tried_again=resumes)
    except Exception:
        if in_process and resumes:
            path.unlink(missing_ok=True)
        elif in_process:
            with suppress(MeterveilError, OSError), sole_committer(lake, patience_s=0):
                clean_up(lake, [run_id])
        raise
    finally:
        done.set()
        heart.join()


@contextmanager
def left_alone(lake: Lake, run_id: str) -> Iterator[None]:
    """Let go of a run that a cluster takes in this block: its lease is valid for some hours, whoever ends meanwhile.

    If the block fails, nobody may have taken it: the lease is that of this process again, and ends with it.

    Args:
        lake: the lake.
        run_id: the run, whose lease this process holds.
    """
    path = _path(lake, run_id)
    mine = path.read_bytes()
    unwatched = json.loads(mine) | {"machine": "", "silence_s": _UNWATCHED_S}
    replace_file(path, json.dumps(unwatched).encode(), private=True)
    try:
        yield
    except BaseException:
        with suppress(MeterveilError, OSError):
            replace_file(path, mine, private=True)
        raise


def end_run(lake: Lake, run_id: str, *, tried_again: bool) -> None:
    """End a run that is done: delete what it staged, and its lease. What can't be deleted now, the next run deletes.

    Args:
        lake: the lake.
        run_id: the run.
        tried_again: whether attempts that were interrupted, or tried again, may have left other files.
    """
    with suppress(MeterveilError, OSError):
        if tried_again:
            with sole_committer(lake):
                clean_up(lake, [run_id])
        else:
            _delete_folder(staging_folder(lake, run_id))
            _path(lake, run_id).unlink()


def check_lease(lake: Lake, run_id: str) -> None:
    """Check that nobody took a run for dead and deleted its files.

    Raises:
        MeterveilError: somebody did.
    """
    if not _path(lake, run_id).exists():
        raise MeterveilError(
            "this run was silent for so long that another one took it for dead",
            where=run_id,
            remedy="nothing was committed; run it again",
        )


def list_holders(lake: Lake) -> list[Holder]:
    """List whose leases are there, of runs at work and dead ones, the oldest first."""
    found = []
    for path in _paths(lake):
        with suppress(FileNotFoundError):  # it has just ended
            fields, beat = json.loads(path.read_bytes()), path.stat().st_mtime
            until = None if _is_here(fields) else datetime.fromtimestamp(beat + _silence(fields), UTC)
            found.append(Holder(path.stem, fields["command"], fields["started_at"], is_live(path), until))
    return found


def list_live(lake: Lake) -> list[str]:
    """List the ids of runs that are at work."""
    return [path.stem for path in _paths(lake) if is_live(path)]


def list_dead(lake: Lake) -> list[Place]:
    """List what runs that died, or could not clean up after themselves, left: staged frames, and leases."""
    found = [*_paths(lake), *staging_folder(lake, "").glob("*")]
    spared = {*list_live(lake), interrupted_run(lake)}  # looked up afterwards: a run that has just begun is not dead
    return sorted(path for path in found if path.stem not in spared)


def list_busy(lake: Lake) -> set[str]:
    """List the marks of those whose files nobody else deletes: at work, half committed, or to be gone on with."""
    return {mark_of(run_id) for run_id in (*list_live(lake), *list_unfinished(lake), interrupted_run(lake))}


def begin_of_live(lake: Lake, now: datetime, apart: str = "") -> datetime:
    """Tell when the first of the runs at work began, apart from one; a given time where none began earlier."""
    begins = [now]
    for path in _paths(lake):
        if path.stem == apart:
            continue
        with suppress(FileNotFoundError):  # it has just ended
            if is_live(path):
                begins.append(datetime.fromisoformat(json.loads(path.read_bytes())["started_at"]))
    return min(begins)


def is_live(path: Place) -> bool:
    """Tell by its file whether a lease's holder is at work: by the process if it is here, else by the heartbeat."""
    try:
        fields, beat = json.loads(path.read_bytes()), path.stat().st_mtime
    except FileNotFoundError:  # it has just ended
        return False
    if _is_here(fields):
        return bool(tell_start(fields["pid"]) == fields["process_started"])
    return time.time() - beat < _silence(fields)  # a time to come is young: clocks differ, and are set


def _is_here(fields: Mapping[str, Any]) -> bool:
    return bool(fields["machine"]) and fields["machine"] == tell_machine()


def _silence(fields: Mapping[str, Any]) -> float:
    return float(fields.get("silence_s", _SILENCE_S))


def clean_up_dead(lake: Lake) -> None:
    """Delete what runs that died left behind; to be called by the sole committer, who has finished their commits."""
    staged = {path.name for path in staging_folder(lake, "").glob("*")}  # a step that ended too late has no lease
    leases = {path.stem: is_live(path) for path in _paths(lake)}  # afterwards: a run has its lease before it stages
    live = [run_id for run_id, lives in leases.items() if lives]
    # Looked up once: whoever has come since waits for the lock that the caller has, and is no dead one.
    if dead := sorted((leases.keys() | staged) - {*live, interrupted_run(lake)}):
        clean_up(lake, dead)
    if len(live) <= 1:  # the caller: nobody else builds a snapshot
        for folder in reference_folder(lake).glob(".building-*"):
            _delete_folder(folder)


def clean_up(lake: Lake, run_ids: Collection[str]) -> None:
    """Delete what runs left that no table names: staged frames, data files, metadata, drafts; and their leases.

    To be called by the sole committer: a data file that a journal names is in its table then, and nobody else writes
    metadata.
    """
    tables = set(lake.table_names())
    for name in lake.folder_names():
        named = lake.state(name).needed_paths() if name in tables else set()
        marked = (lake.marked_data_paths(name, mark_of(run_id)) for run_id in run_ids)
        metadata = {str(path) for path in (lake.table_folder(name) / "metadata").glob("*")}
        _delete(metadata.union(*marked) - named)
    _delete(find_drafts(lake))
    for run_id in run_ids:
        _delete_folder(staging_folder(lake, run_id))
        _path(lake, run_id).unlink(missing_ok=True)


def find_strays(lake: Lake, state: TableState, kept: Container[int], busy: Container[str]) -> list[Path | ObjectPath]:
    """Find the files in a table's folders that none of its kept snapshots needs and none of the busy has written.

    Args:
        lake: the lake.
        state: the table.
        kept: ids of snapshots.
        busy: marks (``list_busy``).
    """
    needed = state.needed_paths(kept)
    data = {path for path in lake.marked_data_paths(state.name, "") - needed if mark_in(path) not in busy}
    strays = data | find_stray_metadata(lake, state.name, needed)
    return [lake.root / path[len(str(lake.root)) + 1 :] for path in sorted(strays)]


def find_stray_metadata(lake: Lake, name: str, needed: AbstractSet[str]) -> set[str]:
    """Find the files of a table's metadata that are not among the needed ones."""
    return {str(path) for path in (lake.table_folder(name) / "metadata").glob("*")} - needed


def find_drafts(lake: Lake) -> list[Path]:
    """Find files that were not complete yet when their run died.

    The sole committer alone writes any of them but those of leases, which are given some time.
    """
    operational = lake.records("operational")
    if isinstance(operational, RecordPath):  # a record is replaced at once
        return []
    folders = (lake.analytics, operational, *(operational / name for name in _DRAFTED))
    drafts = [path for folder in (*folders, *operational.glob("inputs/*")) for path in list_drafts(folder)]
    return drafts + [path for path in list_drafts(operational / "leases") if _age(path) > _SILENCE_S]


def _beat(path: Path | RecordPath, done: threading.Event) -> None:
    while not done.wait(_HEARTBEAT_S):
        with suppress(MeterveilError, OSError):  # the commit sees that the lease is gone; what is away may come back
            touch_file(path)


def _paths(lake: Lake) -> list[Place]:
    return list_sorted(lake.records("operational") / "leases", "*.json")


def _path(lake: Lake, run_id: str) -> Path | RecordPath:
    return lake.records("operational") / "leases" / f"{run_id}.json"


def _age(path: Path) -> float:
    """Tell how long ago a file was written, in seconds; of one that has just gone, that it is new."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _delete(paths: Iterable[str | Place]) -> None:
    for path in paths:
        locate(path).unlink(missing_ok=True)


def _delete_folder(folder: Place) -> None:
    with suppress(FileNotFoundError):
        delete_tree(folder)
