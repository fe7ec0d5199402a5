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
from numpy.typing import NDArray

from pipeline.cells import path_of
from pipeline.context import OpenRun, begin_of_run
from pipeline.erased_rows import find_erased_rows
from pipeline.errors import MeterveilError
from pipeline.ledger import find_first
from pipeline.parquet import DataFile
from pipeline.sources.fields import parse_energy
from pipeline.totals import Totals, add_totals
from pipeline.whole_rows import find_whole, read_rows, write_rows
from schemas.reasons import Reason
from schemas.views import RELEASES
from transforms.calendar import local_day
from transforms.fixes import find_places
from transforms.plan import Dataset, Plan

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
    found = {view: find_whole(plan, view) for view in ("quarantine", "releases")}
    for view, dataset in found.items():
        if dataset is None:
            raise MeterveilError(
                f"the policy has no dataset of the view {view} with all its fields",
                where="quarantine",
                remedy="take it over from the default policy",
            )
    return cast("tuple[Dataset, Dataset]", tuple(found.values()))


def set_aside(run: OpenRun, digest: str, name: str, rows: pa.Table) -> InputWork:
    """Write the quarantine of an input that was read, without what is to stay out of it: released, erased, too old.

    Its age is that of the run that took the input in first, however often it is read again.

    Args:
        run: the open run.
        digest: of the input.
        name: of the input.
        rows: what was set aside, of the view ``quarantine``.
    """
    known = released_of(run, digest)
    first = find_first(run.lake, run.context.options, digest, name) or run.context.run_id
    day = local_day(begin_of_run(first), run.lake.settings.time_zone)
    keeping = [dataset for dataset in run.datasets("quarantine") if not run.is_beyond(dataset.name, day)]
    rest, parts = np.ones(len(rows), bool), []
    for why, stays_out in (
        ("released_before", np.zeros(len(rows), bool) if known is None else find_places(rows, known)),
        ("not_set_aside:erased", find_erased_rows(run, "quarantine", rows)),
        ("not_set_aside:retention", np.full(len(rows), not keeping)),
    ):
        parts.append(_recount(rows.filter(pa.array(rest & stays_out)), why))
        rest &= ~stays_out
    rows = rows.filter(pa.array(rest))
    files = tuple(write_rows(run, dataset, digest, rows) for dataset in keeping if len(rows))
    return InputWork(digest, _path(run, "releases", digest), "", files, add_totals(parts))


def release(run: OpenRun, digest: str, rows: pa.Table, passed: NDArray[np.bool_], energy: int) -> InputWork:
    """Write what remains in an input's quarantine, and what was released of it.

    Args:
        run: the open run.
        digest: of the input.
        rows: its quarantine, of the view ``quarantine``.
        passed: bool; the readings that are released.
        energy: of these, in milliwatt-hours.
    """
    rest = rows.filter(pa.array(~passed & ~find_erased_rows(run, "quarantine", rows)))
    count = int(passed.sum())
    out = rows.filter(pa.array(passed)).append_column("run_id", pa.repeat(run.context.run_id, count))
    known = released_of(run, digest)
    every = out.select(list(RELEASES))
    if known is not None:
        every = pa.concat_tables([known, every.cast(known.schema)])
    files = [write_rows(run, dataset, digest, rest) for dataset in run.datasets("quarantine") if len(rest)]
    files += [write_rows(run, dataset, digest, every) for dataset in run.datasets("releases")]
    totals = Totals.of(**{"delivered:from_quarantine": (count, energy)})
    return InputWork(digest, _path(run, "releases", digest), _path(run, "quarantine", digest), tuple(files), totals)


def settle_quarantine(planned: OpenRun, run: OpenRun, works: Sequence[InputWork]) -> list[InputWork]:
    """Bring what was written in line with what other runs have committed meanwhile.

    Args:
        planned: the run as it began.
        run: the run as it commits.
        works: what became of the quarantine of every input.

    Raises:
        MeterveilError: another run has changed what this one releases from; nothing was committed.
    """
    same = (run.context.tombstones, run.horizons) == (planned.context.tombstones, planned.horizons)
    return [_settle(run, work, same=same) for work in works]


def _settle(run: OpenRun, work: InputWork, *, same: bool) -> InputWork:
    same = same and _path(run, "releases", work.digest) == work.released
    if work.replaces:
        if not same or _path(run, "quarantine", work.digest) != work.replaces:
            raise MeterveilError(
                "another run has changed the quarantine of the same file meanwhile",
                where="quarantine release",
                remedy="nothing was committed; run it again",
            )
        return work
    dataset = find_whole(run.plan, "quarantine")
    written = [file.path for file in work.files if dataset and file.dataset == dataset.name]
    if same or not dataset or not written:
        return work
    rows = read_rows(dataset, written[0])
    again = set_aside(run, work.digest, rows["file_name"][0].as_py(), rows)
    return replace(again, totals=add_totals([work.totals, again.totals]))


def released_of(run: OpenRun, digest: str) -> pa.Table | None:
    """Read what was released of an input, in the columns of the view; None where nothing was."""
    dataset, path = find_whole(run.plan, "releases"), _path(run, "releases", digest)
    return read_rows(dataset, path) if dataset and path else None


def sum_energy(rows: pa.Table) -> int:
    """Add up the energy of rows of quarantine as the totals do, in milliwatt-hours: as far as it could be read."""
    counted = rows.filter(pc.invert(pc.is_in(rows["reason"], _WITHOUT_ENERGY)))
    text = counted["energy"].combine_chunks()
    energy = parse_energy(text, pa.repeat("kWh", len(text)), ".")
    return int(pc.sum(energy).as_py() or 0)


def _recount(rows: pa.Table, why: str) -> Totals:
    """Move readings from what is quarantined to what is not, and why."""
    parts = [Totals.of(**{why: (len(rows), sum_energy(rows))})] if len(rows) else []
    for reason in pc.unique(rows["reason"]).to_pylist():
        of = rows.filter(pc.equal(rows["reason"], reason))
        parts.append(Totals.of(**{f"quarantined:{reason}": (-len(of), -sum_energy(of))}))
    return add_totals(parts)


def _path(run: OpenRun, view: str, digest: str) -> str:
    dataset = find_whole(run.plan, view)
    return path_of(run.current[dataset.name].get(digest)) if dataset else ""
