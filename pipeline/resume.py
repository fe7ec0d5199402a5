"""A rebuild that goes on where it was interrupted: its name in one file, and a line for every cell that it has done.

A run that dies leaves nothing: the next one deletes its files. A rebuild may have worked for hours, so its files are
spared, until a rebuild ends or housekeeping finds that nobody went on with it.
"""

import json
import os
import secrets
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from pipeline.cells import CellWork
from pipeline.files import make_folder, replace_file
from pipeline.lake import Lake
from pipeline.parquet import DataFile
from pipeline.records import RecordPath
from pipeline.stores import ObjectPath, list_sorted, locate
from pipeline.totals import Totals
from transforms.pieces import Cell

_NAME, _POLICY = "run.json", "policy.yaml"


def rebuild_folder(lake: Lake) -> Path | RecordPath:
    """Where a lake keeps what an interrupted rebuild needs to go on."""
    return lake.records("operational") / "rebuild"


def policy_copy(lake: Lake) -> Path | RecordPath:
    """Where a rebuild keeps the policy that it works by, so that nobody changes it meanwhile."""
    return rebuild_folder(lake) / _POLICY


def interrupted_run(lake: Lake) -> str:
    """Give the id of the rebuild that was begun and has not ended; empty where there is none."""
    with suppress(FileNotFoundError):
        return str(json.loads((rebuild_folder(lake) / _NAME).read_bytes())["run_id"])
    return ""


def forget_abandoned(lake: Lake, live: Container[str], before: datetime) -> None:
    """Forget a rebuild that nobody is at work on and nobody has gone on with since a time."""
    run_id = interrupted_run(lake)
    if run_id and run_id not in live and (rebuild_folder(lake) / _NAME).stat().st_mtime < before.timestamp():
        note_end(lake)


def note_begin(lake: Lake, run_id: str, policy_text: str) -> None:
    """Note that a rebuild is begun, or goes on."""
    make_folder(rebuild_folder(lake), private=True)
    replace_file(policy_copy(lake), policy_text.encode(), private=True)
    replace_file(rebuild_folder(lake) / _NAME, json.dumps({"run_id": run_id}).encode(), private=True)


def note_end(lake: Lake) -> None:
    """Note that there is no rebuild to go on with."""
    (rebuild_folder(lake) / _NAME).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Target:
    """By what a rebuild derives: what was done by anything else counts for nothing.

    Attributes:
        policy: digest of the policy.
        key: id of the primary key.
        reference: version of the reference snapshot.
        tombstones: names the state of what was erased.
    """

    policy: str
    key: str
    reference: str
    tombstones: str


@dataclass(frozen=True, slots=True)
class WorkLog:
    """What a rebuild has done so far: a line of JSON for every cell, in a file for every worker.

    Attributes:
        folder: of all workers' files; it ends with the run.
        target: by what it derives.
        name: of this worker's file.
    """

    folder: Path | ObjectPath
    target: Target
    name: str = field(default_factory=lambda: f"done-{secrets.token_hex(4)}.jsonl")

    def add(self, work: CellWork) -> None:
        """Note that a cell is done, once its files are on the disk."""
        entry = {"target": asdict(self.target), "work": asdict(replace(work, frames=(), changes=()))}
        line = (json.dumps(entry) + "\n").encode()
        if isinstance(self.folder, ObjectPath):  # nothing is appended to an object
            (self.folder / f"done-{secrets.token_hex(8)}.jsonl").write_bytes(line)
            return
        make_folder(self.folder, private=True)
        descriptor = os.open(self.folder / self.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line)  # one call a line: threads share the file
        finally:
            os.close(descriptor)

    def read(self) -> dict[Cell, CellWork]:
        """Read what any worker has done by this target; a line that was cut short counts for nothing."""
        works = {}
        for path in list_sorted(self.folder, "done-*.jsonl"):
            for line in path.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):
                    entry = json.loads(line)
                    if entry["target"] == asdict(self.target):
                        work = _decode(entry["work"])
                        works[work.cell] = work
        return {cell: work for cell, work in works.items() if all(map(_is_whole, work.files))}


def _decode(fields: Mapping[str, object]) -> CellWork:
    files, totals = fields["files"], fields["totals"]
    assert isinstance(files, list)
    assert isinstance(totals, dict)
    values = {**fields, "frames": (), "changes": (), "totals": Totals(**totals)}
    return CellWork(**{**values, "files": tuple(DataFile(**file) for file in files)})  # type: ignore[arg-type]


def _is_whole(file: DataFile) -> bool:
    path = locate(file.path)
    return path.is_file() and path.stat().st_size == file.bytes
