"""An attack on what is published, from the written files alone: all that they say, solved for what they suppress."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from privacy_support import make_fleet
from published import fill, publish, site_hours
from scipy.optimize import linprog
from scipy.sparse import csr_array
from whole_job import query

#: Sums over areas by two rules, each for somebody else.
RULES = {
    "analytics.area_fine": {"minimum": 4, "dominance": 0.5},
    "analytics.area_coarse": {"minimum": 9, "dominance": 0.4},
}
LEVELS = ("all", "municipality", "postal_area")
CELLS = "SELECT product, direction, start, level, municipality_name, postal_area, energy, suppressed FROM t"
#: Hours that are attacked, of all that are published.
HOURS = 12
#: Millionths of a kilowatt-hour: what the solver may be wrong by.
EXACT = 1e-6


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Of each hour of a product and direction: cells by dataset, and what every site in an area really had."""
    fleet = make_fleet(tmp_path_factory.mktemp("fleet"), points=500, days=3)
    lake, keys = fill(fleet, tmp_path_factory.mktemp("lake"), RULES)
    publish(lake, keys)
    truth = defaultdict(lambda: defaultdict(list))
    for municipality, postal, product, direction, start, _, energy in site_hours(lake, fleet):
        truth[product, direction, start][municipality, postal].append(float(energy))
    cells = {name: defaultdict(dict) for name in RULES}
    for name, of in cells.items():
        for product, direction, start, level, municipality, postal, energy, suppressed in query(lake, name, CELLS):
            area = (municipality, postal)[: LEVELS.index(level)]
            of[product, direction, start][area] = (None if energy is None else float(energy), suppressed)
    chosen = sorted(truth)[:: max(1, len(truth) // HOURS)]
    return {hour: ({name: of[hour] for name, of in cells.items()}, truth[hour]) for hour in chosen}


class Attack:
    """What somebody works out who reads some tables of an hour: the bounds of every sum.

    Unknown is each postal area's energy. None is negative, and each cell that is shown is a sum of some.
    """

    def __init__(self, *tables):
        self.areas = sorted({area for table in tables for area in table if len(area) == len(LEVELS) - 1})
        shown = [(area, energy) for table in tables for area, (energy, _) in table.items() if energy is not None]
        self.sums = csr_array(np.array([self.cover(area) for area, _ in shown]).reshape(len(shown), len(self.areas)))
        self.values = np.array([energy for _, energy in shown])

    def cover(self, area):
        return np.array([float(one[: len(area)] == area) for one in self.areas])

    def bounds(self, area):
        return tuple(self._find(sign * self.cover(area)) * sign for sign in (1, -1))

    def _find(self, wanted):
        """The least value of a weighted sum; minus infinity if there is none."""
        found = linprog(wanted, A_eq=self.sums, b_eq=self.values, bounds=(0, None), method="highs")
        assert found.status in (0, 3), found.message  # solved, or without a bound: what is published fits together
        return found.fun if found.status == 0 else -np.inf


def told(attack, rule, tables, sites):
    """Suppressed cells that an attack tells, by why they were: exactly, or more exactly than a site's share in them."""
    for area, (_, suppressed) in tables.items():
        if not suppressed:
            continue
        inside = [values for one, values in sites.items() if one[: len(area)] == area]
        value = sum(map(sum, inside))
        least, most = attack.bounds(area)
        assert least - EXACT <= value <= most + EXACT
        band = rule["dominance"] * value if suppressed != "complementary" else 0
        yield suppressed, most - least <= EXACT or value - least < band - EXACT or most - value < band - EXACT


@pytest.mark.parametrize("name", RULES)
def test_no_table_tells_what_it_suppresses(published, name):
    found = Counter(
        each
        for tables, sites in published.values()
        for each in told(Attack(tables[name]), RULES[name], tables[name], sites)
    )
    assert {reason for reason, _ in found} == {"minimum", "dominance", "complementary"}
    assert sum(found.values()) > 150
    assert {exposed for _, exposed in found} == {False}, found


def test_who_reads_sums_by_two_rules_works_out_what_each_of_them_suppresses(published):
    """So a policy that lets somebody do that is not clean (``differenced``)."""
    found = Counter()
    for tables, sites in published.values():
        attack = Attack(*tables.values())
        for name, other in zip(RULES, reversed(RULES), strict=True):
            hidden = {area: cell for area, cell in tables[name].items() if tables[other][area][1]}
            found.update(told(attack, RULES[name], hidden, sites))
    assert any(exposed for _, exposed in found), found
