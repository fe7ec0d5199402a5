"""Unicity and linkage: against counts over plain lists."""

import math
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.risk import Curves, gather_curves, measure_linkage, measure_unicity

KWH = 1_000_000
MANY = 1_000


def name(numbers) -> pa.Array:
    return pa.array([bytes([number]) * 16 for number in numbers], pa.binary(16))


def make_curves(rows) -> Curves:
    """Curves of lists, None where unknown."""
    energy = np.array([[KWH * (value or 0) for value in row] for row in rows], np.int64)
    return Curves(name(range(len(rows))), energy, np.array([[value is not None for value in row] for row in rows]))


curves = st.integers(1, 5).flatmap(
    lambda width: st.lists(
        st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=width, max_size=width), min_size=1, max_size=12
    )
)


@given(rows=curves, seed=st.integers(0, 99))
@settings(deadline=None)
def test_who_is_unique_at_every_point_that_is_known(rows, seed):
    """Where as many points are known as a curve has, nothing is drawn, and the share can be counted."""
    for points in range(1, len(rows[0]) + 1):
        exact = [row for row in rows if sum(value is not None for value in row) == points]
        rest = [row for row in rows if sum(value is not None for value in row) < points]
        if not exact + rest:
            continue
        able, share = measure_unicity(make_curves(exact + rest), points, MANY, np.random.default_rng(seed))
        unique = [
            sum(all(a in (None, b) for a, b in zip(row, other, strict=True)) for other in exact + rest) == 1
            for row in exact
        ]
        assert able == len(exact)
        assert share == (pytest.approx(sum(unique) / len(unique)) if exact else None)


def test_points_are_drawn_alike():
    random = np.random.default_rng(3)
    rows = random.integers(0, 3, (40, 4)).tolist()
    wanted = np.mean([
        [sum(all(row[at] == other[at] for at in chosen) for other in rows) == 1 for chosen in combinations(range(4), 2)]
        for row in rows
    ])  # fmt: skip
    found = [measure_unicity(make_curves(rows), 2, MANY, np.random.default_rng(seed))[1] for seed in range(300)]
    assert np.mean(found) == pytest.approx(wanted, abs=0.02)


def test_no_more_are_looked_at_than_asked_and_more_points_tell_more():
    random = np.random.default_rng(3)
    made = make_curves(random.integers(0, 5, (200, 6)).tolist())
    shares = [measure_unicity(made, points, 150, np.random.default_rng(1)) for points in (1, 2, 3, 4)]
    assert {looked_at for looked_at, _ in shares} == {150}
    assert sorted(share for _, share in shares) == [share for _, share in shares]
    assert measure_unicity(made, 7, 150, random) == (0, None)


@given(before=curves, data=st.data())
@settings(deadline=None)
def test_who_is_nearest_to_themselves(before, data):
    value = st.one_of(st.none(), st.integers(0, 3))
    width = len(before[0])
    after = data.draw(st.lists(st.lists(value, min_size=width, max_size=width), min_size=1, max_size=12))
    count = min(len(before), len(after))
    order = data.draw(st.permutations(range(len(after))))
    pairs = np.arange(count), np.array(order[:count])
    looked_at, share = measure_linkage(
        make_curves(before), make_curves(after), pairs, MANY, np.random.default_rng(data.draw(st.integers(0, 9)))
    )
    found = []
    for mine, own in zip(*pairs, strict=True):
        if None in before[mine] or None in after[own]:
            continue
        distance = {
            number: math.fsum((math.asinh(a) - math.asinh(b)) ** 2 for a, b in zip(before[mine], row, strict=True))
            for number, row in enumerate(after)
            if None not in row
        }
        nearest = [number for number, far in distance.items() if far <= min(distance.values()) + 1e-9]
        found.append((own in nearest) / len(nearest))
    assert looked_at == len(found)
    assert share == (pytest.approx(sum(found) / len(found)) if found else None)


def test_rows_of_one_pseudonym_and_point_are_added():
    ids, points, energy = name([1, 2, 1, 1]), np.array([0, 1, 0, 1]), np.array([3, 4, 5, -5])
    made = gather_curves(ids, points, energy, 2)
    assert made.ids.equals(name([1, 2]))
    assert made.energy.tolist() == [[8, -5], [0, 4]]
    assert made.known.tolist() == [[True, True], [False, True]]
    nothing = gather_curves(ids[:0], points[:0], energy[:0], 2)
    assert measure_unicity(nothing, 1, MANY, np.random.default_rng(1)) == (0, None)
    assert measure_linkage(nothing, nothing, (points[:0], points[:0]), MANY, np.random.default_rng(1)) == (0, None)
