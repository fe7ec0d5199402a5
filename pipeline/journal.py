"""The journal: what a commit is about to change in all tables, so that whoever comes next can finish it.

Iceberg commits table by table. So the whole commit is written down first, in one file: before that file is in place no
table has changed, and from then on every change is known. It is deleted when all tables have changed. Whoever holds the
commit lock finishes a journal that is there before doing anything else; therefore no table can have changed otherwise
since it was written, and a table has a journal's change if and only if its current snapshot is of the journal's run.
"""

import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from pipeline.catalog import catalog_faults
from pipeline.digests import record_digests
from pipeline.errors import MeterveilError
from pipeline.files import replace_file
from pipeline.iceberg import expire_snapshots, replace_files
from pipeline.lake import Lake
from pipeline.lock import PATIENCE_S, commit_lock
from pipeline.parquet import DataFile
from pipeline.policy_file import load_policy
from pipeline.records import RecordPath
from pipeline.resume import note_end, policy_copy, rebuild_folder
from pipeline.shadow import shadow_tables
from pipeline.stores import Place, list_sorted, locate, look_at_each, measure

#: How far the clock may be behind to be waited for: time servers set it back by seconds.
_CLOCK_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class TableChange:
    """What one snapshot of a table is to change.

    Attributes:
        dataset: the table's name.
        added: files that were written for it, complete and on the disk.
        removed: paths of current files.
        expired: ids of snapshots to forget, if any.
        deleted: paths of data files that no snapshot has then, and that must go with the commit, whoever finishes it;
            other files of what was forgotten are for housekeeping to delete.
    """

    dataset: str
    added: tuple[DataFile, ...]
    removed: tuple[str, ...]
    expired: tuple[int, ...] = ()
    deleted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Journal:
    """A commit, as it will be whoever finishes it.

    Attributes:
        run_id: whose commit it is; no other commit may have this id.
        policy: digest of the policy.
        key: id of the pseudonymisation key.
        reference: version of the reference snapshot; empty for none.
        changes: of every table that changes, in the order in which they do.
        remade: of a rebuild, the tables that it makes anew; None of any other commit.
        tombstones: names the state of what was erased (``pipeline.erasure``) that the tables stand by.
    """

    run_id: str
    policy: str
    key: str
    reference: str
    changes: tuple[TableChange, ...]
    remade: tuple[str, ...] | None = None
    tombstones: str = ""

    @property
    def summary(self) -> dict[str, str]:
        """What every snapshot says of itself."""
        return {
            "meterveil.run": self.run_id,
            "meterveil.policy": self.policy,
            "meterveil.key": self.key,
            "meterveil.reference": self.reference,
            "meterveil.tombstones": self.tombstones,
        }


@contextmanager
def sole_committer(lake: Lake, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Be the only one who changes the lake's tables, with no commit half done.

    Raises:
        MeterveilError: the lake is of an older format, another run holds the lock too long, the clock is behind the
            last commit, or a commit that was begun can't be finished.
    """
    lake.check_format()
    with commit_lock(lake, patience_s):
        _await_clock(lake)
        for path in list_sorted(_folder(lake), "*.json"):
            _finish(lake, path)
        yield


def commit_journal(lake: Lake, journal: Journal) -> None:
    """Change all tables, or none; to be called by the sole committer.

    Raises:
        MeterveilError: before the journal was in place, and nothing was committed; or after, and the next sole
            committer finishes it. The error says which.
        OSError: the journal can't be written; nothing was committed.
    """
    _check_files(journal)
    path = _folder(lake) / f"{journal.run_id}.json"
    replace_file(path, json.dumps(asdict(journal)).encode(), private=True)
    _finish(lake, path)


def _await_clock(lake: Lake) -> None:
    """Wait for a clock that was set back: snapshots are in the order of their times, and readers rely on it."""
    last = max((lake.state(name).updated_ms for name in lake.table_names()), default=0)
    behind = last / 1000 - time.time()
    if behind > _CLOCK_PATIENCE_S:
        raise MeterveilError(
            f"this machine's clock is {behind:,.0f} s behind the lake's last commit",
            where=str(lake.root),
            remedy="nothing was committed: set the clock right, or wait that long, then run it again",
        )
    time.sleep(max(0.0, behind))


def list_unfinished(lake: Lake) -> list[str]:
    """List the ids of those whose commit was begun and is not finished."""
    return sorted(path.stem for path in _folder(lake).glob("*.json"))


def _folder(lake: Lake) -> Path | RecordPath:
    return lake.records("operational") / "journal"


def _finish(lake: Lake, path: Place) -> None:
    """Make the changes of a journal that are not made yet; goes by the file alone, whoever wrote it."""
    try:
        journal = _read(path)
        _check_files(journal)
        if journal.remade is None:
            for change in journal.changes:
                with catalog_faults(change.dataset):
                    _apply(lake.table(change.dataset), change, journal)
        else:
            _remake(lake, journal, journal.remade)
        record_digests(lake, lake.table_names(), journal.run_id, journal.reference)
        for change in journal.changes:
            for deleted in change.deleted:
                locate(deleted).unlink(missing_ok=True)
        path.unlink()
    except (MeterveilError, OSError, CommitFailedException) as error:
        raise MeterveilError(
            f"a commit was begun and is not finished: {error}",
            where=str(path),
            remedy="nothing is lost: mend that, and the next run finishes the commit",
        ) from error


def _remake(lake: Lake, journal: Journal, remade: Collection[str]) -> None:
    """Change the tables of a rebuild all at once, and make its policy the lake's."""
    plan = load_policy(policy_copy(lake))
    done = {name for name in lake.table_names() if lake.state(name).summary().get("meterveil.run") == journal.run_id}
    with shadow_tables(lake, plan, set(remade) - done, rebuild_folder(lake)) as shadow:
        for change in journal.changes:
            with catalog_faults(change.dataset):
                _apply(shadow.table(change.dataset), change, journal)
        shadow.take_place()
    lake.store_policy(policy_copy(lake).read_text(encoding="utf-8"))
    note_end(lake)


def _read(path: Place) -> Journal:
    try:
        fields = json.loads(path.read_bytes())
        changes = tuple(
            TableChange(
                change["dataset"],
                tuple(DataFile(**file) for file in change["added"]),
                tuple(change["removed"]),
                tuple(change.get("expired", ())),
                tuple(change.get("deleted", ())),
            )
            for change in fields["changes"]
        )
        remade = None if fields.get("remade") is None else tuple(fields["remade"])
        return Journal(**{**fields, "changes": changes, "remade": remade})
    except (ValueError, TypeError, KeyError) as error:
        raise MeterveilError(
            "the journal can't be read", where=path.name, remedy="finish it with the version that wrote it"
        ) from error


def _check_files(journal: Journal) -> None:
    """Check that every file to add is there, whole by its size: a table must not list what can't be read."""
    added = [file for change in journal.changes for file in change.added]
    for file, size in zip(added, look_at_each(measure, (file.path for file in added)), strict=True):
        if size != file.bytes:
            raise MeterveilError(
                "a data file of this commit is missing or cut short", where=file.path, remedy="restore the file"
            )


def _apply(table: Table, change: TableChange, journal: Journal) -> None:
    snapshot = table.current_snapshot()
    done = snapshot and snapshot.summary and snapshot.summary["meterveil.run"] == journal.run_id
    if (change.added or change.removed) and not done:
        replace_files(table, change.added, change.removed, journal.summary)
    expire_snapshots(table, change.expired)
