"""Load features of contracts: against an oracle that visits month by month."""

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.features import LOAD_FEATURES
from schemas.series import ACTIVE_ENERGY
from schemas.views import MONTHS
from transforms.calendar import to_day
from transforms.load_features import KEYS, choose_months, list_sources, sign_solar, take_load, tell_load

ALL = frozenset(LOAD_FEATURES)
FIRSTS = [date(2025 + (month + 6) // 12, (month + 6) % 12 + 1, 1) for month in range(14)]  # 2025-07 to 2026-08
HALF = {31: 22_320, 30: 21_600, 28: 20_160}
PLAIN = [name for name, kind in LOAD_FEATURES.items() if kind is float and name != "winter_ratio"]


def days_in(first: date) -> int:
    return ((first.replace(day=28) + (date(2026, 1, 5) - date(2026, 1, 1))).replace(day=1) - first).days


@st.composite
def months(draw) -> list[dict]:
    rows = []
    for point in ("P-1", "P-2", "P-3"):
        direction = draw(st.sampled_from(["consumption", "consumption", "production"]))
        for first in FIRSTS:
            for customer, contract in (("C-1", f"K-{point}"), ("C-2", f"L-{point}"), (None, None)):
                if not draw(st.integers(0, 2)):
                    continue
                rows.append({
                    "metering_point_id": point, "site_id": draw(st.sampled_from(["S-1", "S-2"])) if point == "P-3" else "S-1",
                    "product": draw(st.sampled_from([ACTIVE_ENERGY] * 4 + ["heat"])), "direction": direction, "month": first,
                    "customer_id": customer, "contract_id": contract,
                    "energy": Decimal(draw(st.integers(-1, 900))), "midday_ratio": draw(st.sampled_from([None, 0.3, 0.9])),
                    "present_minutes": draw(st.sampled_from([0, 1, -1, 20_000])) + HALF[days_in(first)],
                    **{name: draw(st.integers(0, 5)) for name in PLAIN if name != "midday_ratio"},
                })  # fmt: skip
    return rows


def tabulate(rows) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows], MONTHS[name].type) for name in list_sources(ALL)})


def tell_slowly(rows, newest) -> dict[tuple, dict]:
    told = {}
    rows = [row for row in rows if row["product"] == ACTIVE_ENERGY and row["customer_id"]]
    latest = [row for row in rows if row["month"] == newest]
    for row in latest:
        key = tuple(row[name] for name in KEYS)
        same = [one for one in rows if tuple(one[name] for name in KEYS) == key]
        known = row["direction"] == "consumption" and row["present_minutes"] >= HALF[days_in(newest)]
        found = {name: row[name] if known else None for name in PLAIN}
        seasons = [[one for one in same if one["month"].month in of] for of in ((12, 1, 2), (6, 7, 8))]
        energy, minutes = ([sum(one[name] for one in of) for of in seasons] for name in ("energy", "present_minutes"))
        enough = min(minutes) >= 45 * 1440 and energy[1] > 0
        found["winter_ratio"] = float(energy[0] / minutes[0] / (energy[1] / minutes[1])) if known and enough else None
        produces = any(
            one["direction"] == "production" and one["energy"] > 0
            for one in latest
            if (one["customer_id"], one["site_id"]) == (row["customer_id"], row["site_id"])
        )
        dips = known and 4 <= newest.month <= 9 and row["midday_ratio"] == 0.3
        found["solar_sign"] = "production" if produces else "midday_dip" if dips else None
        told[key] = found
    return told


@given(rows=months(), last=st.integers(0, 13))
@settings(deadline=None)
def test_features_are_those_of_the_newest_month_of_each_contract(rows, last):
    newest = FIRSTS[last]
    chosen = choose_months({to_day(one) for one in FIRSTS[: last + 1]}, ALL)
    assert chosen == [to_day(one) for one in FIRSTS[max(0, last - 11) : last + 1]]
    rows = [row for row in rows if to_day(row["month"]) in chosen]
    load = sign_solar(tell_load(tabulate(rows), chosen[-1], ALL), chosen[-1])
    wanted = tell_slowly(rows, newest)
    assert set(zip(*(load[name].to_pylist() for name in KEYS), strict=True)) == wanted.keys()
    asked = [*wanted, ("C-1", "K-P-1", "P-2"), ("C-9", None, None)]
    view = pa.table({name: pa.array([key[at] for key in asked], pa.string()) for at, name in enumerate(KEYS)})
    taken = take_load(load, view, ALL)
    for name in ALL:
        for key, value in zip(asked, taken[name].to_pylist(), strict=True):
            expected = wanted.get(key, {}).get(name)
            assert value == (pytest.approx(expected, abs=1e-4) if isinstance(expected, float) else expected), (
                name,
                key,
            )


def test_of_a_contract_whose_tariff_changed_the_longer_part_counts():
    row = {
        "metering_point_id": "P", "site_id": "S", "product": ACTIVE_ENERGY, "direction": "consumption", "month": FIRSTS[0],
        "customer_id": "C", "contract_id": "K", "energy": 1, "midday_ratio": None, **dict.fromkeys(PLAIN, 1),
    }  # fmt: skip
    parts = [
        row | {"present_minutes": 9_000, "night_share": 0.9},
        row | {"present_minutes": 30_000, "night_share": 0.1},
    ]
    for order in (parts, parts[::-1]):
        load = tell_load(tabulate(order), to_day(FIRSTS[0]), frozenset({"night_share"}))
        assert load["night_share"].to_pylist() == [0.1]


def test_one_month_is_enough_where_seasons_are_not_compared():
    months = {to_day(one) for one in FIRSTS}
    assert choose_months(months, ALL - {"winter_ratio"}) == [to_day(FIRSTS[-1])]
    assert choose_months(set(), ALL) == []
    assert pc.all(pa.array([name in LOAD_FEATURES for name in ALL])).as_py()
