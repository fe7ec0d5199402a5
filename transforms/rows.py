"""Rows of a view: columns that hold for a whole series once, columns per reading flat, joined by lengths."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.status import STATUS_WORDS, Status
from transforms.calendar import US_PER_S, LocalCalendar
from transforms.fold import CellGrids
from transforms.grid import NEVER

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A view of one cell.

    Attributes:
        columns: values that hold for a whole group of rows (a series, or a day of a point): Arrow arrays of one length.
        lengths: int64, rows in each group; None where every group is one row.
        flat: values per row: Arrow arrays as long as the sum of the lengths.
    """

    columns: Mapping[str, pa.Array]
    lengths: Ints | None
    flat: Mapping[str, pa.Array]

    def select(self, chosen: Ints) -> "Rows":
        """Take groups, in the order given."""
        columns = {name: column.take(pa.array(chosen)) for name, column in self.columns.items()}
        if self.lengths is None:
            return Rows(columns, None, {})
        flat = {name: take_groups(values, self.lengths, chosen) for name, values in self.flat.items()}
        return Rows(columns, self.lengths[chosen], flat)

    def spread(self, column: pa.Array) -> pa.Array:
        """Repeat a group's value for each of its rows, dictionary-encoded where that saves work."""
        if self.lengths is None:
            return column
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        indices = encoded.indices.to_numpy(zero_copy_only=False)
        if encoded.null_count:
            valid = np.repeat(encoded.is_valid().to_numpy(zero_copy_only=False), self.lengths)
            repeated = pa.array(np.repeat(np.nan_to_num(indices).astype(np.int32), self.lengths), mask=~valid)
        else:
            repeated = pa.array(np.repeat(indices.astype(np.int32), self.lengths))
        return pa.DictionaryArray.from_arrays(repeated, encoded.dictionary)


def take_groups(values: pa.Array, lengths: Ints, chosen: Ints) -> pa.Array:
    """Gather groups of a flat array in a new order, each as one stretch of memory."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values).take(pa.array(chosen)).flatten()


def flatten_cell(
    cell: CellGrids, flags: Mapping[tuple[str, int], npt.NDArray[np.int32] | None], calendar: LocalCalendar
) -> tuple[Ints, Rows]:
    """Turn the grids of a cell into rows, sorted by metering point, product, resolution and start.

    Args:
        cell: merged grids.
        flags: quality flags per grid, beside the flags of the merge that the grid itself holds.
        calendar: local days of the lake.

    Returns:
        The point (index into ``cell.ids``) of each group, and rows with the columns ``product`` and
        ``resolution_s`` and the flat columns ``start``, ``energy`` (int64 milliwatt-hours, null under MISSING),
        ``status`` (dictionary), ``flags``, ``registered_at``, ``rival_registered_at``, ``daily_rival_registered_at``.
    """
    keys = sorted(cell.grids)
    points, lengths, parts = [], [], []
    day_start = int(calendar.start_of(np.array([cell.local_date]))[0])
    for key in keys:
        grid = cell.grids[key]
        present = grid.present()
        length = present.sum(axis=1)
        rows = np.flatnonzero(length)
        points.append(grid.points[rows])
        lengths.append(length[rows])
        every = present.all()
        starts = day_start + np.arange(present.shape[1]) * (key[1] * US_PER_S)
        found = flags.get(key)
        all_flags = grid.flags if found is None else found if grid.flags is None else found | grid.flags
        parts.append(
            {
                name: None if array is None else array.ravel() if every else array[present]
                for name, array in (
                    ("start", np.broadcast_to(starts, present.shape)),
                    ("energy", grid.energy),
                    ("status", grid.status),
                    ("registered", grid.registered),
                    ("flags", all_flags),
                    ("rival", grid.rival),
                    ("daily_rival", grid.daily_rival),
                )
            }
        )
    count = [int(length.sum()) for length in lengths]
    defaults = {"flags": np.int32(0), "rival": np.int64(NEVER), "daily_rival": np.int64(NEVER)}
    flat = {name: _join([part[name] for part in parts], count, defaults.get(name)) for name in parts[0]}
    point, length = np.concatenate(points), np.concatenate(lengths)
    code = np.repeat(np.arange(len(keys)), [len(part) for part in points])
    products = pa.array([product for product, _ in keys])
    columns = {
        "product": products.take(pa.array(code)),
        "resolution_s": pa.array(np.array([resolution for _, resolution in keys], np.int32)[code]),
    }
    rows_of_cell = Rows(columns, length, _flat_columns(flat, cell.times))
    order = np.lexsort((code, point))
    if len(keys) > 1:
        point, rows_of_cell = point[order], rows_of_cell.select(order)
    return point, rows_of_cell


def _join(parts: list[Any], count: list[int], default: Any) -> Any:
    """Concatenate a column of all grids; None where no grid has it."""
    if all(part is None for part in parts):
        return None
    if len(parts) == 1:
        return parts[0]
    filled = [np.full(n, default) if part is None else part for part, n in zip(parts, count, strict=True)]
    return np.concatenate(filled)


def _flat_columns(flat: Mapping[str, Any], times: Ints) -> dict[str, pa.Array]:
    """Make Arrow columns of the flat arrays of a cell."""
    status = flat["status"]
    missing = status == Status.MISSING
    stamp = pa.timestamp("us", tz="UTC")
    count = len(status)
    return {
        "start": pa.array(flat["start"]).view(stamp),
        "energy": pa.array(flat["energy"], mask=missing if missing.any() else None),
        "status": pa.DictionaryArray.from_arrays(pa.array(status), pa.array(STATUS_WORDS)),
        "flags": pa.array(np.zeros(count, np.int32) if flat["flags"] is None else flat["flags"]),
        "registered_at": pa.DictionaryArray.from_arrays(pa.array(flat["registered"]), pa.array(times).view(stamp)),
        **{
            column: pa.nulls(count, stamp) if flat[name] is None else _nullable_times(flat[name], stamp)
            for name, column in (("rival", "rival_registered_at"), ("daily_rival", "daily_rival_registered_at"))
        },
    }


def _nullable_times(values: Ints, stamp: pa.DataType) -> pa.Array:
    return pa.array(values, mask=values == NEVER).view(stamp)
