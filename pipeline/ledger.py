"""The ledger of inputs: what a lake has taken in, so that a file that comes again costs a look.

An input is known by its content and by the options that it was read with. Each has a file of its own, so a look takes
as long in the lake's tenth year as in its first week. The ledger is written when a commit is done: a run that dies
before that has its files read again, and ends in the same rows.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pipeline.files import make_folder, replace_file
from pipeline.lake import Lake
from pipeline.records import RecordPath
from pipeline.sources.base import ReadOptions
from pipeline.stores import locate


def describe_options(read: ReadOptions) -> str:
    """Say canonically how files are read: options as they were given, and a mapping by its content.

    Raises:
        OSError: the mapping can't be read.
    """
    mapping = read.mapping and hashlib.sha256(locate(read.mapping).read_bytes()).hexdigest()
    return json.dumps({**asdict(read), "mapping": mapping}, sort_keys=True)


def find_run(lake: Lake, options: str, digest: str, name: str) -> str:
    """Find the last run that took an input in; empty where none has.

    Args:
        lake: the lake.
        options: how it is read (``describe_options``).
        digest: SHA-256 of its content, hex.
        name: its name, which counts where the options take the registration time from it.
    """
    return _read(lake, options, digest, name).get("run_id", "")


def find_first(lake: Lake, options: str, digest: str, name: str) -> str:
    """Find the first run that took an input in; arguments and result are those of ``find_run``."""
    entry = _read(lake, options, digest, name)
    return entry.get("first", entry.get("run_id", ""))


def record_inputs(lake: Lake, options: str, inputs: Iterable[tuple[str, str]], run_id: str) -> None:
    """Record what a run has taken in, by digest and name; to be called by the sole committer, when all is committed."""
    for digest, name in inputs:
        first = find_first(lake, options, digest, name) or run_id
        path = _path(lake, options, digest, name)
        make_folder(path.parent, private=True)
        replace_file(path, json.dumps({"run_id": run_id, "first": first, "name": name}).encode(), private=True)


def _read(lake: Lake, options: str, digest: str, name: str) -> dict[str, str]:
    try:
        entry: dict[str, str] = json.loads(_path(lake, options, digest, name).read_bytes())
    except (FileNotFoundError, ValueError):  # an entry that can't be read costs reading the input again
        return {}
    return entry


def _path(lake: Lake, options: str, digest: str, name: str) -> Path | RecordPath:
    by_name = json.loads(options)["registered_at"] == "file-name"
    key = hashlib.sha256("\n".join([digest, options, name if by_name else ""]).encode()).hexdigest()
    return lake.records("operational") / "inputs" / key[:2] / f"{key[2:]}.json"
