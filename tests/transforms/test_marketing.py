"""Whom direct marketing may reach, and what accounts come to: against an oracle that visits row by row."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.registers import REGISTERS
from transforms.accounts import sum_accounts
from transforms.customers import CUSTOMERS_VIEW_SCHEMA
from transforms.load_features import KEYS, empty_load, list_used, take_load
from transforms.marketing import select_marketable
from transforms.plan import Condition, TargetGroup
from transforms.target_groups import assign_groups

T0 = datetime(2026, 3, 1, tzinfo=UTC)
IDS = ["C-1", "C-2", "C-3"]
GROUPS = {
    "solar": TargetGroup({}, (Condition("interest", "is", "solar"), Condition("fuse_a", "at_least", 35))),
    "prompt": TargetGroup({}, (Condition("reminders", "below", 1),)),
}


def customer_rows(rows) -> pa.Table:
    made = [{"kind": "person", "information_restriction": False, "fuse_a": 25} | row for row in rows]
    return pa.Table.from_pylist(made, schema=CUSTOMERS_VIEW_SCHEMA)


def facts(**rows) -> dict[str, pa.Table]:
    made = {}
    for name in ("consent", "marketing_ban", "campaign", "payment", "credit_register"):
        schema = REGISTERS[name].kept
        filled = [{"source": "s", "received_at": T0} | row for row in rows.get(name, ())]
        made[name] = pa.Table.from_pylist(filled, schema=schema)
    return made


def word(customer, action, day, purpose="direct_marketing", channel="any"):
    return {
        "customer_id": customer, "purpose": purpose, "channel": channel, "action": action,
        "occurred_at": T0 + timedelta(days=day),
    }  # fmt: skip


def select(rows, *, bans_current=True, groups=GROUPS, **said) -> dict[str, dict]:
    load = empty_load(list_used(groups))
    view = select_marketable(customer_rows(rows), facts(**said), groups, load, bans_current=bans_current)
    return {row["customer_id"]: row for row in view.to_pylist()}


words = st.builds(
    word,
    st.sampled_from(IDS),
    st.sampled_from(["given", "withdrawn", "objected"]),
    st.integers(0, 3),
    st.sampled_from(["direct_marketing", "profiling", "billing"]),
    st.sampled_from(["any", "post", "telephone"]),
)
people = st.fixed_dictionaries(
    {},
    optional={
        "information_restriction": st.booleans(),
        "deceased_on": st.sampled_from([None, date(2026, 1, 1)]),
        "phone": st.sampled_from([None, "+358 1"]),
    },
)


@given(
    who=st.lists(people, min_size=3, max_size=3),
    said=st.lists(words, max_size=8),
    banned=st.sets(st.sampled_from(IDS)),
    current=st.booleans(),
)
def test_nobody_is_reached_who_must_not_be(who, said, banned, current):
    rows = [{"customer_id": name, "name": f"Name {name}"} | one for name, one in zip(IDS, who, strict=True)]
    bans = [{"customer_id": name, "channel": "post", "list_version": date(2026, 2, 1)} for name in sorted(banned)]
    found = select(rows, consent=said, marketing_ban=bans, bans_current=current)

    latest = defaultdict(list)
    for one in said:
        if one["purpose"] in ("direct_marketing", "profiling"):
            latest[one["customer_id"], one["purpose"], one["channel"]].append(
                (one["occurred_at"], one["action"] != "given")
            )
    objecting = {key[0] for key, history in latest.items() if max(history)[1]}
    for row in rows:
        name = row["customer_id"]
        out = name in objecting or name in banned or row.get("information_restriction") or row.get("deceased_on")
        assert found[name]["marketable"] == (current and not out)
        if found[name]["marketable"]:
            assert found[name]["name"] == row["name"]
            assert found[name]["phone"] == row.get("phone")
        else:
            assert not any(found[name][field] for field in found[name] if field not in ("customer_id", "marketable"))


def test_the_first_group_that_fits_with_its_rule_as_the_reason():
    rows = [
        {"customer_id": "C-1", "contract_id": "K-1", "fuse_a": 25},
        {"customer_id": "C-1", "contract_id": "K-2", "fuse_a": 63},
        {"customer_id": "C-2", "fuse_a": 25},
        {"customer_id": "C-3"},
    ]
    shown = {"kind": "raffle", "campaign": "spring", "agreed_purpose": "direct_marketing"}
    campaign = [{"customer_id": name, "interest": word, **shown} for name in IDS for word in ("solar", "cars")]
    reminder = {"kind": "reminder", "invoice_id": "L", "occurred_on": date(2026, 2, 1), "amount_cents": 1}
    found = select(rows, campaign=campaign, payment=[{"customer_id": "C-3", **reminder}])
    assert [found[name]["target_group"] for name in IDS] == ["solar", "prompt", None]
    assert found["C-1"]["reason"] == "interest is solar; fuse_a at least 35"
    assert found["C-3"]["reason"] is None
    assert found["C-1"]["interests"] == "cars, solar"


def test_of_who_is_out_no_load_is_looked_at():
    rows = [{"customer_id": name, "contract_id": "K", "metering_point_id": "P"} for name in IDS]
    load = pa.table({**{key: [row[key] for row in rows] for key in KEYS}, "night_share": [0.9, 0.9, 0.1]})
    night = {"night": TargetGroup({}, (Condition("night_share", "at_least", 0.5),))}
    said = facts(consent=[word("C-1", "objected", 1, purpose="profiling")])
    with patch("transforms.marketing.take_load", wraps=take_load) as looked:
        view = select_marketable(customer_rows(rows), said, night, load, bans_current=True)
        select_marketable(customer_rows(rows), said, night, load, bans_current=False)
    assert [one.args[0]["customer_id"].to_pylist() for one in looked.call_args_list] == [["C-2", "C-3"], []]
    assert view["target_group"].to_pylist() == [None, "night", None]


def test_an_interest_without_agreement_is_not_used():
    told = {"kind": "raffle", "campaign": "spring", "agreed_purpose": "the raffle alone", "interest": "solar"}
    found = select([{"customer_id": "C-1", "fuse_a": 63}], campaign=[{"customer_id": "C-1", **told}])
    assert found["C-1"]["interests"] is None
    assert found["C-1"]["target_group"] == "prompt"


def test_the_channel_that_was_agreed_to_last():
    said = [word("C-1", "given", 1, channel="post"), word("C-1", "given", 2, channel="email"), word("C-2", "given", 1)]
    found = select([{"customer_id": name} for name in IDS], consent=said)
    assert [found[name]["preferred_channel"] for name in IDS] == ["email", None, None]


@given(
    values=st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=8),
    test=st.sampled_from(["at_least", "below"]),
    value=st.integers(0, 4),
)
def test_a_condition_holds_for_what_is_known_alone(values, test, value):
    group = {"group": TargetGroup({}, (Condition("reminders", test, value),))}
    owner = np.arange(len(values))
    found, _ = assign_groups({"reminders": pa.array(values, pa.int32())}, owner, len(values), group)
    holds = {"at_least": lambda one: one >= value, "below": lambda one: one < value}[test]
    assert [one is not None for one in found.to_pylist()] == [one is not None and holds(one) for one in values]


def test_accounts_are_the_sums_of_payments_and_the_latest_entry():
    rows = [
        {"customer_id": "C-1", "contract_id": "K-1"},
        {"customer_id": "C-1", "contract_id": "K-2"},
        {"customer_id": "C-2"},
    ]
    paid = [
        {
            "customer_id": "C-1",
            "kind": kind,
            "invoice_id": f"L{day}",
            "occurred_on": date(2026, 1, day),
            "amount_cents": cents,
        }
        for kind, day, cents in (("invoice", 1, 500), ("invoice", 9, 700), ("payment", 5, 500), ("reminder", 20, 700))
    ]
    entries = [
        {"customer_id": "C-1", "defaults": defaults, "latest_default_on": None, "received_at": T0 + timedelta(days=day)}
        for defaults, day in ((3, 1), (1, 2))
    ]
    said = facts(payment=paid, credit_register=entries)
    first, second = sum_accounts(customer_rows(rows), said["payment"], said["credit_register"]).to_pylist()
    assert (first["invoices"], first["invoiced_cents"], first["payments"], first["paid_cents"]) == (2, 1200, 1, 500)
    assert (first["open_cents"], first["reminders"], first["latest_reminder_on"]) == (700, 1, date(2026, 1, 20))
    assert (first["payment_defaults"], first["credit_received_at"]) == (1, T0 + timedelta(days=2))
    assert (second["invoices"], second["open_cents"], second["payment_defaults"]) == (0, 0, None)


@pytest.mark.parametrize("count", [0, 1])
def test_nobody_and_one(count):
    rows = [{"customer_id": "C-1"}][:count]
    assert len(select(rows)) == count
    none = facts()
    assert sum_accounts(customer_rows(rows), none["payment"], none["credit_register"]).num_rows == count
