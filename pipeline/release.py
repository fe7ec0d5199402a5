"""Releasing readings from quarantine: read as a source, mended by a fix, and merged as if they had come so."""

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from pipeline.begin import RunRequest, begin_run, own_policy, read_run_record
from pipeline.cells import rewrite_cell
from pipeline.commit import CommitRules, RunOutcome, commit_run
from pipeline.context import OpenRun, open_run
from pipeline.errors import MeterveilError
from pipeline.lake import Lake, open_lake
from pipeline.policy_file import load_policy
from pipeline.quarantine import InputWork, find_datasets, release, sum_energy
from pipeline.sources.deliver import OWN_WORDS, Columns, deliver_readings, translate_words
from pipeline.sources.fields import parse_energy, parse_instant, parse_resolution
from pipeline.staging import FrameRef, write_frames
from pipeline.stores import Place
from pipeline.table_state import CurrentFile
from pipeline.whole_rows import read_rows
from schemas.views import QUARANTINE
from transforms.fixes import CORRECTION_SCHEMA, Fix, apply_fix
from transforms.limits import NO_LIMITS
from transforms.pieces import Cell, locate, split_by_cell
from transforms.plan import Plan
from transforms.series import flat_energy, regroup
from transforms.validate import validate

#: Columns that a file of corrections may have besides those that count, as a query of the quarantine gives them.
_IDLE = {"file_name", "reason"}
#: Digits of a digest that are enough to name it.
_LEAST_DIGITS = 8
_KEY = ("file_digest", "row", "position")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which readings in quarantine are meant; all by default.

    Attributes:
        file: name of an input, or the beginning of its digest.
        reason: why they were set aside.
    """

    file: str = ""
    reason: str = ""

    def mask(self, rows: pa.Table) -> NDArray[np.bool_]:
        """Tell which rows of the view ``quarantine`` are meant."""
        meant = np.ones(len(rows), bool)
        if self.file:
            named = pc.equal(rows["file_name"], self.file)
            digest = pc.starts_with(rows["file_digest"], self.file) if len(self.file) >= _LEAST_DIGITS else named
            meant &= pc.or_(named, digest).to_numpy()
        if self.reason:
            meant &= pc.equal(rows["reason"], self.reason).to_numpy()
        return meant


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """What a user asks of ``meterveil quarantine release``.

    Attributes:
        lake: root of the lake.
        run: keys and threads.
        chosen: which readings are tried.
        fix: what they should say.
    """

    lake: Place
    run: RunRequest
    chosen: Chosen = field(default_factory=Chosen)
    fix: Fix = field(default_factory=Fix)


def run_release(request: ReleaseRequest) -> dict[str, Any] | None:
    """Try readings in quarantine again, and let those in that pass; the rest stays as it is, all in one commit.

    Returns:
        The run record (``pipeline.commit``); None where no reading passed, and nothing was committed.

    Raises:
        MeterveilError: whatever went wrong, in one line; nothing was committed.
    """
    lake = open_lake(request.lake)
    policy = own_policy(lake)
    plan = load_policy(policy)
    find_datasets(plan)
    now = datetime.now(UTC)
    with begin_run(lake, policy, plan, request.run, "quarantine release", now) as context:
        run = open_run(context)
        frames: dict[Cell, list[FrameRef]] = defaultdict(list)
        works = []
        for file in list_inputs(lake, plan):
            if (tried := _retry(run, file, request)) is None:
                continue
            work, placed = tried
            for cell, ref in placed:
                frames[cell].append(ref)
            works.append(work)
        if not works:
            return None
        with ThreadPoolExecutor(context.threads) as pool:
            cells = list(pool.map(lambda item: rewrite_cell(run, *item), sorted(frames.items())))
        outcome = RunOutcome(cells, [], [], (), (), (), tuple(works))
        commit_run(run, outcome, CommitRules("quarantine release", now.isoformat(), NO_LIMITS))
    return read_run_record(lake, context.run_id)


def list_inputs(lake: Lake, plan: Plan) -> list[CurrentFile]:
    """List the quarantine files, one an input, in the order of the inputs' digests."""
    dataset, _ = find_datasets(plan)
    if not lake.has_table(dataset.name):
        return []
    state = lake.state(dataset.name)
    return sorted(state.files(), key=lambda file: file.label) if state.snapshot_id else []


def summarise(lake: Lake, plan: Plan, chosen: Chosen) -> Iterator[dict[str, str | int]]:
    """Count what is in quarantine by file and reason: readings and milliwatt-hours; names no file but by its digest."""
    dataset, _ = find_datasets(plan)
    for file in list_inputs(lake, plan):
        rows = read_rows(dataset, file.path)
        rows = rows.filter(pa.array(chosen.mask(rows)))
        for reason in sorted(pc.unique(rows["reason"]).to_pylist()):
            of = rows.filter(pc.equal(rows["reason"], reason))
            yield {"file": file.label, "reason": reason, "readings": len(of), "energy_mwh": sum_energy(of)}


def select_rows(plan: Plan, chosen: Chosen) -> str:
    """Write the query that gives the chosen readings, in the columns that a file of corrections may have."""
    dataset, _ = find_datasets(plan)
    names = {column.source: column.name for column in dataset.columns}
    columns = ", ".join(f'"{names[field]}" AS {field}' for field in QUARANTINE)
    tests = ["true"]
    if chosen.file:
        beginning = f" OR starts_with(file_digest, {_quote(chosen.file)})" if len(chosen.file) >= _LEAST_DIGITS else ""
        tests.append(f"(file_name = {_quote(chosen.file)}{beginning})")
    if chosen.reason:
        tests.append(f"reason = {_quote(chosen.reason)}")
    inner = f"SELECT {columns} FROM {dataset.name}"  # noqa: S608 - names of the plan
    where = " AND ".join(tests)
    return f"SELECT * FROM ({inner}) WHERE {where} ORDER BY file_digest, row, position"  # noqa: S608 - quoted


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def read_corrections(path: Path) -> pa.Table:
    """Read a CSV file of corrections: ``file_digest``, ``row``, ``position``, and the fields that are to be others.

    Returns:
        Of ``transforms.fixes.CORRECTION_SCHEMA``; an empty cell is null, and leaves its field as it is.

    Raises:
        MeterveilError: the file can't be read as that.
    """
    try:
        text = pa.csv.read_csv(
            path,
            convert_options=pa.csv.ConvertOptions(
                column_types={"row": pa.int64(), "position": pa.int32()}
                | {name: pa.string() for name in [*CORRECTION_SCHEMA.names, *_IDLE] if name not in ("row", "position")},
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:
        raise MeterveilError(
            "this is no CSV of corrections", where=str(path), remedy="start from: meterveil quarantine list --rows"
        ) from None
    names = set(text.column_names)
    missing, strange = set(_KEY) - names, names - set(CORRECTION_SCHEMA.names) - _IDLE
    if missing or strange:
        what = f"lacks {', '.join(sorted(missing))}" if missing else f"has {', '.join(sorted(strange))}"
        raise MeterveilError(
            f"its header {what}", where=str(path), remedy=f"name columns of {', '.join(CORRECTION_SCHEMA.names)}"
        )
    if any(text[name].null_count for name in _KEY) or len(text.group_by(list(_KEY)).aggregate([])) < len(text):
        raise MeterveilError(
            "a reading stands in it twice, or without its place",
            where=str(path),
            remedy="say of each reading one thing",
        )
    columns = [text[name] if name in names else pa.nulls(len(text), pa.string()) for name in CORRECTION_SCHEMA.names]
    return pa.table(columns, schema=CORRECTION_SCHEMA)


def _retry(
    run: OpenRun, file: CurrentFile, request: ReleaseRequest
) -> tuple[InputWork, list[tuple[Cell, FrameRef]]] | None:
    """Try the readings of one input's quarantine; None where none passes."""
    dataset, _ = find_datasets(run.plan)
    rows = read_rows(dataset, file.path)
    meant = np.flatnonzero(request.chosen.mask(rows))
    if not len(meant):
        return None
    batch, passed = try_rows(run, file.label, rows.take(pa.array(meant)), request.fix)
    if not passed.any():
        return None
    released = np.zeros(len(rows), bool)
    released[meant[passed]] = True
    grouped = regroup(batch)
    frames = split_by_cell(grouped, locate(grouped, run.calendar), run.lake.settings.bucket_count)
    energy = int(flat_energy(batch).sum())
    work = release(run, file.label, rows, released, energy)
    return work, list(write_frames(run.staging, frames))


def try_rows(run: OpenRun, digest: str, rows: pa.Table, fix: Fix) -> tuple[pa.RecordBatch, NDArray[np.bool_]]:
    """Decode and validate readings in quarantine as a fix has them.

    Returns:
        Series of those that pass, and which they are.
    """
    text = apply_fix(digest, rows, fix)
    count = len(rows)
    columns = Columns(
        metering_point_id=text["metering_point_id"],
        product=text["product"],
        start=parse_instant(text["start"]),
        resolution_s=parse_resolution(text["resolution"]),
        registered_at=parse_instant(text["registered_at"]),
        energy=parse_energy(text["energy"], pa.repeat("kWh", count), "."),
        status=translate_words(text["status"], OWN_WORDS),
        # No two are neighbours: so each is a series of its own, and what is rejected says which reading it is.
        row=2 * np.arange(count),
    )
    delivery = deliver_readings(columns, text)
    valid, _, broken = validate(delivery.series, run.calendar)
    passed = np.ones(count, bool)
    for rejected in (delivery.rejected, *broken):
        passed[rejected.column("row").to_numpy() // 2] = False
    return valid, passed
