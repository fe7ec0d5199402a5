"""Rows of a view: columns that hold for a whole series once, columns per reading flat, joined by lengths."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.status import STATUS_WORDS, Status
from schemas.views import ENERGY
from transforms.calendar import US_PER_S, LocalCalendar
from transforms.decimals import as_decimal
from transforms.fold import CellGrids
from transforms.grid import NEVER

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Where the rows of a selection stand in the flat arrays of its view.

    Attributes:
        count: number of rows.
        index: int64 positions; None where they are the first ``count``, in their order.
    """

    count: int
    index: Ints | None

    def take(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring a flat array into this order; zero-copy where it is in it already."""
        return values[: self.count] if self.index is None else values.take(self.index)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A view of one cell; selecting and sorting move whole groups, and move no reading until a column is made.

    Attributes:
        columns: values that hold for a whole group of rows (a series, or a day of a point): Arrow arrays of one length.
        lengths: int64, rows in each group; None where every group is one row.
        starts: int64, where each group begins in the flat arrays.
        flat: makes a column that has a value per row, in a given order.
    """

    columns: Mapping[str, pa.Array]
    lengths: Ints | None = None
    starts: Ints | None = None
    flat: Mapping[str, Callable[[Order], pa.Array]] = field(default_factory=dict)

    def select(self, chosen: Ints) -> "Rows":
        """Take groups, in the order given."""
        columns = {name: column.take(pa.array(chosen)) for name, column in self.columns.items()}
        if self.lengths is None or self.starts is None:
            return Rows(columns)
        return Rows(columns, self.lengths[chosen], self.starts[chosen], self.flat)

    def with_columns(self, columns: Mapping[str, pa.Array]) -> "Rows":
        """Add or replace columns of the groups."""
        return replace(self, columns={**self.columns, **columns})

    def order(self) -> Order:
        """Say where the rows of the groups stand in the flat arrays."""
        if self.lengths is None or self.starts is None:
            raise ValueError("a view without groups has no flat columns")
        ends = np.cumsum(self.lengths)
        begins = ends - self.lengths
        count = int(ends[-1]) if len(ends) else 0
        if (begins == self.starts).all():
            return Order(count, None)
        index = np.repeat(self.starts - begins, self.lengths)
        index += np.arange(count)
        return Order(count, index)

    def spread(self, column: pa.Array) -> pa.Array:
        """Repeat a group's value for each of its rows: text as a dictionary, 16-byte values and numbers plain.

        Args:
            column: one value a group: text, a dictionary of text, ``fixed_size_binary(16)``, or of 4 bytes a value.
        """
        if self.lengths is None:
            return column
        if pa.types.is_string(column.type):
            column = column.dictionary_encode()
        valid = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else None
        null = None if valid is None else np.repeat(~valid, self.lengths)
        if pa.types.is_dictionary(column.type):
            codes = column.indices.fill_null(0).to_numpy().astype(np.int32, copy=False)
            repeated = pa.array(np.repeat(codes, self.lengths), mask=null)
            return pa.DictionaryArray.from_arrays(repeated, column.dictionary)
        kind = "V16" if column.type == pa.binary(16) else np.int32
        values = np.frombuffer(column.buffers()[1], kind, len(column), column.offset * np.dtype(kind).itemsize)
        repeated = np.repeat(values, self.lengths)
        bitmap = None if null is None else pa.array(~null).buffers()[1]
        return pa.Array.from_buffers(column.type, len(repeated), [bitmap, pa.py_buffer(repeated)])


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
        ``resolution_s`` and the flat columns ``start``, ``energy`` (decimal kWh, null under MISSING), ``status``
        (dictionary), ``flags``, ``registered_at``, ``rival_registered_at``, ``daily_rival_registered_at``.
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
    starts = np.cumsum(length) - length
    order = np.lexsort((code, point))
    return point[order], Rows(columns, length, starts, _flat_columns(flat, cell.times)).select(order)


def _join(parts: list[Any], count: list[int], default: Any) -> Any:
    """Concatenate a column of all grids; None where no grid has it."""
    if all(part is None for part in parts):
        return None
    if len(parts) == 1:
        return parts[0]
    filled = [np.full(n, default) if part is None else part for part, n in zip(parts, count, strict=True)]
    return np.concatenate(filled)


def _flat_columns(flat: Mapping[str, Any], times: Ints) -> dict[str, Callable[[Order], pa.Array]]:
    """Say how the flat arrays of a cell become Arrow columns."""
    stamp = pa.timestamp("us", tz="UTC")
    words = pa.array(STATUS_WORDS)
    some_missing = bool((flat["status"] == Status.MISSING).any())

    def energy(order: Order) -> pa.Array:
        missing = order.take(flat["status"]) == Status.MISSING if some_missing else None
        return as_decimal(pa.array(order.take(flat["energy"]), mask=missing), ENERGY)

    def flags(order: Order) -> pa.Array:
        return pa.array(np.zeros(order.count, np.int32) if flat["flags"] is None else order.take(flat["flags"]))

    def rival(name: str, order: Order) -> pa.Array:
        if flat[name] is None:
            return pa.nulls(order.count, stamp)
        values = order.take(flat[name])
        return pa.array(values, mask=values == NEVER).view(stamp)

    return {
        "start": lambda order: pa.array(order.take(flat["start"])).view(stamp),
        "energy": energy,
        "status": lambda order: pa.DictionaryArray.from_arrays(pa.array(order.take(flat["status"])), words),
        "flags": flags,
        "registered_at": lambda order: pa.array(times.take(order.take(flat["registered"]))).view(stamp),
        "rival_registered_at": partial(rival, "rival"),
        "daily_rival_registered_at": partial(rival, "daily_rival"),
    }
