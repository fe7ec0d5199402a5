"""Deriving datasets: from a merged cell and what the reference says of it to the columns that a policy grants."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.flags import Flag
from schemas.series import DISTRICT_HEAT
from schemas.views import VIEWS
from transforms.anonymity import Generalised, anonymise, withhold_place
from transforms.calendar import LocalCalendar
from transforms.checks import check_grid
from transforms.coarsen import sum_days
from transforms.columns import apply_rule
from transforms.decimals import as_decimal
from transforms.grid import CellGrids
from transforms.identifiers import check_points
from transforms.occupancy import Occupancy
from transforms.plan import Column, Dataset, Keep, Pseudonymise, Round
from transforms.rows import Order, Rows, flatten_cell

Ints = npt.NDArray[np.int64]
#: Subkey of an entity in the domain and epoch at hand.
Subkeys = Callable[[str], bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The metering points of a cell on its local date: those with readings, and silent ones under contract.

    Attributes:
        ids: sorted distinct metering points.
        place: int64 [points of the grids], where each stands in ``ids``.
        occupancy: site and contract, aligned with ``ids``.
    """

    ids: pa.Array
    place: Ints
    occupancy: Occupancy

    def attribute(self, name: str) -> pa.Array:
        """Give a field of the views that holds for a point all day, aligned with ``ids``."""
        if name == "metering_point_id":
            return self.ids
        if name == "contracted":
            return self.occupancy.contract_id.is_valid()
        return getattr(self.occupancy, name)

    def shown(self, name: str) -> pa.Array:
        """Give an attribute as rows of single points may have it: without the places that are withheld."""
        return withhold_place(name, self.attribute(name), pa.array(self.occupancy.withheld))


_OF_POINT = {"metering_point_id", "contracted", *(field.name for field in fields(Occupancy))}


def view_readings(cell: CellGrids, points: Points, calendar: LocalCalendar, wanted: set[str]) -> Rows:
    """Make the view ``readings`` of a cell: every reading that counts, with flags, site and contract.

    Args:
        cell: merged grids.
        points: the cell's points on its date.
        calendar: local days of the lake.
        wanted: fields of the view that some dataset uses.
    """
    occupancy = points.occupancy
    fuse_a = occupancy.fuse_a.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
    point_flags = _flag_points(points)
    flags = {}
    for key, grid in cell.grids.items():
        at = points.place[grid.points]
        found = check_grid(grid, key[1], fuse_a[at], is_heat=key[0] == DISTRICT_HEAT)
        of_point = point_flags[at]
        if of_point.any():
            found = np.broadcast_to(of_point[:, None], grid.energy.shape) | (0 if found is None else found)
        flags[key] = found
    point, rows = flatten_cell(cell, flags, calendar)
    return rows.with_columns(_columns_of_points(points, points.place[point], cell.local_date, wanted))


def view_daily(cell: CellGrids, points: Points, calendar: LocalCalendar, wanted: set[str]) -> Rows:
    """Make the view ``daily`` of a cell: a row per point, product and day, and one per silent contracted point."""
    contracted = points.attribute("contracted").to_numpy(zero_copy_only=False)
    point, rows = sum_days(cell, points.place, contracted, calendar)
    view = VIEWS["daily"]
    decimals = {
        name: as_decimal(column, view[name].type)
        for name, column in rows.columns.items()
        if pa.types.is_decimal(view[name].type)
    }
    return rows.with_columns(decimals | _columns_of_points(points, point, cell.local_date, wanted))


def _flag_points(points: Points) -> npt.NDArray[np.int32]:
    """Flag what holds for all readings of a point on the day."""
    occupancy = points.occupancy
    contracted = points.attribute("contracted").to_numpy(zero_copy_only=False)
    flags = np.zeros(len(points.ids), np.int32)
    for flag, mask in (
        (Flag.CHECK_DIGIT, ~check_points(points.ids)),
        (Flag.UNKNOWN_POINT, ~occupancy.known),
        (Flag.NO_CONTRACT, occupancy.known & ~contracted),
        (Flag.OVERLAPPING_CONTRACTS, occupancy.overlapping),
    ):
        flags[mask] |= flag
    return flags


def _columns_of_points(points: Points, at: Ints, local_date: int, wanted: set[str]) -> dict[str, pa.Array]:
    take = pa.array(at)
    columns = {name: points.shown(name).take(take) for name in sorted(wanted & _OF_POINT)}
    return columns | {"local_date": pa.array(np.full(len(at), local_date, np.int32)).view(pa.date32())}


def derive(
    dataset: Dataset, rows: Rows, subkeys: Subkeys, generalised: Generalised | None = None
) -> Iterator[pa.Table]:
    """Make a dataset's columns from its view, a block of rows at a time; at least one block, be it empty.

    A dataset whose first column is a pseudonym is sorted by it, then by start: in the order of the view, two datasets
    could be joined by position. Every other dataset keeps the order of the view.

    Args:
        dataset: what the policy grants.
        rows: its view.
        subkeys: gives the subkey of an entity in the dataset's domain, in the epoch of the cell.
        generalised: what may be told of sites on the day, for a dataset with anonymity.
    """
    rows = _keep_where(rows, dataset.where)
    made = {
        column.name: _make_values(column, rows.columns[column.source], subkeys)
        for column in dataset.columns
        if column.source not in rows.flat
    }
    if dataset.anonymity:
        assert generalised is not None, "nobody has counted who shares what is told"
        made = anonymise(made, dataset.anonymity.columns, generalised)
    rows = Rows(made, rows.groups, rows.flat)
    if isinstance(dataset.columns[0].rule, Pseudonymise):
        rows = _sort_by(dataset.columns[0].name, rows)
    return (_make_block(dataset, block, subkeys) for block in rows.blocks())


def _make_block(dataset: Dataset, rows: Rows, subkeys: Subkeys) -> pa.Table:
    order = None if rows.groups is None else Order.of(rows.groups)
    columns = []
    for column in dataset.columns:
        if order is not None and column.source in rows.flat:
            values = _make_values(column, rows.flat[column.source](order), subkeys)
        else:
            values = rows.spread(rows.columns[column.name])
        columns.append(values)
    return pa.table(columns, names=[column.name for column in dataset.columns])


def _keep_where(rows: Rows, where: Mapping[str, str | bool]) -> Rows:
    """Keep the groups whose fields have the values that the dataset asks for."""
    for name, value in where.items():
        column = _plain(rows.columns[name])
        kept = pc.equal(column, value).fill_null(False).to_numpy(zero_copy_only=False)
        if not kept.all():
            rows = rows.select(np.flatnonzero(kept))
    return rows


def _make_values(column: Column, values: pa.Array, subkeys: Subkeys) -> pa.Array:
    """Make a column's value for each group or reading, by its rule on the distinct values."""
    match column.rule:
        case Keep():
            return values
        case Round():
            return _apply(column, values)  # numbers hardly repeat, and decimals have no dictionaries
        case Pseudonymise(entity):
            subkey = subkeys(entity)
        case _:
            subkey = b""
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    return _apply(column, encoded.dictionary, subkey).take(encoded.indices)


def _apply(column: Column, values: pa.Array, subkey: bytes = b"") -> pa.Array:
    """Apply a rule; dictionaries that are kept stay dictionaries, and UUIDs are bytes until the end."""
    if isinstance(column.rule, Keep):
        return values
    made = apply_rule(column, values, subkey)
    return made.storage if isinstance(made, pa.ExtensionArray) else made


def _sort_by(name: str, rows: Rows) -> Rows:
    """Sort groups by a column of 16 bytes, then by start.

    Where groups with one key overlap in time (a point with two products, or two resolutions in turn), their readings
    interleave: such groups are taken apart into single readings first.
    """
    key = rows.columns[name]
    halves = np.frombuffer(key.buffers()[1], ">u8")[2 * key.offset :].reshape(-1, 2).astype(np.uint64)
    if rows.groups is None:
        return rows.select(np.lexsort((halves[:, 1], halves[:, 0])))
    begin, end = rows.groups.begins, rows.groups.ends()
    order = np.lexsort((begin, halves[:, 1], halves[:, 0]))
    before, after = order[:-1], order[1:]
    overlap = (halves[before] == halves[after]).all(axis=1) & (end[before] > begin[after])
    if not overlap.any():
        return rows.select(order)
    _, number = np.unique(halves, axis=0, return_inverse=True)
    group, parts = rows.groups.take_apart(np.isin(number, number[before[overlap]]))
    single = replace(rows.select(group), groups=parts)
    return single.select(np.lexsort((parts.begins, halves[group, 1], halves[group, 0])))


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
