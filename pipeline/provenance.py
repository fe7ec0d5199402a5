"""Why a customer's attributes are what they are: who said what and when, and what became of it."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.access import User, authorise
from pipeline.audit import AuditEntry, record_event
from pipeline.context import newest_reference
from pipeline.errors import MeterveilError
from pipeline.lake import Lake
from schemas.registers import ATTRIBUTES, CUSTOMERS_FEED
from transforms.buckets import bucket_of
from transforms.plan import Dataset, Keep, Plan
from transforms.series import canonical_ids

_COLUMNS = ("attribute", "outcome", "value", "feed", "source", "received_at")


def explain_customer(
    lake: Lake, plan: Plan, role: str, purpose: str, customer_id: str, user: User
) -> list[dict[str, Any]]:
    """List what was said of a customer, by attribute, winners first; leaves a line in the audit log, without the id.

    A role sees of a customer what its datasets of the view ``customers`` keep for the purpose, and only customers who
    are in these.

    Args:
        lake: the lake; its operational zone must be in reach.
        plan: the policy that grants.
        role: the role that the user acts in.
        purpose: what it is for.
        customer_id: the customer.
        user: who asks.

    Raises:
        MeterveilError: refused, or no such customer for this role: which of the two is not told.
    """
    outcome = "refused"
    rows: list[dict[str, Any]] = []
    names: tuple[str, ...] = ()
    try:
        granted = authorise(plan, user, role, purpose)
        seen = [dataset for dataset in granted.values() if _shows_customers(dataset)]
        names = tuple(dataset.name for dataset in seen)
        outcome = "failed"
        rows = _explain(lake, seen, customer_id)
        outcome = "done"
    finally:
        at = datetime.now(UTC)
        details: dict[str, str | int] = {"rows": len(rows)}
        record_event(lake, AuditEntry(at, user.name, "explain-customer", outcome, role, purpose, names, details))
    return rows


def _shows_customers(dataset: Dataset) -> bool:
    return dataset.view == "customers" and "customer_id" in _list_kept(dataset)


def _list_kept(dataset: Dataset) -> set[str]:
    return {column.source for column in dataset.columns if isinstance(column.rule, Keep)}


def _explain(lake: Lake, datasets: list[Dataset], customer_id: str) -> list[dict[str, Any]]:
    snapshot = newest_reference(lake)
    ids = canonical_ids(pa.array([customer_id])).dictionary_decode()
    bucket = int(bucket_of(ids, snapshot.bucket_count or 1)[0])
    view = snapshot.customers(bucket)
    view = view.filter(pc.equal(view["customer_id"], ids[0])).slice(0, 1)
    (row,) = view.to_pylist() or [{}]
    visible: set[str] = set()
    for dataset in datasets:
        if row and all(row[name] == value for name, value in dataset.where.items()):
            visible |= _list_kept(dataset)
    if not visible:
        raise MeterveilError(
            "this role sees no such customer", where="explain-customer", remedy="check the id, the role and the purpose"
        )
    said = snapshot.provenance(bucket)
    said = said.filter(pc.equal(said["customer_id"], ids[0]))
    rows: list[dict[str, Any]] = []
    for attribute in ATTRIBUTES:
        if attribute in visible:
            of_attribute = said.filter(pc.equal(said["attribute"], attribute)).select(_COLUMNS).to_pylist()
            rows += of_attribute or _tell_own(attribute, row)
    return rows


def _tell_own(attribute: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Say an attribute of which nobody speaks but the customers' own feed, if it does."""
    value = row[attribute]
    if value is None:
        return []
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return [dict(zip(_COLUMNS, (attribute, "won", text, CUSTOMERS_FEED, CUSTOMERS_FEED, None), strict=True))]
