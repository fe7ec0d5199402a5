"""The occupancy join: which site a metering point belongs to, and who held the contract there on a local day."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]

#: What a point that the reference does not know is taken for.
_DEFAULT_DIRECTION = "consumption"
#: The contract that counts, of several that cover a day, is the last in this order, whatever that of the rows is.
_PRECEDENCE = [("signed_at", "ascending"), ("contract_id", "ascending"), ("customer_id", "ascending")]


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What the reference says about metering points on one local day: arrays aligned with the ids that were asked for.

    Attributes:
        known: bool; whether the reference has the metering point.
        withheld: bool; whether nothing may tell where it is.
        overlapping: bool; whether more than one contract covers the day.
        site_id: string, no nulls; the metering point's own id where it is unknown.
        direction: dictionary of string, no nulls; ``consumption`` where the point is unknown.
        customer_id: string; null without a contract.
        contract_id: string; null without a contract.
        tariff: string; null without a contract, or where the contract names none.
        postal_code: string, nullable, like the other attributes of the site.
        municipality: string.
        building_type: string.
        heating: string.
        fuse_a: int32, ampere per phase.
        grid_area: string.
    """

    known: Mask
    withheld: Mask
    overlapping: Mask
    site_id: pa.Array
    direction: pa.Array
    customer_id: pa.Array
    contract_id: pa.Array
    tariff: pa.Array
    postal_code: pa.Array
    municipality: pa.Array
    building_type: pa.Array
    heating: pa.Array
    fuse_a: pa.Array
    grid_area: pa.Array


def join_occupancy(ids: pa.Array, local_date: int, points: pa.Table, occupancies: pa.Table) -> Occupancy:
    """Look up metering points and the contracts that cover them on a local day.

    A contract covers the days ``valid_from <= day < valid_to`` (null: open). Of several the later signed one counts, at
    the same time the greater ``contract_id``, then the greater ``customer_id``. A contract counts also at a point that
    ``points`` lacks.

    Args:
        ids: distinct metering point ids, strings.
        local_date: the day, in days since 1970-01-01.
        points: rows of ``schemas.reference.POINTS_SCHEMA``, one per metering point.
        occupancies: rows of ``schemas.reference.CONTRACTS_SCHEMA``.
    """
    place = _invert(pc.index_in(points["metering_point_id"].combine_chunks(), ids), len(ids))
    holder, overlapping = _choose(ids, local_date, occupancies)

    def of_point(name: str) -> pa.Array:
        return points[name].combine_chunks().take(place)

    def of_contract(name: str) -> pa.Array:
        return occupancies[name].combine_chunks().take(holder)

    return Occupancy(
        known=place.is_valid().to_numpy(zero_copy_only=False),
        withheld=of_point("withheld").fill_null(False).to_numpy(zero_copy_only=False),
        overlapping=overlapping,
        site_id=pc.coalesce(of_point("site_id"), ids),
        direction=pc.fill_null(of_point("direction"), _DEFAULT_DIRECTION).dictionary_encode(),
        customer_id=of_contract("customer_id"),
        contract_id=of_contract("contract_id"),
        tariff=of_contract("tariff"),
        postal_code=of_point("postal_code"),
        municipality=of_point("municipality"),
        building_type=of_point("building_type"),
        heating=of_point("heating"),
        fuse_a=of_point("fuse_a"),
        grid_area=of_point("grid_area"),
    )


def contracted_points(local_date: int, occupancies: pa.Table) -> pa.Array:
    """List the metering points that a contract covers on a local day.

    Args:
        local_date: the day, in days since 1970-01-01.
        occupancies: rows of ``schemas.reference.CONTRACTS_SCHEMA``, sorted by metering point.

    Returns:
        Distinct metering point ids, strings, sorted.
    """
    covering = _cover(local_date, occupancies)
    return occupancies["metering_point_id"].combine_chunks().filter(pa.array(covering)).unique()


def _cover(local_date: int, occupancies: pa.Table) -> Mask:
    """Tell which contracts cover a day."""
    day = pa.scalar(local_date, pa.int32()).cast(pa.date32())
    begun = pc.less_equal(occupancies["valid_from"], day)
    not_over = pc.fill_null(pc.greater(occupancies["valid_to"], day), True)
    covering: Mask = pc.and_(begun, not_over).to_numpy()
    return covering


def _choose(ids: pa.Array, local_date: int, contracts: pa.Table) -> tuple[pa.Array, Mask]:
    """Find the row of the contract that counts for each id (null: none), and the ids with more than one."""
    # The ids are what is looked up in: however many contracts there are, the table of a cell's ids is small.
    owners = pc.index_in(contracts["metering_point_id"].combine_chunks(), ids)
    rows = np.flatnonzero(_cover(local_date, contracts) & owners.is_valid().to_numpy(zero_copy_only=False))
    owner = owners.take(pa.array(rows)).to_numpy()
    overlapping = np.bincount(owner, minlength=len(ids)) > 1
    holder = np.full(len(ids), -1, np.int64)
    holder[owner] = rows
    # Few days are contested, so only those contracts are sorted; of an index that repeats numpy keeps the last value.
    contested = overlapping[owner]
    rows, owner = rows[contested], owner[contested]
    order = pc.sort_indices(contracts.take(rows), sort_keys=_PRECEDENCE).to_numpy()
    holder[owner[order]] = rows[order]
    return pa.array(holder, mask=holder < 0), overlapping


def _invert(owners: pa.Array, count: int) -> pa.Array:
    """Turn the id that each row has, or null, into the row that each id has, or null."""
    rows = np.flatnonzero(owners.is_valid().to_numpy(zero_copy_only=False))
    place = np.full(count, -1, np.int64)
    place[owners.take(pa.array(rows)).to_numpy()] = rows
    return pa.array(place, mask=place < 0)
