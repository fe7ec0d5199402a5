"""Folding: the frames of a cell and its current rows become day grids, merged by both rules."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.status import Status
from transforms.calendar import LocalCalendar
from transforms.changes import DayEnergy, sum_products
from transforms.grid import NEVER, CellGrids, DayGrid, Superseded
from transforms.pieces import as_int64, list_lengths
from transforms.settle import settle

Ints = npt.NDArray[np.int64]
Indices = npt.NDArray[np.intp]
#: Greater than any resolution in seconds, to join a resolution and a product's code to one key.
_RESOLUTIONS = 1 << 20
#: What a grid remembers of its readings beside them, and how it says that there is nothing.
_REMEMBERED = {"flags": 0, "rival": NEVER, "daily_rival": NEVER}
_FLAT = {"energy", "status", *_REMEMBERED}


@dataclass(slots=True, eq=False)
class FoldTally:
    """Readings and milliwatt-hours on both sides of a fold, and the energy of the days of a cell that was there."""

    incoming: int = 0
    incoming_energy: int = 0
    before: int = 0
    before_energy: int = 0
    superseded: Superseded = field(default_factory=Superseded)
    days_before: dict[str, DayEnergy] = field(default_factory=dict)


def fold(
    frames: Sequence[pa.RecordBatch], base: Sequence[pa.RecordBatch], local_date: int, calendar: LocalCalendar
) -> tuple[CellGrids, FoldTally]:
    """Fold what arrived for a cell into what it holds.

    Args:
        frames: frames of the cell, as ``pieces.split_by_cell`` makes them, in any order.
        base: the cell's current rows (``state.frame_rows``), block by block; none where the cell is new.
        local_date: the cell's local date, days since 1970-01-01.
        calendar: local days of the lake.
    """
    every = [*base, *frames]
    ids, positions = _number_ids([frame.column("metering_point_id") for frame in every])
    times = np.unique(np.concatenate([as_int64(pc.unique(frame.column("registered_at"))) for frame in every]))
    read = [_read_frame(frame, point, times) for frame, point in zip(every, positions, strict=True)]
    cell = _allocate(read, ids, times, local_date, calendar)
    grids, tally = cell.grids, FoldTally()
    touched = {key: np.zeros(len(grid.points), dtype=bool) for key, grid in grids.items()}
    for frame in read[: len(base)]:
        tally.before += len(frame.energy)
        tally.before_energy += int(frame.energy.sum())
        for key, which in frame.groups:
            row = np.searchsorted(grids[key].points, frame.point[which])
            _place_state(grids[key], row, which, frame)
            touched[key][row] = True
    if base:
        tally.days_before = sum_products(cell)
    for frame in read[len(base) :]:
        tally.incoming += len(frame.energy)
        tally.incoming_energy += int(frame.energy.sum(dtype=np.int64))
        for key, which in frame.groups:
            row = np.searchsorted(grids[key].points, frame.point[which])
            _place_pieces(grids[key], row, which, frame, touched[key], tally.superseded)
    for product in {product for product, _ in grids}:
        competing = {resolution: grid for (of, resolution), grid in grids.items() if of == product}
        settle(competing, len(ids), times, tally.superseded)
    return cell, tally


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """A frame: one element per piece, but flat energy and status, and what the merge remembers of a cell's state."""

    groups: list[tuple[tuple[str, int], Indices]]
    point: Ints
    slot: Ints
    offset: Ints
    count: Ints
    registered: npt.NDArray[np.int32]
    energy: npt.NDArray[np.int64] | npt.NDArray[np.int32]
    status: npt.NDArray[np.int8]
    remembered: dict[str, npt.NDArray[Any]]


def _allocate(
    arrivals: Sequence[_Frame], ids: pa.Array, times: Ints, local_date: int, calendar: LocalCalendar
) -> CellGrids:
    """Make an empty grid for every product and resolution, with a row for each point that has it."""
    used: dict[tuple[str, int], npt.NDArray[np.bool_]] = {}
    for arrival in arrivals:
        for key, which in arrival.groups:
            used.setdefault(key, np.zeros(len(ids), dtype=bool))[arrival.point[which]] = True
    points = {key: np.flatnonzero(mask) for key, mask in sorted(used.items())}
    return CellGrids.empty(local_date, ids, points, times, calendar)


def _groups(frame: pa.RecordBatch) -> list[tuple[tuple[str, int], Indices]]:
    """Group the pieces of a frame by product and resolution."""
    product = frame.column("product").dictionary_encode()
    resolution = frame.column("resolution_s").to_numpy().astype(np.int64)
    key = product.indices.to_numpy().astype(np.int64) * _RESOLUTIONS + resolution
    distinct = np.unique(key)
    return [
        (
            (product.dictionary[int(value // _RESOLUTIONS)].as_py(), int(value % _RESOLUTIONS)),
            np.arange(len(key)) if len(distinct) == 1 else np.flatnonzero(key == value),
        )
        for value in distinct
    ]


def _number_ids(columns: Sequence[pa.Array]) -> tuple[pa.Array, list[Ints]]:
    """Number the distinct ids of columns in their order; gives them sorted, and the numbers of each column's rows."""
    encoded = pa.concat_arrays(columns).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    ends = np.cumsum([len(column) for column in columns])
    return encoded.dictionary.take(order), np.split(rank[encoded.indices.to_numpy()], ends[:-1])


def _read_frame(frame: pa.RecordBatch, point: Ints, times: Ints) -> _Frame:
    lists = frame.column("energy")
    offset = lists.offsets.to_numpy().astype(np.int64)
    flat = {name: frame.column(name).flatten().to_numpy() for name in frame.schema.names if name in _FLAT}
    energy = flat["energy"]
    return _Frame(
        groups=_groups(frame),
        point=point,
        slot=frame.column("slot").to_numpy().astype(np.int64),
        offset=offset[:-1] - offset[0],
        count=list_lengths(lists),
        registered=np.searchsorted(times, as_int64(frame.column("registered_at"))).astype(np.int32),
        energy=energy,
        status=flat["status"] if "status" in flat else np.full(len(energy), Status.OK, np.int8),
        remembered={name: flat[name] for name in _REMEMBERED.keys() & flat.keys()},
    )


def _place_state(grid: DayGrid, row: Ints, which: Indices, frame: _Frame) -> None:
    """Put pieces that have been merged already into their slots, which are empty, with what is remembered of them."""
    whole = frame.count[which] == grid.status.shape[1]
    for chosen, place in ((whole, _place_days), (~whole, _place_stretches)):
        if chosen.any():
            place(grid, row[chosen], which[chosen], frame)
    if frame.remembered:
        at, source = _find_slots(grid, row, which, frame)
    for name, values in frame.remembered.items():
        if getattr(grid, name) is None:
            setattr(grid, name, np.full(grid.energy.shape, _REMEMBERED[name], values.dtype))
        getattr(grid, name).ravel()[at] = values[source]


def _place_pieces(
    grid: DayGrid, row: Ints, which: Indices, frame: _Frame, touched: npt.NDArray[np.bool_], superseded: Superseded
) -> None:
    """Let the pieces of a frame compete for their slots, in rounds of one piece a row."""
    slots = grid.status.shape[1]
    for turn in _rounds(row):
        fresh = ~touched[row[turn]]
        touched[row[turn]] = True
        whole = fresh & (frame.count[which[turn]] == slots)
        for chosen, place in (
            (turn[whole], _place_days),
            (turn[fresh & ~whole], _place_stretches),
            (turn[~fresh], partial(_place_stretches, superseded=superseded)),
        ):
            if len(chosen):
                place(grid, row[chosen], which[chosen], frame)


def _place_days(grid: DayGrid, row: Ints, piece: Indices, frame: _Frame) -> None:
    """Write whole days on distinct untouched rows, as blocks of days that stand together in the frame."""
    slots = grid.status.shape[1]
    offset = frame.offset[piece]
    grid.registered[row] = frame.registered[piece][:, None]
    edges = [0, *(np.flatnonzero(np.diff(offset) != slots) + 1), len(row)]
    for begin, end in pairwise(edges):
        stretch = slice(int(offset[begin]), int(offset[begin]) + slots * (end - begin))
        grid.energy[row[begin:end]] = frame.energy[stretch].reshape(-1, slots)
        grid.status[row[begin:end]] = frame.status[stretch].reshape(-1, slots)


def _place_stretches(
    grid: DayGrid, row: Ints, piece: Indices, frame: _Frame, superseded: Superseded | None = None
) -> None:
    """Write pieces on distinct rows: at once where the rows are untouched, else in competition."""
    at, source = _find_slots(grid, row, piece, frame)
    energy, status = frame.energy[source].astype(np.int64, copy=False), frame.status[source]
    registered = np.repeat(frame.registered[piece], frame.count[piece])
    if superseded is None:
        grid.energy.ravel()[at] = energy
        grid.status.ravel()[at] = status
        grid.registered.ravel()[at] = registered
    else:
        grid.merge(at, energy, status, registered, superseded)


def _find_slots(grid: DayGrid, row: Ints, piece: Indices, frame: _Frame) -> tuple[Indices, Indices]:
    """Find where in the grid the readings of pieces belong, and where in the frame they stand: flat indices."""
    count = frame.count[piece]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    at = np.repeat(row * grid.status.shape[1] + frame.slot[piece], count) + within
    return at, np.repeat(frame.offset[piece], count) + within


def _rounds(rows: Ints) -> Iterator[Indices]:
    """Deal the pieces into rounds so that no row occurs twice in one: the n-th piece of every row plays round n."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=-1))
    if len(begins) == len(rows):
        yield np.arange(len(rows))
        return
    lengths = np.diff(begins, append=len(rows))
    nth = np.arange(len(rows)) - np.repeat(begins, lengths)
    by_round = np.argsort(nth, kind="stable")
    yield from np.split(order[by_round], np.cumsum(np.bincount(nth))[:-1])
