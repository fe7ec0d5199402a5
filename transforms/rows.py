"""Rows of a view: columns that hold for a whole group of rows once, columns per reading flat, made block by block."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.status import STATUS_WORDS, Status
from schemas.views import ENERGY
from transforms.calendar import US_PER_S, LocalCalendar
from transforms.decimals import as_decimal
from transforms.grid import ABSENT, NEVER, CellGrids, DayGrid

Ints = npt.NDArray[np.int64]

#: Rows that are made, and encoded, at a time: columns of so many stay in the processor's cache, and the memory of one
#: block is used again by the next. Three times as fast as a whole cell at a time, and a fraction of its memory.
BLOCK_ROWS = 1 << 19


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Contiguous readings at one resolution: rows that share all that holds for a series. Aligned int64 arrays.

    Attributes:
        lengths: readings in each group.
        places: where each begins in the flat arrays of its cell.
        begins: µs, start of its first reading.
        steps: µs from reading to reading.
    """

    lengths: Ints
    places: Ints
    begins: Ints
    steps: Ints

    def select(self, chosen: Any) -> "Groups":
        """Take groups, by indices or by a slice."""
        return Groups(self.lengths[chosen], self.places[chosen], self.begins[chosen], self.steps[chosen])

    def ends(self) -> Ints:
        """Give the start of each group's last reading, µs."""
        ends: Ints = self.begins + (self.lengths - 1) * self.steps
        return ends

    def take_apart(self, apart: npt.NDArray[np.bool_]) -> tuple[Ints, "Groups"]:
        """Make single readings of some groups; gives the group that each part comes from, and the parts."""
        parts = np.where(apart, self.lengths, 1)
        group = np.repeat(np.arange(len(parts)), parts)
        nth: Ints = count_up(parts) * apart[group]
        of = self.select(group)
        lengths: Ints = np.where(apart[group], 1, of.lengths)
        return group, Groups(lengths, of.places + nth, of.begins + nth * of.steps, of.steps)


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Where the rows of groups stand in the flat arrays of their cell.

    Attributes:
        groups: the groups.
        count: number of rows.
        index: int64 positions; None where the rows stand together, in their order.
    """

    groups: Groups
    count: int
    index: Ints | None

    @classmethod
    def of(cls, groups: Groups) -> "Order":
        """Find the place of every row."""
        ends = np.cumsum(groups.lengths)
        shift = groups.places - (ends - groups.lengths)
        count = int(ends[-1]) if len(ends) else 0
        if (shift == shift[:1]).all():
            return cls(groups, count, None)
        index = np.repeat(shift, groups.lengths)
        index += np.arange(count)
        return cls(groups, count, index)

    def take(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring a flat array into this order; zero-copy where it is in it already."""
        if self.index is not None:
            return values.take(self.index)
        begin = int(self.groups.places[0]) if self.count else 0
        return values[begin : begin + self.count]

    def starts(self) -> Ints:
        """Compute the start of every row, µs."""
        lengths, begins = self.groups.lengths, self.groups.begins
        starts = np.repeat(self.groups.steps, lengths)
        if len(lengths):
            # Steps, and at the first reading of each group what leads there from the last one of the group before.
            starts[np.cumsum(lengths) - lengths] = begins - np.append(0, self.groups.ends()[:-1])
        return np.cumsum(starts, out=starts)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A view of one cell; selecting and sorting move whole groups, and move no reading until a block is made.

    Attributes:
        columns: values that hold for a whole group of rows (a series, or a day of a point): Arrow arrays of one length.
        groups: the readings of each group; None where every group is one row.
        flat: makes a column that has a value per row, in a given order.
    """

    columns: Mapping[str, pa.Array]
    groups: Groups | None = None
    flat: Mapping[str, Callable[[Order], pa.Array]] = field(default_factory=dict)

    def select(self, chosen: Ints) -> "Rows":
        """Take groups, in the order given."""
        take = pa.array(chosen)
        columns = {name: column.take(take) for name, column in self.columns.items()}
        return replace(self, columns=columns, groups=self.groups and self.groups.select(chosen))

    def with_columns(self, columns: Mapping[str, pa.Array]) -> "Rows":
        """Add or replace columns of the groups."""
        return replace(self, columns={**self.columns, **columns})

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator["Rows"]:
        """Cut between groups into blocks of about so many rows, in their order; at least one, be it empty."""
        lengths = np.ones(self._count_groups(), np.int64) if self.groups is None else self.groups.lengths
        block = (np.cumsum(lengths) - lengths) // rows
        edges = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(lengths)]
        for begin, end in pairwise(edges):
            columns = {name: column.slice(begin, end - begin) for name, column in self.columns.items()}
            groups = None if self.groups is None else self.groups.select(slice(begin, end))
            yield replace(self, columns=columns, groups=groups)

    def spread(self, column: pa.Array) -> pa.Array:
        """See a group's value as that of each of its rows: run-end encoded, so no row is written down."""
        if self.groups is None:
            return column
        ends = np.cumsum(self.groups.lengths).astype(np.int32)
        return pa.RunEndEncodedArray.from_arrays(pa.array(ends), column)

    def _count_groups(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0


def repeat_runs(column: pa.Array) -> pa.Array:
    """Repeat the value of each run for its rows: text as a dictionary, 16-byte values and numbers plain.

    Args:
        column: a value a run: text, a dictionary of text, 16-byte values, booleans, or of 4 or 8 bytes a value.
    """
    lengths = np.diff(column.run_ends.to_numpy(), prepend=0)
    values = column.values.dictionary_encode() if pa.types.is_string(column.values.type) else column.values
    if pa.types.is_boolean(values.type):
        return values.take(pa.array(np.repeat(np.arange(len(values)), lengths)))
    if isinstance(values, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(values.type, _repeat(values.storage, lengths))
    if pa.types.is_dictionary(values.type):
        return _encode(_repeat(values.indices, lengths), values.dictionary)
    return _repeat(values, lengths)


def _repeat(values: pa.Array, lengths: npt.NDArray[Any]) -> pa.Array:
    """Repeat values of a fixed width."""
    validity = None
    if values.null_count:
        valid = values.is_valid().to_numpy(zero_copy_only=False)
        validity = pa.py_buffer(np.packbits(np.repeat(valid, lengths), bitorder="little"))
    width = values.type.byte_width
    given = np.frombuffer(values.buffers()[1], f"V{width}", len(values), values.offset * width)
    repeated = np.repeat(given.view(f"i{width}") if width in {1, 2, 4, 8} else given, lengths)
    return pa.Array.from_buffers(values.type, len(repeated), [validity, pa.py_buffer(repeated)])


def flatten_cell(
    cell: CellGrids, flags: Mapping[tuple[str, int], npt.NDArray[np.int32] | None], calendar: LocalCalendar
) -> tuple[Ints, Rows]:
    """See the grids of a cell as rows, sorted by metering point, product, resolution and start; copies no reading.

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
    day_start = int(calendar.start_of(np.array([cell.local_date]))[0])
    parts = [_group_grid(cell.grids[key], cell.places[key], day_start, key[1]) for key in keys]
    point = np.concatenate([point for point, _ in parts])
    groups = Groups(
        *(np.concatenate([getattr(of, name) for _, of in parts]) for name in ("lengths", "places", "begins", "steps"))
    )
    code = np.repeat(np.arange(len(keys)), [len(points) for points, _ in parts])
    products = pa.array([product for product, _ in keys])
    columns = {
        "product": pa.DictionaryArray.from_arrays(pa.array(code.astype(np.int32)), products),
        "resolution_s": pa.array(np.array([resolution for _, resolution in keys], np.int32)[code]),
    }
    order = np.lexsort((groups.begins, code, point))
    return point[order], Rows(columns, groups, _flat_columns(cell, flags)).select(order)


def _group_grid(grid: DayGrid, place: int, day_start: int, resolution_s: int) -> tuple[Ints, Groups]:
    """Find the stretches of a grid that have readings: the point of each, and the groups."""
    slots = grid.status.shape[1]
    present = np.concatenate([(grid.status[rows] != ABSENT).sum(axis=1) for rows in grid.blocks()])
    whole = np.flatnonzero(present == slots)
    broken = np.flatnonzero((present > 0) & (present < slots))
    edge = np.zeros((len(broken), slots + 2), np.int8)
    edge[:, 1:-1] = grid.status[broken] != ABSENT
    row, first = np.nonzero(np.diff(edge, axis=1) == 1)
    _, after = np.nonzero(np.diff(edge, axis=1) == -1)
    rows = np.concatenate([whole, broken[row]])
    first = np.concatenate([np.zeros(len(whole), np.int64), first])
    length = np.concatenate([np.full(len(whole), slots), after - first[len(whole) :]])
    step = resolution_s * US_PER_S
    steps = np.full(len(rows), step)
    return grid.points[rows], Groups(length, place + rows * slots + first, day_start + first * step, steps)


def _flat_columns(
    cell: CellGrids, flags: Mapping[tuple[str, int], npt.NDArray[np.int32] | None]
) -> dict[str, Callable[[Order], pa.Array]]:
    """Say how the flat arrays of a cell become Arrow columns."""
    stamp = pa.timestamp("us", tz="UTC")
    words = pa.array(STATUS_WORDS)
    all_flags = _join(cell, {key: _either(grid.flags, flags.get(key)) for key, grid in cell.grids.items()}, np.int32(0))
    rivals = {
        name: _join(cell, {key: getattr(grid, name) for key, grid in cell.grids.items()}, np.int64(NEVER))
        for name in ("rival", "daily_rival")
    }

    def energy(order: Order) -> pa.Array:
        missing = order.take(cell.status) == Status.MISSING
        return as_decimal(pa.array(order.take(cell.energy), mask=missing if missing.any() else None), ENERGY)

    def flags_of(order: Order) -> pa.Array:
        return pa.array(np.zeros(order.count, np.int32) if all_flags is None else order.take(all_flags))

    def registered_at(order: Order) -> Ints:
        if len(cell.times) == 1:
            return np.full(order.count, cell.times[0])
        return cell.times.take(order.take(cell.registered))

    def rival(name: str, order: Order) -> pa.Array:
        known = rivals[name]
        if known is None:
            return pa.nulls(order.count, stamp)
        values = order.take(known)
        return pa.array(values, mask=values == NEVER).view(stamp)

    return {
        "start": lambda order: pa.array(order.starts()).view(stamp),
        "energy": energy,
        "status": lambda order: _encode(pa.array(order.take(cell.status)), words),
        "flags": flags_of,
        "registered_at": lambda order: pa.array(registered_at(order)).view(stamp),
        "rival_registered_at": partial(rival, "rival"),
        "daily_rival_registered_at": partial(rival, "daily_rival"),
    }


def _either(some: npt.NDArray[np.int32] | None, others: npt.NDArray[np.int32] | None) -> npt.NDArray[np.int32] | None:
    return some if others is None else others if some is None else some | others


def _join(cell: CellGrids, arrays: Mapping[tuple[str, int], Any], default: Any) -> Any:
    """Make a flat array of the cell from the arrays that some of its grids have; None where none has."""
    if all(array is None for array in arrays.values()):
        return None
    if len(arrays) == 1:
        return next(iter(arrays.values())).ravel()
    flat = np.full(len(cell.status), default)
    for key, array in arrays.items():
        if array is not None:
            flat[cell.places[key] : cell.places[key] + array.size] = array.ravel()
    return flat


def _encode(indices: pa.Array, dictionary: pa.Array) -> pa.DictionaryArray:
    """Join indices that are known to be good to their dictionary."""
    return pa.DictionaryArray.from_arrays(indices, dictionary, safe=False)


def count_up(lengths: Ints) -> Ints:
    """Count 0, 1, 2 … within each group."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
