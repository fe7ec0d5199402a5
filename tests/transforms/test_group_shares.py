from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.group_shares import SHARES_SCHEMA, share_groups
from transforms.plan import Disclosure

RULE = Disclosure(minimum=5, dominance=0.25)
GROUPS = ["solar", "spot_price"]


def make_people(counts: dict[tuple[str, str], dict[str | None, int]]) -> pa.Table:
    """People of areas (municipality, postal code), so many of each group."""
    rows = [
        {"municipality": area[0], "postal_code": area[1], "target_group": group}
        for area, groups in counts.items()
        for group, count in groups.items()
        for _ in range(count)
    ]
    names = ("municipality", "postal_code", "target_group")
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in names]))


def find(shares: pa.Table, group: str = "solar") -> dict:
    return {
        (row["level"], row["municipality"], row["postal_code"]): row
        for row in shares.to_pylist()
        if row["target_group"] == group
    }


def test_shares_are_members_over_people_at_every_level():
    people = make_people(
        {
            ("Espoo", "02100"): {"solar": 10, "spot_price": 8, None: 22},
            ("Espoo", "02150"): {"solar": 20, "spot_price": 9, None: 21},
            ("Vantaa", "01300"): {"solar": 6, "spot_price": 7, None: 7},
        }
    )
    shares = share_groups(people, GROUPS, RULE)
    assert shares.schema == SHARES_SCHEMA
    assert shares["suppressed"].null_count == len(shares)
    found = {key: (row["members"], row["people"], row["share"]) for key, row in find(shares).items()}
    assert found == {
        ("all", None, None): (36, 110, 0.3273),
        ("municipality", "Espoo", None): (30, 90, 0.3333),
        ("municipality", "Vantaa", None): (6, 20, 0.3),
        ("postal_code", "Espoo", "02100"): (10, 40, 0.25),
        ("postal_code", "Espoo", "02150"): (20, 50, 0.4),
        ("postal_code", "Vantaa", "01300"): (6, 20, 0.3),
    }


@pytest.mark.parametrize("few", [{"solar": 2, None: 38}, {"solar": 38, None: 2}, {None: 40}, {"solar": 40}])
def test_few_members_are_hidden_and_few_others_and_what_they_could_be_subtracted_from(few):
    rest = {"solar": 12, None: 20}
    people = make_people({("Espoo", "02100"): few, ("Espoo", "02150"): rest, ("Espoo", "02200"): rest})
    found = find(share_groups(people, ["solar"], RULE))
    hidden = {key[2] for key, row in found.items() if row["level"] == "postal_code" and row["suppressed"]}
    assert "02100" in hidden
    assert len(hidden) > 1
    for row in found.values():
        told = (row["people"], row["members"], row["share"])
        assert (None in told) == (set(told) == {None}) == (row["suppressed"] is not None)


def work_out(shown: list[set[int]], wanted: int, areas: int) -> bool:
    """Tell whether an area's count follows from shown sums, by exact elimination."""
    rows = [[Fraction(int(area in one)) for area in range(areas)] for one in shown]
    target = [Fraction(int(area == wanted)) for area in range(areas)]

    def rank(matrix: list[list[Fraction]]) -> int:
        matrix, found = [list(row) for row in matrix], 0
        for column in range(areas):
            pivot = next((row for row in matrix[found:] if row[column]), None)
            if pivot is None:
                continue
            matrix.remove(pivot)
            matrix.insert(found, pivot)
            for row in matrix[found + 1 :]:
                factor = row[column] / pivot[column]
                row[:] = [one - factor * other for one, other in zip(row, pivot, strict=True)]
            found += 1
        return found

    return bool(shown) and rank(rows) == rank([*rows, target])


@given(random=st.integers(0, 2**32 - 1), municipalities=st.integers(1, 4))
def test_no_hidden_count_follows_from_what_is_shown(random, municipalities):
    draw = np.random.default_rng(random)
    areas = [
        (f"M{number}", f"{number}{place}") for number in range(municipalities) for place in range(draw.integers(1, 6))
    ]
    counts = {area: {"solar": int(draw.integers(0, 15)), None: int(draw.integers(0, 15))} for area in areas}
    areas = [area for area in areas if sum(counts[area].values())]
    if not areas:
        return
    found = find(share_groups(make_people(counts), ["solar"], RULE))
    shown = []
    for (level, municipality, code), row in found.items():
        if row["suppressed"] is None:
            of = {"all": lambda _: True, "municipality": lambda area, m=municipality: area[0] == m}
            inside = of.get(level, lambda area, key=(municipality, code): area == key)
            shown.append({number for number, area in enumerate(areas) if inside(area)})
            assert row["members"] == sum(counts[areas[number]]["solar"] for number in shown[-1])
            assert row["members"] >= RULE.minimum
            assert row["people"] - row["members"] >= RULE.minimum
    for number, area in enumerate(areas):
        if found["postal_code", *area]["suppressed"]:
            assert not work_out(shown, number, len(areas))


def test_nobody_and_no_group():
    assert share_groups(make_people({}), GROUPS, RULE).num_rows == 0
    assert share_groups(make_people({("Espoo", "02100"): {None: 20}}), [], RULE).num_rows == 0


def test_who_has_no_known_place_is_counted_under_none():
    people = make_people({(None, None): {"solar": 10, None: 10}, ("Espoo", "02100"): {"solar": 10, None: 10}})
    assert find(share_groups(people, ["solar"], RULE))["all", None, None]["people"] == 40
