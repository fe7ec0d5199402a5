"""The ``marketing`` view: whom direct marketing may reach, how, and why just them. Fail closed.

Out is who has objected, is banned by any channel, is under an information restriction or deceased; and everybody, while
the register of bans is not current. Who is out has no contact data and no profile in the view at all, so that no
dataset can show them, whatever it filters; of their load nothing is looked at.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.features import MARKETING_PURPOSES
from schemas.views import MARKETING
from transforms.customers import number_customers, take_customers
from transforms.load_features import list_used, take_load
from transforms.plan import TargetGroup
from transforms.target_groups import assign_groups

Mask = npt.NDArray[np.bool_]

MARKETING_VIEW_SCHEMA = pa.schema(
    [pa.field(field.name, field.type, nullable=not field.required) for field in MARKETING.values()]
)
#: The features that stand in the rows of the ``customers`` view.
_OF_CONTRACTS = ("heating", "building_type", "fuse_a", "tariff")
#: What stands in the view of who is out as well: whose row it is, and that they are out.
_ALWAYS = ("customer_id", "marketable")


def select_marketable(
    customers: pa.Table,
    facts: Mapping[str, pa.Table],
    groups: Mapping[str, TargetGroup],
    load: pa.Table,
    *,
    bans_current: bool,
) -> pa.Table:
    """Make the view.

    Args:
        customers: rows of ``transforms.customers.CUSTOMERS_VIEW_SCHEMA``, sorted by customer.
        facts: of the registers ``consent``, ``marketing_ban``, ``campaign`` and ``payment`` about them.
        groups: target groups of the policy, in order.
        load: load features that these go by, of any customers (``transforms.load_features``).
        bans_current: whether the register of bans is current, for every channel.

    Returns:
        Rows of ``MARKETING_VIEW_SCHEMA``, a customer each, in order.
    """
    who, owner = take_customers(customers), number_customers(customers)
    ids = who["customer_id"].combine_chunks()
    out = _is_in(ids, _find_objecting(facts["consent"])) | _is_in(ids, facts["marketing_ban"]["customer_id"])
    out |= who["information_restriction"].to_numpy() | who["deceased_on"].is_valid().to_numpy()
    marketable = ~out if bans_current else np.zeros(len(ids), bool)
    interests, channel = _collect_interests(ids, facts["campaign"]), _prefer_channel(ids, facts["consent"])
    features = {name: customers[name].combine_chunks() for name in _OF_CONTRACTS}
    rows = pa.array(owner)
    of_customer = {
        "interest": interests,
        "preferred_channel": channel,
        "reminders": _count_reminders(ids, facts["payment"]),
    }
    features |= {name: values.take(rows) for name, values in of_customer.items()}
    reached = load.filter(pc.is_in(load["customer_id"], ids.filter(pa.array(marketable))))
    features |= take_load(reached, customers, list_used(groups))
    group, reason = assign_groups(features, owner, len(ids), groups)
    columns = {name: who[name] for name in MARKETING if name in who.column_names}
    columns |= {
        "interests": pc.if_else(pc.greater(pc.list_value_length(interests), 0), pc.binary_join(interests, ", "), None),
        "preferred_channel": channel,
        "target_group": group,
        "reason": reason,
    }
    kept = pa.array(marketable)
    shown = {name: values if name in _ALWAYS else pc.if_else(kept, values, None) for name, values in columns.items()}
    shown["marketable"] = kept
    return pa.table([shown[name] for name in MARKETING], schema=MARKETING_VIEW_SCHEMA)


def _find_objecting(consents: pa.Table) -> pa.ChunkedArray:
    """Find the customers whose latest word on marketing or profiling, in any channel, is not that they agree."""
    said = consents.filter(pc.is_in(consents["purpose"], pa.array(MARKETING_PURPOSES)))
    # Of two words at once the objection counts: it comes after "given".
    keys = ["customer_id", "purpose", "channel", "occurred_at", "action"]
    said = said.select(keys).sort_by([(key, "ascending") for key in keys]).combine_chunks()
    if len(said) == 0:
        return said["customer_id"]
    same = np.ones(len(said) - 1, bool)
    for key in keys[:3]:
        same &= pc.equal(said[key][1:], said[key][:-1]).to_numpy()
    latest = said.filter(pa.array(np.append(~same, True)))
    return latest.filter(pc.not_equal(latest["action"], "given"))["customer_id"]


def _collect_interests(ids: pa.Array, campaigns: pa.Table) -> pa.Array:
    """Collect what customers have shown interest in, where they agreed that it may be used so: lists, sorted."""
    agreed = pc.is_in(campaigns["agreed_purpose"], pa.array(MARKETING_PURPOSES))
    rows = campaigns.filter(pc.and_(agreed, campaigns["interest"].is_valid()))
    place = pc.index_in(rows["customer_id"], ids).combine_chunks()
    pairs = pa.table({"place": place, "interest": rows["interest"]}).filter(place.is_valid())
    pairs = (
        pairs.group_by(["place", "interest"]).aggregate([]).sort_by([("place", "ascending"), ("interest", "ascending")])
    )
    counts = np.bincount(pairs["place"].to_numpy(), minlength=len(ids))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pairs["interest"].combine_chunks())


def _prefer_channel(ids: pa.Array, consents: pa.Table) -> pa.Array:
    """Give the channel that a customer agreed to last; null where none is named."""
    named = pc.and_(pc.equal(consents["action"], "given"), pc.not_equal(consents["channel"], "any"))
    keys = ["customer_id", "occurred_at", "channel"]
    rows = consents.filter(named).select(keys).sort_by([(key, "ascending") for key in keys]).combine_chunks()
    if len(rows) == 0:
        return pa.nulls(len(ids), pa.string())
    last = np.append(pc.not_equal(rows["customer_id"][1:], rows["customer_id"][:-1]).to_numpy(), True)
    latest = rows.filter(pa.array(last)).combine_chunks()
    place = pc.index_in(ids, latest["customer_id"].combine_chunks())
    return latest["channel"].combine_chunks().take(place)


def _count_reminders(ids: pa.Array, payments: pa.Table) -> pa.Array:
    reminded = payments.filter(pc.equal(payments["kind"], "reminder"))["customer_id"]
    counts = pc.value_counts(reminded.combine_chunks())
    place = pc.index_in(ids, counts.field("values"))
    return pc.fill_null(counts.field("counts").take(place), 0).cast(pa.int32())


def _is_in(ids: pa.Array, some: pa.ChunkedArray) -> Mask:
    found: Mask = pc.is_in(ids, some.combine_chunks()).to_numpy(zero_copy_only=False)
    return found
