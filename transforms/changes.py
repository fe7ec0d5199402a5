"""What a correction changed: the energy of a day before and after, for every point and product whose day differs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.status import Status
from schemas.views import ENERGY_SUM
from transforms.decimals import as_decimal, as_int64_units
from transforms.fold import CellGrids

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Days:
    """The day of one product at every point of a cell: milliwatt-hours, and whether any value is present."""

    energy: Ints
    valued: npt.NDArray[np.bool_]

    @classmethod
    def empty(cls, points: int) -> "_Days":
        return cls(np.zeros(points, np.int64), np.zeros(points, bool))

    def differ(self, other: "_Days") -> npt.NDArray[np.bool_]:
        differs: npt.NDArray[np.bool_] = (self.energy != other.energy) | (self.valued != other.valued)
        return differs

    def column(self, at: Ints) -> pa.Array:
        return as_decimal(pa.array(self.energy[at], mask=~self.valued[at]), ENERGY_SUM)


def compare_days(base: pa.Table, cell: CellGrids) -> pa.Table:
    """Find the days whose energy a run changed.

    Args:
        base: the cell's rows before, in the columns and the order of ``operational.readings``.
        cell: its grids now, which hold every point of the base.

    Returns:
        ``metering_point_id``, ``product``, ``energy_before`` and ``energy_after`` (kWh; null where no value is, or was,
        present), sorted by point and product.
    """
    points = len(cell.ids)
    before, after = _sum_base(base, cell.ids), _sum_grids(cell)
    found = []
    for product in sorted(before.keys() | after.keys()):
        old, new = (days.get(product) or _Days.empty(points) for days in (before, after))
        at = np.flatnonzero(old.differ(new))
        columns = [cell.ids.take(pa.array(at)), pa.repeat(product, len(at)), old.column(at), new.column(at)]
        found.append(pa.table(columns, ["metering_point_id", "product", "energy_before", "energy_after"]))
    return pa.concat_tables(found).sort_by([("metering_point_id", "ascending"), ("product", "ascending")])


def _sum_base(base: pa.Table, ids: pa.Array) -> dict[str, _Days]:
    """Sum rows that are sorted by point and product: each run of them is a day of one."""
    if not len(base):
        return {}
    point, product = (base.column(name).combine_chunks() for name in ("metering_point_id", "product"))
    point, product = (col if pa.types.is_dictionary(col.type) else col.dictionary_encode() for col in (point, product))
    codes = [column.indices.to_numpy() for column in (point, product)]
    first = np.flatnonzero(np.append(True, (codes[0][1:] != codes[0][:-1]) | (codes[1][1:] != codes[1][:-1])))
    energy = base.column("energy").combine_chunks()
    sums = np.add.reduceat(as_int64_units(energy), first)
    valued = np.add.reduceat(energy.is_valid().to_numpy(zero_copy_only=False), first, dtype=np.int64) > 0
    place = pc.index_in(point.dictionary, ids).to_numpy()[codes[0][first]]
    days: dict[str, _Days] = {}
    for code, name in enumerate(product.dictionary.to_pylist()):  # a name may be there twice, one a resolution
        of = np.flatnonzero(codes[1][first] == code)
        day = days.setdefault(name, _Days.empty(len(ids)))
        day.energy[place[of]] += sums[of]
        day.valued[place[of]] |= valued[of]
    return days


def _sum_grids(cell: CellGrids) -> dict[str, _Days]:
    days: dict[str, _Days] = {}
    for (product, _), grid in cell.grids.items():
        day = days.setdefault(product, _Days.empty(len(cell.ids)))
        for rows in grid.blocks():
            at = grid.points[rows]
            day.energy[at] += grid.energy[rows].sum(axis=1)
            day.valued[at] |= (grid.status[rows] > Status.MISSING).any(axis=1)
    return days
