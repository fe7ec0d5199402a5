"""Quarantine: a file for each input, with what was set aside of it and has not been released since.

It is replaced as a whole whenever its input is read again, or readings of it are released. What was released stands in
a file of its own, so that reading the input again does not set it aside again, whatever the order of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.cells import path_of
from pipeline.context import OpenRun
from pipeline.errors import MeterveilError
from pipeline.parquet import DataFile, write_data_file
from pipeline.sources.fields import parse_energy
from pipeline.totals import Totals, add_totals
from schemas.reasons import Reason
from schemas.views import RELEASES, VIEWS
from transforms.fixes import find_places
from transforms.plan import Dataset, Keep, Plan

#: Reasons under which an energy does not count in sums (``transforms.rejected``).
_WITHOUT_ENERGY = pa.array([Reason.BAD_ENERGY, Reason.UNREADABLE_ROW])


@dataclass(frozen=True, slots=True)
class InputWork:
    """What becomes of the quarantine of one input.

    Attributes:
        digest: of the input, the label of its files.
        released: path of the file of what was released before; empty for none.
        replaces: path of the quarantine file that readings are released from; empty where the input itself was read.
        files: every file that was written.
        totals: what was released; where the input was read, what that counts as quarantined and was released before.
    """

    digest: str
    released: str
    replaces: str
    files: tuple[DataFile, ...]
    totals: Totals


def find_datasets(plan: Plan) -> tuple[Dataset, Dataset]:
    """Find the datasets of quarantine and of releases, with all that a release needs.

    Raises:
        MeterveilError: the policy has no such datasets.
    """
    found = {view: _find_whole(plan, view) for view in ("quarantine", "releases")}
    for view, dataset in found.items():
        if dataset is None:
            raise MeterveilError(
                f"the policy has no dataset of the view {view} with all its fields",
                where="quarantine",
                remedy="take it over from the default policy",
            )
    return cast("tuple[Dataset, Dataset]", tuple(found.values()))


def set_aside(run: OpenRun, digest: str, rows: pa.Table) -> InputWork:
    """Write the quarantine of an input that was read, without what was released of it before.

    Args:
        run: the open run.
        digest: of the input.
        rows: what was set aside, of the view ``quarantine``.
    """
    known = released_of(run, digest)
    if known is not None:
        before = find_places(rows, known)
        again, rows = rows.filter(pa.array(before)), rows.filter(pa.array(~before))
        totals = _count_released(again)
    else:
        totals = Totals()
    files = tuple(_write(run, dataset, digest, rows) for dataset in run.datasets("quarantine") if len(rows))
    return InputWork(digest, _path(run, "releases", digest), "", files, totals)


def release(run: OpenRun, digest: str, rows: pa.Table, passed: NDArray[np.bool_], energy: int) -> InputWork:
    """Write what remains in an input's quarantine, and what was released of it.

    Args:
        run: the open run.
        digest: of the input.
        rows: its quarantine, of the view ``quarantine``.
        passed: bool; the readings that are released.
        energy: of these, in milliwatt-hours.
    """
    rest = rows.filter(pa.array(~passed))
    count = int(passed.sum())
    out = rows.filter(pa.array(passed)).append_column("run_id", pa.repeat(run.context.run_id, count))
    known = released_of(run, digest)
    every = out.select(list(RELEASES))
    if known is not None:
        every = pa.concat_tables([known, every.cast(known.schema)])
    files = [_write(run, dataset, digest, rest) for dataset in run.datasets("quarantine") if len(rest)]
    files += [_write(run, dataset, digest, every) for dataset in run.datasets("releases")]
    totals = Totals.of(**{"delivered:from_quarantine": (count, energy)})
    return InputWork(digest, _path(run, "releases", digest), _path(run, "quarantine", digest), tuple(files), totals)


def settle_quarantine(run: OpenRun, works: Sequence[InputWork]) -> list[InputWork]:
    """Bring what was written in line with what other runs have committed meanwhile.

    Raises:
        MeterveilError: another run has changed what this one releases from; nothing was committed.
    """
    return [_settle(run, work) for work in works]


def _settle(run: OpenRun, work: InputWork) -> InputWork:
    same_releases = _path(run, "releases", work.digest) == work.released
    if work.replaces:
        if not same_releases or _path(run, "quarantine", work.digest) != work.replaces:
            raise MeterveilError(
                "another run has changed the quarantine of the same file meanwhile",
                where="quarantine release",
                remedy="nothing was committed; run it again",
            )
        return work
    dataset = _find_whole(run.plan, "quarantine")
    written = [file.path for file in work.files if dataset and file.dataset == dataset.name]
    if same_releases or not dataset or not written:
        return work
    rows = read_rows(dataset, written[0])
    again = set_aside(run, work.digest, rows)
    return replace(again, totals=add_totals([work.totals, again.totals]))


def released_of(run: OpenRun, digest: str) -> pa.Table | None:
    """Read what was released of an input, in the columns of the view; None where nothing was."""
    dataset, path = _find_whole(run.plan, "releases"), _path(run, "releases", digest)
    return read_rows(dataset, path) if dataset and path else None


def read_rows(dataset: Dataset, path: str) -> pa.Table:
    """Read a data file, its columns by the names of the view's fields."""
    rows = pq.read_table(path, columns=[column.name for column in dataset.columns], partitioning=None)
    return rows.rename_columns([column.source for column in dataset.columns])


def sum_energy(rows: pa.Table) -> int:
    """Add up the energy of rows of quarantine as the totals do, in milliwatt-hours: as far as it could be read."""
    counted = rows.filter(pc.invert(pc.is_in(rows["reason"], _WITHOUT_ENERGY)))
    text = counted["energy"].combine_chunks()
    energy = parse_energy(text, pa.repeat("kWh", len(text)), ".")
    return int(pc.sum(energy).as_py() or 0)


def _count_released(rows: pa.Table) -> Totals:
    """Move readings from what is quarantined to what was released before."""
    parts = [Totals.of(released_before=(len(rows), sum_energy(rows)))]
    for reason in pc.unique(rows["reason"]).to_pylist():
        of = rows.filter(pc.equal(rows["reason"], reason))
        parts.append(Totals.of(**{f"quarantined:{reason}": (-len(of), -sum_energy(of))}))
    return add_totals(parts)


def _path(run: OpenRun, view: str, digest: str) -> str:
    dataset = _find_whole(run.plan, view)
    return path_of(run.current[dataset.name].get(digest)) if dataset else ""


def _find_whole(plan: Plan, view: str) -> Dataset | None:
    """Find a dataset that keeps every field of a view."""
    for dataset in plan.datasets.values():
        kept = {column.source for column in dataset.columns if isinstance(column.rule, Keep)}
        if dataset.view == view and not dataset.where and kept >= VIEWS[view].keys():
            return dataset
    return None


def _write(run: OpenRun, dataset: Dataset, digest: str, rows: pa.Table) -> DataFile:
    columns = {column.name: rows[column.source].cast(column.type) for column in dataset.columns}
    path = run.new_data_path(dataset, digest)
    return write_data_file([pa.table(columns)], dataset, path, run.footer(dataset, digest))
