"""What a correction changed: the energy of a day before and after, for every point and product whose day differs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.status import Status
from schemas.views import ENERGY_SUM
from transforms.decimals import as_decimal
from transforms.grid import CellGrids

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class DayEnergy:
    """The day of one product at every point of a cell.

    Attributes:
        energy: int64 [points], milliwatt-hours.
        valued: bool [points], whether any value is present.
    """

    energy: Ints
    valued: npt.NDArray[np.bool_]

    @classmethod
    def zero(cls, points: int) -> "DayEnergy":
        """Make days without a value."""
        return cls(np.zeros(points, np.int64), np.zeros(points, bool))

    def differs(self, other: "DayEnergy") -> npt.NDArray[np.bool_]:
        """Tell at which points the day is another one."""
        differs: npt.NDArray[np.bool_] = (self.energy != other.energy) | (self.valued != other.valued)
        return differs

    def column(self, at: Ints) -> pa.Array:
        """Give the energy at some points: kWh, null where no value is present."""
        return as_decimal(pa.array(self.energy[at], mask=~self.valued[at]), ENERGY_SUM)


def sum_products(cell: CellGrids) -> dict[str, DayEnergy]:
    """Sum the day of every product at every point of a cell, whatever the resolutions."""
    days: dict[str, DayEnergy] = {}
    for (product, _), grid in cell.grids.items():
        day = days.setdefault(product, DayEnergy.zero(len(cell.ids)))
        for rows in grid.blocks():
            at = grid.points[rows]
            day.energy[at] += grid.energy[rows].sum(axis=1)
            day.valued[at] |= (grid.status[rows] > Status.MISSING).any(axis=1)
    return days


def compare_days(before: Mapping[str, DayEnergy], cell: CellGrids) -> pa.Table:
    """Find the days whose energy a run changed.

    Args:
        before: by product, the days of the cell's points as they were.
        cell: its grids now.

    Returns:
        ``metering_point_id``, ``product``, ``energy_before`` and ``energy_after`` (kWh; null where no value is, or was,
        present), sorted by point and product.
    """
    after = sum_products(cell)
    nothing = DayEnergy.zero(len(cell.ids))
    found = []
    for product, new in sorted(after.items()):
        old = before.get(product, nothing)
        at = np.flatnonzero(old.differs(new))
        columns = [cell.ids.take(pa.array(at)), pa.repeat(product, len(at)), old.column(at), new.column(at)]
        found.append(pa.table(columns, ["metering_point_id", "product", "energy_before", "energy_after"]))
    return pa.concat_tables(found).sort_by([("metering_point_id", "ascending"), ("product", "ascending")])
