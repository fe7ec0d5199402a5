"""Folding: the frames of a cell and its current rows become day grids, merged by both rules."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.flags import MERGE_FLAGS
from schemas.status import STATUS_WORDS, Status
from transforms.calendar import US_PER_S, LocalCalendar
from transforms.decimals import as_int64_units
from transforms.grid import ABSENT, NEVER, DayGrid, Superseded
from transforms.pieces import as_int64, list_lengths
from transforms.settle import settle

Ints = npt.NDArray[np.int64]
Indices = npt.NDArray[np.intp]
#: Greater than any resolution in seconds, to join a resolution and a product's code to one key.
_RESOLUTIONS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class CellGrids:
    """The readings of one cell.

    Attributes:
        local_date: days since 1970-01-01.
        ids: sorted distinct metering points (string): the rows of every grid.
        grids: (product, resolution in seconds) to the grid.
        places: where each grid begins in the flat arrays.
        times: sorted distinct int64 µs, registration time by rank.
        energy, status, registered: flat; the grids, one after the other, are views of them.
    """

    local_date: int
    ids: pa.Array
    grids: dict[tuple[str, int], DayGrid]
    places: dict[tuple[str, int], int]
    times: Ints
    energy: Ints
    status: npt.NDArray[np.int8]
    registered: npt.NDArray[np.int32]

    @classmethod
    def empty(
        cls,
        local_date: int,
        ids: pa.Array,
        points: Mapping[tuple[str, int], Ints],
        times: Ints,
        calendar: LocalCalendar,
    ) -> "CellGrids":
        """Make an empty grid for every product and resolution; ``points`` has the rows of each, ascending."""
        slots = {key: calendar.slots_of(local_date, key[1]) for key in points}
        ends = np.cumsum([len(points[key]) * slots[key] for key in points], dtype=np.int64).tolist()
        places = dict(zip(points, [0, *ends], strict=False))
        count = ends[-1] if ends else 0
        flat = np.zeros(count, np.int64), np.full(count, ABSENT), np.zeros(count, np.int32)

        def view(key: tuple[str, int]) -> DayGrid:
            shape = (len(points[key]), slots[key])
            stretch = slice(places[key], places[key] + shape[0] * shape[1])
            energy, status, registered = (array[stretch].reshape(shape) for array in flat)
            return DayGrid(points[key], energy, status, registered)

        return cls(local_date, ids, {key: view(key) for key in points}, places, times, *flat)


@dataclass(slots=True, eq=False)
class FoldTally:
    """Readings and milliwatt-hours on both sides of a fold."""

    incoming: int = 0
    incoming_energy: int = 0
    before: int = 0
    before_energy: int = 0
    superseded: Superseded = field(default_factory=Superseded)


def fold(
    frames: Sequence[pa.RecordBatch], base: pa.Table | None, local_date: int, calendar: LocalCalendar
) -> tuple[CellGrids, FoldTally]:
    """Fold what arrived for a cell into what it holds.

    Args:
        frames: frames of the cell, as ``pieces.split_by_cell`` makes them, in any order.
        base: the cell's current rows of ``operational.readings``, or None.
        local_date: the cell's local date, days since 1970-01-01.
        calendar: local days of the lake.
    """
    id_columns = [frame.column("metering_point_id") for frame in frames]
    time_columns = [pc.unique(frame.column("registered_at")) for frame in frames]
    if base is not None:
        id_columns.append(_encoded(base.column("metering_point_id")).dictionary)
        time_columns.append(pc.unique(_combined(base.column("registered_at"))))
    ids, positions = _number_ids(id_columns)
    times = np.unique(np.concatenate([as_int64(column) for column in time_columns]))
    day_start = int(calendar.start_of(np.array([local_date]))[0])
    current = None if base is None else _read_base(base, positions[-1], times, day_start)
    arrived = [_read_frame(frame, point, times) for frame, point in zip(frames, positions, strict=False)]
    cell = _allocate([*arrived, *([] if current is None else [current])], ids, times, local_date, calendar)
    grids, tally = cell.grids, FoldTally()
    touched = {key: np.zeros(len(grid.points), dtype=bool) for key, grid in grids.items()}
    if current is not None:
        tally.before, tally.before_energy = len(current.energy), int(current.energy.sum())
        for key, which in current.groups:
            row = np.searchsorted(grids[key].points, current.point[which])
            _place_base(grids[key], row, which, current, key[1])
            touched[key][row] = True
    for frame in arrived:
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
class _Base:
    """The cell's current rows, one element per row."""

    groups: list[tuple[tuple[str, int], Indices]]
    point: Ints
    since: Ints  # µs from the start of the local day
    energy: Ints
    status: npt.NDArray[np.int8]
    registered: npt.NDArray[np.int32]
    flags: npt.NDArray[np.int32]
    carried: dict[str, Ints]


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """A frame: one element per piece, but flat energy and status."""

    groups: list[tuple[tuple[str, int], Indices]]
    point: Ints
    slot: Ints
    offset: Ints
    count: Ints
    registered: npt.NDArray[np.int32]
    energy: npt.NDArray[np.int64] | npt.NDArray[np.int32]
    status: npt.NDArray[np.int8]


def _allocate(
    arrivals: Sequence[_Base | _Frame], ids: pa.Array, times: Ints, local_date: int, calendar: LocalCalendar
) -> CellGrids:
    """Make an empty grid for every product and resolution, with a row for each point that has it."""
    used: dict[tuple[str, int], npt.NDArray[np.bool_]] = {}
    for arrival in arrivals:
        for key, which in arrival.groups:
            used.setdefault(key, np.zeros(len(ids), dtype=bool))[arrival.point[which]] = True
    points = {key: np.flatnonzero(mask) for key, mask in sorted(used.items())}
    return CellGrids.empty(local_date, ids, points, times, calendar)


def _groups(batch: pa.RecordBatch | pa.Table) -> list[tuple[tuple[str, int], Indices]]:
    """Group the rows of a batch by product and resolution."""
    product = _encoded(batch.column("product"))
    resolution = _combined(batch.column("resolution_s")).to_numpy().astype(np.int64)
    key = product.indices.to_numpy().astype(np.int64) * _RESOLUTIONS + resolution
    distinct = np.unique(key)
    return [
        (
            (product.dictionary[int(value // _RESOLUTIONS)].as_py(), int(value % _RESOLUTIONS)),
            np.arange(len(key)) if len(distinct) == 1 else np.flatnonzero(key == value),
        )
        for value in distinct
    ]


def _combined(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return (column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column).combine_chunks()


def _encoded(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    column = _combined(column)
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def _number_ids(columns: Sequence[pa.Array]) -> tuple[pa.Array, list[Ints]]:
    """Number the distinct ids of columns in their order; gives them sorted, and the numbers of each column's rows."""
    encoded = pa.concat_arrays(columns).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    ends = np.cumsum([len(column) for column in columns])
    return encoded.dictionary.take(order), np.split(rank[encoded.indices.to_numpy()], ends[:-1])


def _read_base(base: pa.Table, positions: Ints, times: Ints, day_start: int) -> _Base:
    """Read the current rows of a cell: their keys are distinct, and they have been merged already.

    Args:
        base: the rows.
        positions: number of each id of the (unified) dictionary of metering points.
        times: sorted distinct registration times.
        day_start: µs.
    """
    never = pa.scalar(NEVER, pa.int64())
    return _Base(
        groups=_groups(base),
        point=positions[_encoded(base.column("metering_point_id")).indices.to_numpy()],
        since=as_int64(_combined(base.column("start"))) - day_start,
        energy=as_int64_units(_combined(base.column("energy"))),
        status=status_codes(_encoded(base.column("status"))),
        registered=_ranks(_combined(base.column("registered_at")), times),
        flags=_combined(base.column("flags")).to_numpy() & np.int32(MERGE_FLAGS),
        carried={
            name: _combined(base.column(column)).view(pa.int64()).fill_null(never).to_numpy()
            for name, column in (("rival", "rival_registered_at"), ("daily_rival", "daily_rival_registered_at"))
            if base.column(column).null_count < len(base)
        },
    )


def _read_frame(frame: pa.RecordBatch, point: Ints, times: Ints) -> _Frame:
    lists = frame.column("energy")
    offset = lists.offsets.to_numpy().astype(np.int64)
    energy = lists.flatten().to_numpy()
    has_status = "status" in frame.schema.names
    return _Frame(
        groups=_groups(frame),
        point=point,
        slot=frame.column("slot").to_numpy().astype(np.int64),
        offset=offset[:-1] - offset[0],
        count=list_lengths(lists),
        registered=_ranks(frame.column("registered_at"), times),
        energy=energy,
        status=frame.column("status").flatten().to_numpy() if has_status else np.full(len(energy), Status.OK, np.int8),
    )


def _ranks(registered_at: pa.Array, times: Ints) -> npt.NDArray[np.int32]:
    return np.searchsorted(times, as_int64(registered_at)).astype(np.int32)


def _place_base(grid: DayGrid, row: Ints, which: Indices, base: _Base, resolution_s: int) -> None:
    """Put the current rows into their slots."""
    # A daily value stands in slot 0, at the start of its day.
    at = row * grid.status.shape[1] + base.since[which] // (resolution_s * US_PER_S)
    grid.energy.ravel()[at] = base.energy[which]
    grid.status.ravel()[at] = base.status[which]
    grid.registered.ravel()[at] = base.registered[which]
    if base.flags[which].any():
        grid.flags = np.zeros(grid.energy.shape, np.int32)
        grid.flags.ravel()[at] = base.flags[which]
    for name, value in base.carried.items():
        array = np.full(grid.energy.shape, NEVER)
        array.ravel()[at] = value[which]
        setattr(grid, name, array)


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
    slots = grid.status.shape[1]
    offset, count, registered = frame.offset[piece], frame.count[piece], frame.registered[piece]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    source = np.repeat(offset, count) + within
    at = np.repeat(row * slots + frame.slot[piece], count) + within
    energy, status = frame.energy[source].astype(np.int64, copy=False), frame.status[source]
    if superseded is None:
        grid.energy.ravel()[at] = energy
        grid.status.ravel()[at] = status
        grid.registered.ravel()[at] = np.repeat(registered, count)
    else:
        grid.merge(at, energy, status, np.repeat(registered, count), superseded)


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


def status_codes(words: pa.Array) -> npt.NDArray[np.int8]:
    """Turn status words (a dictionary of strings) into their codes."""
    code = np.array([STATUS_WORDS.index(word) for word in words.dictionary.to_pylist()], dtype=np.int8)
    codes: npt.NDArray[np.int8] = code[words.indices.to_numpy()]
    return codes
