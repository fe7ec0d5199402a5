"""The risk of curves under pseudonyms: unicity and linkage, of a sample of the points that the reference knows.

Whoever publishes has the keys, and so the truth that an attacker guesses: which pseudonyms of two epochs are the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.keys import SECRET_ACCESS, Keyset
from pipeline.labels import bucket_in, bucket_in_month, month_in
from pipeline.reference import Snapshot
from pipeline.stores import columnar
from pipeline.table_state import CurrentFile
from schemas.series import ACTIVE_ENERGY
from transforms.calendar import to_date
from transforms.decimals import as_int64_units
from transforms.pieces import as_int64
from transforms.plan import ENTITIES, Column, Dataset, Pseudonymise, epoch_label
from transforms.pseudonym import PSEUDONYM_BYTES, derive_subkey, pseudonymise
from transforms.risk import Curves, Ints, gather_curves, measure_linkage, measure_unicity

#: Points that the sample has, and curves of them that are looked at, each compared with all of the sample.
_SAMPLE, _LOOKED_AT = 20_000, 1_000
_KNOWN_POINTS = (1, 2, 3, 4)
_SEED = 1
_MONTHS = 12
#: What a curve is of, where rows tell it.
_ASKED = {"product": ACTIVE_ENERGY, "direction": "consumption"}


def measure_months(
    dataset: Dataset, files: Sequence[CurrentFile], reference: Snapshot, keyset: Keyset
) -> list[dict[str, Any]]:
    """Measure a dataset of months under pseudonyms: curves of monthly energy.

    Unicity is that of the epoch with the most months, linkage that of the last two epochs.

    Args:
        dataset: of the view ``months``.
        files: its current files.
        reference: whose points are looked for.
        keyset: with the keys of the pseudonyms.

    Returns:
        A row for each measure: ``dataset``, ``measure`` (``unicity`` or ``linkage``), ``epoch``, ``known`` (points, or
        common months), ``looked_at``, ``among`` (curves of the sample) and ``share``, 0 to 1, None where nothing can be
        measured. No row where the dataset has no pseudonyms of points or sites, or no energy.
    """
    sample = _Sample.draw(dataset, reference, keyset, "month")
    if sample is None or not files:
        return []
    months: dict[str, dict[int, list[CurrentFile]]] = {}
    for file in sorted(files, key=lambda one: one.label):
        if bucket_in_month(file.label) in sample.buckets:
            first = to_date(month_in(file.label))
            of_epoch = months.setdefault(epoch_label(dataset.epoch, first), {})
            of_epoch.setdefault(_place_in(dataset, first), []).append(file)
    if not months:
        return []
    fullest = max(months, key=lambda epoch: (len(months[epoch]), epoch))
    curves = sample.read_months(months[fullest], months[fullest])
    rows = list(_tell_unicity(dataset, fullest, curves))
    for before, after in list(pairwise(months))[-1:]:
        common = sorted(months[before].keys() & months[after].keys())
        one, other = (sample.read_months(months[epoch], common) for epoch in (before, after))
        dates = [_first_date(months[epoch]) for epoch in (before, after)]
        pairs = sample.pair(one, dates[0], other, dates[1])
        looked_at, share = measure_linkage(one, other, pairs, _LOOKED_AT, np.random.default_rng(_SEED))
        rows.append(_tell(dataset, "linkage", f"{before} to {after}", len(common), looked_at, other, share))
    return rows


def measure_day(
    dataset: Dataset, files: Sequence[CurrentFile], reference: Snapshot, keyset: Keyset
) -> list[dict[str, Any]]:
    """Measure the newest day of a dataset of readings under pseudonyms: curves of a day's intervals.

    Arguments and rows are those of ``measure_months``; ``epoch`` is the day. Of linkage nothing is told.
    """
    sample = _Sample.draw(dataset, reference, keyset, "start")
    day = max((file.local_date for file in files if file.local_date is not None), default=None)
    if sample is None or day is None:
        return []
    newest = [file for file in files if file.local_date == day and bucket_in(file.label) in sample.buckets]
    parts = [part for file in newest for part in sample.read(file, to_date(day))]
    if not parts:
        return []
    rows = pa.concat_tables(parts).combine_chunks()
    starts, points = np.unique(as_int64(rows["at"].combine_chunks()), return_inverse=True)
    energy = as_int64_units(rows["energy"].combine_chunks())
    curves = gather_curves(rows["pseudonym"].combine_chunks(), points, energy, len(starts))
    return list(_tell_unicity(dataset, str(to_date(day)), curves))


@dataclass(frozen=True, slots=True)
class _Sample:
    """Some points that the reference knows.

    Attributes:
        dataset: under whose pseudonyms they are looked for.
        keyset: with the keys of these.
        names: field to the dataset's column; ``pseudonym`` and ``at`` are those of a curve.
        entity: what has the pseudonym.
        ids: whose, string.
        buckets: of the points.
    """

    dataset: Dataset
    keyset: Keyset
    names: dict[str, str]
    entity: str
    ids: pa.Array
    buckets: frozenset[int]

    @classmethod
    def draw(cls, dataset: Dataset, reference: Snapshot, keyset: Keyset, at: str) -> "_Sample | None":
        """Draw a sample, bucket by bucket; None where the dataset has no curves under pseudonyms of points or sites."""
        names = {column.source: column.name for column in dataset.columns}
        hidden = next(filter(_hides_place, dataset.columns), None)
        energy = next((column for column in dataset.columns if column.source == "energy"), None)
        if hidden is None or energy is None or not pa.types.is_decimal(energy.type) or at not in names:
            return None
        assert isinstance(hidden.rule, Pseudonymise)
        parts, buckets = [pa.array([], pa.string())], set()
        for bucket in range(reference.bucket_count):
            if sum(map(len, parts)) < _SAMPLE:
                parts.append(reference.points(bucket)[ENTITIES[hidden.rule.entity]].combine_chunks().unique())
                buckets.add(bucket)
        names |= {"pseudonym": hidden.name, "at": names[at]}
        ids = pa.concat_arrays(parts).unique()[:_SAMPLE]
        return cls(dataset, keyset, names, hidden.rule.entity, ids, frozenset(buckets))

    def read_months(self, months: dict[int, list[CurrentFile]], places: Iterable[int]) -> Curves:
        """Read the curves of an epoch, a point for each of some places among its months."""
        at = {place: number for number, place in enumerate(sorted(places))}
        day = _first_date(months)
        parts = [
            (rows, np.full(len(rows), at[place]))
            for place in at
            for file in months[place]
            for rows in self.read(file, day)
        ]
        ids = [self.make_pseudonyms(day)[:0], *(rows["pseudonym"].combine_chunks() for rows, _ in parts)]
        energy = [np.zeros(0, np.int64), *(as_int64_units(rows["energy"].combine_chunks()) for rows, _ in parts)]
        points = [np.zeros(0, np.int64), *(place for _, place in parts)]
        return gather_curves(pa.concat_arrays(ids), np.concatenate(points), np.concatenate(energy), len(at))

    def pair(self, one: Curves, before: date, other: Curves, after: date) -> tuple[Ints, Ints]:
        """Tell which curves of the epochs of two dates are of the same point."""
        places = [pc.index_in(self.make_pseudonyms(day), of.ids) for day, of in ((before, one), (after, other))]
        both = pc.and_(places[0].is_valid(), places[1].is_valid())
        first, second = (place.filter(both).to_numpy().astype(np.int64) for place in places)
        return first, second

    def make_pseudonyms(self, day: date) -> pa.Array:
        """Make the pseudonyms that the sample has in the epoch of a date."""
        key = self.keyset.key_for(day) if self.dataset.epoch else self.keyset.primary
        epoch = epoch_label(self.dataset.epoch, day)
        subkey = derive_subkey(key.secret.reveal(SECRET_ACCESS), self.dataset.domain, self.entity, epoch)
        return pseudonymise(subkey, self.ids)

    def read(self, file: CurrentFile, day: date) -> Iterator[pa.Table]:
        """Read ``pseudonym``, ``at`` and ``energy`` of the sample, row group by row group, where there is energy."""
        pseudonyms = self.make_pseudonyms(day)
        told = [name for name in _ASKED if name in self.names]
        columns = [self.names[name] for name in ("pseudonym", "at", "energy", *told)]
        with pq.ParquetFile(columnar(file.path), read_dictionary=[self.names[name] for name in told]) as content:
            for group in range(content.num_row_groups):
                rows = content.read_row_group(group, columns)
                ids = rows[self.names["pseudonym"]].cast(pa.binary(PSEUDONYM_BYTES))
                kept = pc.and_(pc.is_in(ids, pseudonyms), rows[self.names["energy"]].is_valid())
                for name in told:
                    kept = pc.and_(kept, pc.equal(rows[self.names[name]], _ASKED[name]))
                found = {"pseudonym": ids} | {name: rows[self.names[name]] for name in ("at", "energy")}
                yield pa.table(found).filter(kept)


def _hides_place(column: Column) -> bool:
    return isinstance(column.rule, Pseudonymise) and column.rule.entity in {"metering_point", "usage_site"}


def _first_date(months: dict[int, list[CurrentFile]]) -> date:
    return to_date(min(month_in(file.label) for files in months.values() for file in files))


def _place_in(dataset: Dataset, month: date) -> int:
    """Tell which month of its epoch a month is, from 0; without epochs they go on for ever."""
    if not dataset.epoch:
        return month.year * _MONTHS + month.month
    return (month.month - 1) % {"year": _MONTHS, "quarter": 3, "month": 1}[dataset.epoch]


def _tell_unicity(dataset: Dataset, epoch: str, curves: Curves) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(_SEED)
    for known in _KNOWN_POINTS:
        looked_at, share = measure_unicity(curves, known, _LOOKED_AT, random)
        yield _tell(dataset, "unicity", epoch, known, looked_at, curves, share)


def _tell(
    dataset: Dataset, measure: str, epoch: str, known: int, looked_at: int, among: Curves, share: float | None
) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "measure": measure,
        "epoch": epoch,
        "known": known,
        "looked_at": looked_at,
        "among": len(among.ids),
        "share": None if share is None else round(share, 4),
    }
