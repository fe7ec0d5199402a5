"""The ``accounts`` view: one row per customer, how they pay, and what the credit register says."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.views import ACCOUNTS
from transforms.customers import take_customers

ACCOUNTS_VIEW_SCHEMA = pa.schema(
    [pa.field(field.name, field.type, nullable=not field.required) for field in ACCOUNTS.values()]
)


def sum_accounts(customers: pa.Table, payments: pa.Table, credit: pa.Table) -> pa.Table:
    """Sum up the payments of customers, and take the latest entry of the credit register.

    Args:
        customers: rows of ``transforms.customers.CUSTOMERS_VIEW_SCHEMA``, sorted by customer.
        payments: facts of the register ``payment`` about them.
        credit: facts of ``credit_register`` about them.

    Returns:
        Rows of ``ACCOUNTS_VIEW_SCHEMA``, a customer each, in order. Who never got an invoice has zeros; of whom the
        register says nothing has nulls.
    """
    who = take_customers(customers)
    ids = who["customer_id"].combine_chunks()
    columns = {name: who[name] for name in ACCOUNTS if name in who.column_names}
    cents = {}
    for kind, count, latest in (
        ("invoice", "invoices", "latest_invoice_on"),
        ("payment", "payments", "latest_payment_on"),
        ("reminder", "reminders", "latest_reminder_on"),
    ):
        of_kind = payments.filter(pc.equal(payments["kind"], kind))
        summed = of_kind.group_by("customer_id").aggregate(
            [("amount_cents", "sum"), ("amount_cents", "count"), ("occurred_on", "max")]
        )
        place = pc.index_in(ids, summed["customer_id"].combine_chunks())
        columns[count] = pc.fill_null(summed["amount_cents_count"].take(place), 0).cast(pa.int32())
        columns[latest] = summed["occurred_on_max"].take(place)
        cents[kind] = pc.fill_null(summed["amount_cents_sum"].take(place), 0)
    columns["invoiced_cents"], columns["paid_cents"] = cents["invoice"], cents["payment"]
    columns["open_cents"] = pc.subtract(cents["invoice"], cents["payment"])
    latest_entry = _take_latest(credit)
    place = pc.index_in(ids, latest_entry["customer_id"].combine_chunks())
    columns["payment_defaults"] = latest_entry["defaults"].take(place)
    columns["latest_default_on"] = latest_entry["latest_default_on"].take(place)
    columns["credit_received_at"] = latest_entry["received_at"].take(place)
    return pa.table([columns[name] for name in ACCOUNTS], schema=ACCOUNTS_VIEW_SCHEMA)


def _take_latest(credit: pa.Table) -> pa.Table:
    """Take each customer's entry that was received last; of two at once the one with more defaults."""
    rows = credit.sort_by([("customer_id", "ascending"), ("received_at", "ascending"), ("defaults", "ascending")])
    ids = rows["customer_id"].combine_chunks()
    if len(ids) < 1:
        return rows
    last = np.append(pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False), True)
    return rows.filter(pa.array(last))
