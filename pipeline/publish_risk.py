"""The risk of published months: unicity and linkage, of a sample of the points that the reference knows.

Whoever publishes has the keys, and so the truth that an attacker guesses: which pseudonyms of two epochs are the same.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.keys import SECRET_ACCESS, Keyset
from pipeline.labels import bucket_in_month, month_in
from pipeline.reference import Snapshot
from pipeline.stores import columnar
from pipeline.table_state import CurrentFile
from schemas.series import ACTIVE_ENERGY
from transforms.calendar import to_date
from transforms.decimals import as_int64_units
from transforms.plan import ENTITIES, Column, Dataset, Pseudonymise, epoch_label
from transforms.pseudonym import PSEUDONYM_BYTES, derive_subkey, pseudonymise
from transforms.risk import Curves, Ints, gather_curves, measure_linkage, measure_unicity

#: Points that the sample has, and curves of them that are looked at, each compared with all of the sample.
_SAMPLE, _LOOKED_AT = 20_000, 1_000
_KNOWN_POINTS = (1, 2, 3, 4)
_SEED = 1
_MONTHS = 12


def measure_months(
    dataset: Dataset, files: Sequence[CurrentFile], reference: Snapshot, keyset: Keyset
) -> list[dict[str, Any]]:
    """Measure a dataset of months under pseudonyms.

    Args:
        dataset: of the view ``months``.
        files: its current files.
        reference: whose points are looked for.
        keyset: with the keys of the pseudonyms.

    Unicity is that of the epoch with the most months, linkage that of the last two.

    Returns:
        A row for each measure: ``dataset``, ``measure`` (``unicity`` or ``linkage``), ``epoch``, ``known`` (points, or
        common months), ``looked_at``, ``among`` (curves of the sample) and ``share``, 0 to 1, None where nothing can be
        measured. No row where the dataset has no pseudonyms of points or sites, or no energy by month.
    """
    sampled = _Sample.of(dataset, files, reference, keyset)
    if sampled is None:
        return []
    random = np.random.default_rng(_SEED)
    fullest = max(sampled.epochs, key=lambda epoch: (len(sampled.months(epoch)), epoch))
    curves = sampled.curves(fullest, sampled.months(fullest))
    rows = []
    for known in _KNOWN_POINTS:
        looked_at, share = measure_unicity(curves, known, _LOOKED_AT, random)
        rows.append(_tell(dataset, "unicity", fullest, known, looked_at, curves, share))
    for before, after in list(pairwise(sampled.epochs))[-1:]:
        common = sorted(sampled.months(before) & sampled.months(after))
        one, other = (sampled.curves(epoch, common) for epoch in (before, after))
        pairs = sampled.pair(one, before, other, after)
        looked_at, share = measure_linkage(one, other, pairs, _LOOKED_AT, random)
        rows.append(_tell(dataset, "linkage", f"{before} to {after}", len(common), looked_at, other, share))
    return rows


class _Sample:
    """Some points that the reference knows, and what is published of them.

    Attributes:
        epochs: labels of the epochs that have months, in order.
    """

    def __init__(self, dataset: Dataset, names: dict[str, str], entity: str, keyset: Keyset) -> None:
        self._dataset, self._names, self._entity, self._keyset = dataset, names, entity, keyset
        self._ids = pa.array([], pa.string())
        self._files: dict[str, dict[int, list[str]]] = {}

    @classmethod
    def of(
        cls, dataset: Dataset, files: Sequence[CurrentFile], reference: Snapshot, keyset: Keyset
    ) -> "_Sample | None":
        """Choose a sample, bucket by bucket; None where there is nothing to be measured."""
        names = {column.source: column.name for column in dataset.columns}
        hidden = next(filter(_hides_place, dataset.columns), None)
        energy = next((column for column in dataset.columns if column.source == "energy"), None)
        if hidden is None or energy is None or not pa.types.is_decimal(energy.type) or "month" not in names:
            return None
        assert isinstance(hidden.rule, Pseudonymise)
        sample = cls(dataset, names | {"pseudonym": hidden.name}, hidden.rule.entity, keyset)
        parts, buckets = [sample._ids], set()
        for bucket in range(reference.bucket_count):
            if sum(map(len, parts)) < _SAMPLE:
                parts.append(reference.points(bucket)[ENTITIES[sample._entity]].combine_chunks().unique())
                buckets.add(bucket)
        sample._ids = pa.concat_arrays(parts).unique()[:_SAMPLE]
        for file in sorted(files, key=lambda one: one.label):
            if bucket_in_month(file.label) in buckets:
                month = month_in(file.label)
                months = sample._files.setdefault(epoch_label(dataset.epoch, to_date(month)), {})
                months.setdefault(month, []).append(file.path)
        return sample if sample._files else None

    @property
    def epochs(self) -> list[str]:
        return list(self._files)

    def months(self, epoch: str) -> set[int]:
        """Give the places of the months of an epoch that are published: from 0, the epoch's first month."""
        return {_place_in(self._dataset, to_date(month)) for month in self._files[epoch]}

    def curves(self, epoch: str, places: Iterable[int]) -> Curves:
        """Read the curves of an epoch, a point for each place among its months."""
        at = {place: number for number, place in enumerate(sorted(places))}
        pseudonyms = self._pseudonyms(epoch)
        ids, points, energy = [pseudonyms[:0]], [], []
        for month, paths in self._files[epoch].items():
            if (place := _place_in(self._dataset, to_date(month))) in at:
                for path in paths:
                    rows = self._read(path, pseudonyms)
                    ids.append(rows["pseudonym"])
                    energy.append(as_int64_units(rows["energy"]))
                    points.append(np.full(len(ids[-1]), at[place]))
        found = np.concatenate([*points, np.zeros(0, np.int64)]), np.concatenate([*energy, np.zeros(0, np.int64)])
        return gather_curves(pa.concat_arrays(ids), *found, len(at))

    def pair(self, one: Curves, before: str, other: Curves, after: str) -> tuple[Ints, Ints]:
        """Tell which curves of two epochs are of the same point."""
        places = [pc.index_in(self._pseudonyms(epoch), of.ids) for epoch, of in ((before, one), (after, other))]
        both = pc.and_(places[0].is_valid(), places[1].is_valid())
        first, second = (place.filter(both).to_numpy().astype(np.int64) for place in places)
        return first, second

    def _pseudonyms(self, epoch: str) -> pa.Array:
        first = to_date(min(self._files[epoch]))
        key = self._keyset.key_for(first) if self._dataset.epoch else self._keyset.primary
        subkey = derive_subkey(key.secret.reveal(SECRET_ACCESS), self._dataset.domain, self._entity, epoch)
        return pseudonymise(subkey, self._ids)

    def _read(self, path: str, pseudonyms: pa.Array) -> dict[str, pa.Array]:
        """Read pseudonym and energy of those of the sample; of active energy and consumption, where a row tells."""
        asked = {"product": ACTIVE_ENERGY, "direction": "consumption"}
        told = [name for name in asked if name in self._names]
        columns = [self._names[name] for name in ("pseudonym", "energy", *told)]
        rows = pq.read_table(columnar(path), columns=columns, partitioning=None)
        rows = rows.rename_columns(["pseudonym", "energy", *told])
        ids = rows["pseudonym"].cast(pa.binary(PSEUDONYM_BYTES))
        kept = pc.and_(pc.is_in(ids, pseudonyms), rows["energy"].is_valid())
        for name in told:
            kept = pc.and_(kept, pc.equal(rows[name], asked[name]))
        return {
            "pseudonym": ids.filter(kept).combine_chunks(),
            "energy": rows["energy"].filter(kept).combine_chunks(),
        }


def _hides_place(column: Column) -> bool:
    return isinstance(column.rule, Pseudonymise) and column.rule.entity in {"metering_point", "usage_site"}


def _place_in(dataset: Dataset, month: date) -> int:
    """Tell which month of its epoch a month is, from 0; without epochs they go on for ever."""
    if not dataset.epoch:
        return month.year * _MONTHS + month.month
    return (month.month - 1) % {"year": _MONTHS, "quarter": 3, "month": 1}[dataset.epoch]


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
