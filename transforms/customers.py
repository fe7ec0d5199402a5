"""The ``customers`` view: one row per customer and contract, with the site that the contract is for."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.views import CUSTOMERS

#: Arrow schema of the view.
CUSTOMERS_VIEW_SCHEMA = pa.schema(
    [pa.field(field.name, field.type, nullable=not field.required) for field in CUSTOMERS.values()]
)

#: What the view takes from a contract; null for a customer without one.
CONTRACT_FIELDS = (
    "metering_point_id",
    "site_id",
    "site_address",
    "contract_id",
    "tariff",
    "valid_from",
    "valid_to",
    *(OF_SITE := ("building_type", "heating", "fuse_a")),
)

#: Schema of contracts with their site, ``place_contracts``.
PLACED_SCHEMA = pa.schema([CUSTOMERS_VIEW_SCHEMA.field(name) for name in ("customer_id", *CONTRACT_FIELDS)])


def join_address(street: pa.Array, postal_code: pa.Array, city: pa.Array) -> pa.Array:
    """Write addresses in one line, ``Katu 1 A 2, 00100 Helsinki``, leaving out what is null; all null gives null."""

    def join(left: pa.Array, right: pa.Array, separator: str) -> pa.Array:
        both = pc.binary_join_element_wise(left, right, separator)
        return pc.coalesce(both, left, right)

    return join(street, join(postal_code, city, " "), ", ")


def place_contracts(contracts: pa.Table, points: pa.Table) -> pa.Table:
    """Give contracts the site and address of their metering point; null where ``points`` lacks it.

    Args:
        contracts: rows of ``schemas.reference.CONTRACTS_SCHEMA``.
        points: rows of ``schemas.reference.SITES_SCHEMA``, one per metering point.

    Returns:
        Rows of ``PLACED_SCHEMA``, in the order of ``contracts``.
    """
    place = pc.index_in(contracts["metering_point_id"], points["metering_point_id"])
    sites = points.select(["site_id", "street_address", "postal_code", "city", *OF_SITE]).take(place)
    address = join_address(sites["street_address"], sites["postal_code"], sites["city"])
    placed = contracts.append_column("site_address", address)
    for name in ("site_id", *OF_SITE):
        placed = placed.append_column(name, sites[name])
    return placed.select(PLACED_SCHEMA.names).cast(PLACED_SCHEMA)


def take_customers(rows: pa.Table) -> pa.Table:
    """Take one row of each customer from rows of the view, which are sorted by customer."""
    return rows.take(pa.array(np.flatnonzero(_begins(rows))))


def number_customers(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Tell for each row of the view, sorted by customer, whose it is: their place in ``take_customers``."""
    return np.cumsum(_begins(rows)) - 1


def _begins(rows: pa.Table) -> npt.NDArray[np.bool_]:
    ids = rows["customer_id"].combine_chunks()
    if len(ids) == 0:
        return np.zeros(0, bool)
    return np.append(True, pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False))


def join_customers(customers: pa.Table, placed: pa.Table) -> pa.Table:
    """Join customers with their contracts; a customer without any appears once, a contract of nobody not at all.

    Args:
        customers: rows of ``schemas.reference.RESOLVED_SCHEMA``, one per customer.
        placed: rows of ``PLACED_SCHEMA``.

    Returns:
        Rows of ``CUSTOMERS_VIEW_SCHEMA``, customers in their order, each one's contracts in theirs.
    """
    owners = pc.index_in(placed["customer_id"], customers["customer_id"]).combine_chunks()
    contract_rows = np.flatnonzero(owners.is_valid().to_numpy(zero_copy_only=False))
    owner = owners.drop_null().to_numpy()
    without = np.flatnonzero(np.bincount(owner, minlength=customers.num_rows) == 0)
    owner = np.concatenate([owner, without])
    contract_rows = np.concatenate([contract_rows, np.full(len(without), -1)])

    order = np.argsort(owner, kind="stable")
    who = customers.take(owner[order])
    what = placed.take(pa.array(contract_rows[order], mask=contract_rows[order] < 0))

    address = join_address(who["street_address"], who["postal_code"], who["city"])
    columns = {name: who[name] for name in CUSTOMERS if name in who.column_names}
    columns |= {"postal_address": address} | {name: what[name] for name in CONTRACT_FIELDS}
    return pa.table([columns[name] for name in CUSTOMERS], schema=CUSTOMERS_VIEW_SCHEMA)
