"""The audit log: one line per run, query and refusal, each chained by hash to the one before."""

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from pipeline.errors import MeterveilError
from pipeline.lake import Lake
from pipeline.records import RecordPath

_FILE = "audit.jsonl"
#: What the first line names as the one before.
_START = "0" * 64
_TAIL_STEP = 4096


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What happened. Holds no identifier and no value: tables and digests only.

    Attributes:
        at: when, with an offset.
        user: login name of who did it.
        command: ``ingest``, ``query`` …
        outcome: ``done``, ``refused`` or ``failed``; ``submitted`` of a run that goes on by itself.
        role: role that was claimed, if one was.
        purpose: purpose that was claimed, if one was.
        tables: tables that were read or written.
        details: counts, and digests of what must not stand here itself.
    """

    at: datetime
    user: str
    command: str
    outcome: str
    role: str = ""
    purpose: str = ""
    tables: tuple[str, ...] = ()
    details: Mapping[str, str | int] = field(default_factory=dict)


def record_event(lake: Lake, entry: AuditEntry) -> None:
    """Append an entry to the operational log; where that is out of reach, to that of analytics.

    An analyst who can write neither goes on, with a note on standard error: what they can reach is pseudonymised, and
    file permissions let them read it without this program too.

    Raises:
        MeterveilError: the log of the operational zone can't be written by somebody who can read that zone.
    """
    private = lake.reaches("operational")
    path = lake.records("operational" if private else "analytics") / _FILE
    try:
        append_entry(path, entry, private=private)
    except OSError as error:
        if private:
            raise MeterveilError(
                f"can't be written ({error.strerror})",
                where=str(path),
                remedy="nothing is done unlogged: make it writable",
            ) from error
        sys.stderr.write("note: this user can't write the audit log\n")


def append_entry(path: Path | RecordPath, entry: AuditEntry, *, private: bool) -> None:
    """Append one line under a lock, so that concurrent writers keep one chain; it is on the disk on return.

    Raises:
        OSError: the file can't be opened or written.
    """
    if isinstance(path, RecordPath):
        path.append_line(partial(_make_line, entry))
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600 if private else 0o666)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # ends with the descriptor
        end, last = _last_line(file.fileno())
        file.truncate(end)  # a line that a dying process left unfinished was never acknowledged
        file.seek(end)
        file.write(_make_line(entry, last))
        os.fsync(file.fileno())


def verify_chain(path: Path | RecordPath) -> tuple[int, str]:
    """Check that every line of a log follows from the one before.

    Returns:
        The number of entries, and the digest of the last (64 zeros without any): kept elsewhere, it also shows
        whether lines were cut off the end.

    Raises:
        MeterveilError: a line was changed, taken out, put in or torn.
    """
    previous, number = _START, 0
    with path.open("rb") if isinstance(path, Path) else nullcontext(path.read_lines()) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n") or _previous_of(line) != previous:
                raise MeterveilError(
                    "does not follow from the entry before", where=f"{path}, line {number}", remedy="ask who wrote here"
                )
            previous = _digest(line)
    return number, previous


def _make_line(entry: AuditEntry, last: bytes) -> bytes:
    fields = asdict(entry) | {"at": entry.at.isoformat(), "previous": _digest(last) if last else _START}
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def _previous_of(line: bytes) -> object:
    try:
        return json.loads(line)["previous"]
    except (ValueError, KeyError, TypeError):
        return None


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _last_line(descriptor: int) -> tuple[int, bytes]:
    """Find where the last finished line ends, and that line with its end; an empty one where there is none."""
    start = os.fstat(descriptor).st_size
    tail = b""
    while start and tail.count(b"\n") < 2:
        step = min(_TAIL_STEP, start)
        start -= step
        tail = os.pread(descriptor, step, start) + tail
    finished = tail[: tail.rfind(b"\n") + 1]
    return start + len(finished), finished[finished.rfind(b"\n", 0, -1) + 1 :]
