"""Disclosure control: what an attacker works out of all that is shown is no suppressed cell, nor near one."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.disclosure import REASONS, Groups, suppress
from transforms.plan import Disclosure

PROFILES = [Disclosure(15, 0.15), Disclosure(5, 0.5), Disclosure(10, 0.25), Disclosure(3, 0.6)]


def make_table(random, municipalities, most_areas, most_sites):
    """Sites' values by (municipality, area): the truth, as lists of integers."""
    return {
        (m, a): (
            random.pareto(1.2, random.integers(1, most_sites + 1)) * 1000 * random.integers(0, 2)
            + random.integers(0, 500)
        )
        .astype(int)
        .tolist()
        for m in range(municipalities)
        for a in range(random.integers(1, most_areas + 1))
    }


def protect(tables, rule):
    """Reasons by (table, node); a node is (), (municipality,) or (municipality, area)."""
    keys = [(t, *key) for t, table in enumerate(tables) for key in table]
    values = [tables[t][m, a] for t, m, a in keys]
    groups = Groups(*(np.array([of(v) for v in values]) for of in (len, sum, max)))
    table, municipality = (np.array([key[n] for key in keys]) for n in (0, 1))
    found = suppress(table, municipality, groups, rule)
    reasons = {(t, (m, a)): REASONS[code] for (t, m, a), code in zip(keys, found.areas, strict=True)}
    for (t, m, _), place in zip(keys, found.municipality, strict=True):
        reasons[t, (m,)] = REASONS[found.municipalities[place]]
    return reasons | {(t, ()): REASONS[code] for t, code in enumerate(found.wholes)}


def within(node, leaf):
    return leaf[: len(node)] == node


def rests(table, shown):
    """What each shown node has besides the shown nodes in it, leaf by leaf: the lowest shown node above it."""
    found = {}
    for leaf in table:
        holders = [node for node in shown if within(node, leaf)]
        if holders:
            found.setdefault(max(holders, key=len), []).append(leaf)
    return found


def is_safe(values, rule):
    return len(values) >= rule.minimum and max(values) <= rule.dominance * sum(values)


def eliminate(rows):
    """Reduced row echelon form, exact."""
    rows, lead = [list(map(Fraction, row)) for row in rows], 0
    for column in range(len(rows[0]) - 1 if rows else 0):
        pivot = next((n for n in range(lead, len(rows)) if rows[n][column]), None)
        if pivot is None:
            continue
        rows[lead], rows[pivot] = rows[pivot], rows[lead]
        rows[lead] = [value / rows[lead][column] for value in rows[lead]]
        for n, row in enumerate(rows):
            if n != lead and row[column]:
                rows[n] = [a - row[column] * b for a, b in zip(row, rows[lead], strict=True)]
        lead += 1
    return [row for row in rows if any(row)]


def is_known(equations, wanted):
    """Whether a sum of unknowns follows from equations by adding and subtracting."""
    rank = len(eliminate([[*row[:-1], 0] for row in equations]))
    return len(eliminate([*([*row[:-1], 0] for row in equations), [*wanted, 0]])) == rank


def maximise(equations, wanted):
    """The greatest value of a sum of unknowns that are not negative; None if there is none. Exact simplex, Bland's rule.

    The equations are those of a nested table, given in reduced form with a solution in it.
    """
    rows = eliminate(equations)
    count = len(wanted)
    # Phase one: artificial unknowns for a first solution.
    size = len(rows)
    table = [[*row[:-1], *(Fraction(int(n == m)) for m in range(size)), row[-1]] for n, row in enumerate(rows)]
    table = [[-v for v in row] if row[-1] < 0 else row for row in table]
    for n, row in enumerate(table):
        row[count + n] = Fraction(1)
    basis = [count + n for n in range(size)]
    run_simplex(table, basis, [Fraction(0)] * count + [Fraction(-1)] * size, count + size)
    assert all(basis[n] < count or table[n][-1] == 0 for n in range(size))
    goal = [Fraction(value) for value in wanted] + [Fraction(-(10**12))] * size
    return run_simplex(table, basis, goal, count)


def run_simplex(table, basis, goal, usable):
    while True:
        gain = [goal[c] - sum(goal[basis[n]] * row[c] for n, row in enumerate(table)) for c in range(usable)]
        enter = next((c for c, value in enumerate(gain) if value > 0 and c not in basis), None)
        if enter is None:
            return sum(goal[basis[n]] * row[-1] for n, row in enumerate(table))
        ratios = [(row[-1] / row[enter], basis[n], n) for n, row in enumerate(table) if row[enter] > 0]
        if not ratios:
            return None
        leave = min(ratios)[2]
        table[leave] = [value / table[leave][enter] for value in table[leave]]
        for n, row in enumerate(table):
            if n != leave and row[enter]:
                table[n] = [a - row[enter] * b for a, b in zip(row, table[leave], strict=True)]
        basis[leave] = enter


def attack(table, reasons, rule):
    """Everything that is shown of a table as equations; what follows of each suppressed cell."""
    leaves = list(table)
    shown = [node for node, reason in reasons.items() if not reason]
    indicator = {node: [int(within(node, leaf)) for leaf in leaves] for node in reasons}
    equations = [[*indicator[node], sum(sum(table[leaf]) for leaf in leaves if within(node, leaf))] for node in shown]
    for node, reason in reasons.items():
        if not reason:
            continue
        value = sum(sum(table[leaf]) for leaf in leaves if within(node, leaf))
        assert not is_known(equations, indicator[node]), (node, reason)
        if reason == "complementary" or not value:
            continue  # not sensitive by itself
        greatest = maximise(equations, indicator[node])
        least = maximise(equations, [-one for one in indicator[node]])
        assert greatest is None or greatest >= (1 + Fraction(rule.dominance).limit_denominator(100)) * value, node
        assert least is None or -least <= (1 - Fraction(rule.dominance).limit_denominator(100)) * value, node


@given(st.integers(0, 2**32), st.sampled_from(PROFILES), st.integers(1, 4), st.integers(1, 4), st.integers(2, 45))
def test_nothing_that_is_shown_tells_a_suppressed_cell(seed, rule, municipalities, areas, sites):
    table = make_table(np.random.default_rng(seed), municipalities, areas, sites)
    reasons = {node: reason for (_, node), reason in protect([table], rule).items()}
    attack(table, reasons, rule)


@given(st.integers(0, 2**32), st.sampled_from(PROFILES), st.integers(1, 12), st.integers(1, 8), st.integers(2, 60))
def test_every_sum_that_can_be_worked_out_is_of_enough_sites_none_too_great(seed, rule, municipalities, areas, sites):
    random = np.random.default_rng(seed)
    tables = [make_table(random, municipalities, areas, sites) for _ in range(3)]
    reasons = protect(tables, rule)
    for t, table in enumerate(tables):
        shown = [node for (of, node), reason in reasons.items() if of == t and not reason]
        for rest in rests(table, shown).values():
            assert is_safe([value for leaf in rest for value in table[leaf]], rule)


@given(st.integers(0, 2**32), st.sampled_from(PROFILES))
def test_reasons_say_what_is_wrong_with_a_cell_and_safe_tables_are_shown_whole(seed, rule):
    random = np.random.default_rng(seed)
    table = make_table(random, 5, 5, 40)
    for (_, node), reason in protect([table], rule).items():
        values = [value for leaf in table if within(node, leaf) for value in table[leaf]]
        if reason in ("", "complementary"):
            assert is_safe(values, rule), node
        elif reason == "minimum":
            assert len(values) < rule.minimum
        else:
            assert max(values) > rule.dominance * sum(values)
    even = {leaf: [100] * 200 for leaf in table}
    assert set(protect([even], rule).values()) == {""}


def test_tables_do_not_depend_on_their_neighbours():
    random = np.random.default_rng(5)
    tables = [make_table(random, 4, 4, 30) for _ in range(24)]
    together = protect(tables, PROFILES[0])
    for t, table in enumerate(tables):
        alone = protect([table], PROFILES[0])
        assert {node: reason for (of, node), reason in together.items() if of == t} == {
            node: reason for (_, node), reason in alone.items()
        }


@pytest.mark.parametrize(
    ("areas", "shown"),
    [
        # One small area: the smallest other one goes with it, and the totals stay.
        ({(0, 0): [10] * 14, (0, 1): [10] * 40, (0, 2): [10] * 20}, {(), (0,), (0, 1)}),
        # Two small ones hide each other.
        ({(0, 0): [10] * 14, (0, 1): [10] * 40, (0, 2): [10] * 12}, {(), (0,), (0, 1)}),
        # A municipality with a single small area has nobody to hide it: one of another municipality does.
        ({(0, 0): [10] * 14, (1, 0): [10] * 40, (1, 1): [10] * 30}, {(), (1, 0)}),
        # A works that is more than all others: not even the whole is shown, but what it is no part of.
        ({(0, 0): [10_000] + [10] * 30, (0, 1): [10] * 40, (1, 0): [10] * 30}, {(0, 1), (1,), (1, 0)}),
        # Few sites at all.
        ({(0, 0): [10] * 5, (1, 0): [10] * 5}, set()),
    ],
)
def test_small_tables(areas, shown):
    found = {node for (_, node), reason in protect([areas], Disclosure(15, 0.15)).items() if not reason}
    assert found == shown


def test_a_rest_of_nothing_is_not_shown():
    """Ten sites without a sun, in a municipality that shows that it has none."""
    areas = {(0, 0): [0] * 10, (0, 1): [0] * 40, (1, 0): [0] * 40}
    found = {node for (_, node), reason in protect([areas], Disclosure(15, 0.15)).items() if not reason}
    assert found == {(0, 1), (1,), (1, 0)}


def test_no_cells_are_no_tables():
    nothing = np.zeros(0, np.int64)
    found = suppress(nothing, nothing, Groups(nothing, nothing, nothing), PROFILES[0])
    assert len(found.areas) == len(found.municipalities) == len(found.wholes) == 0


def test_a_national_day_is_protected_at_once():
    random = np.random.default_rng(1)
    tables, areas = 48, 3000
    table = np.repeat(np.arange(tables), areas)
    municipality = np.tile(np.sort(random.integers(0, 300, areas)), tables)
    sites = random.integers(1, 3000, tables * areas)
    size = sites * random.integers(100, 10**6, tables * areas)
    top = np.minimum(size, (size / np.sqrt(sites)).astype(np.int64))
    found = suppress(table, municipality, Groups(sites, size, top), PROFILES[0])
    assert all(one <= other for one, other in pairwise(found.tables))
    assert (found.wholes == 0).all()
