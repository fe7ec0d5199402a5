from datetime import date

import fleet_oracle
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.fleet.days import LocalDay
from pipeline.fleet.deliveries import ROW
from pipeline.fleet.truth import _settle

DAY = LocalDay(date(2026, 3, 29))


@st.composite
def deliveries(draw):
    """Any deliveries within two hours of a short day, few enough values that they collide."""
    resolution = draw(st.sampled_from([900, 3600, 86_400]))
    place = 0 if resolution == 86_400 else draw(st.integers(0, 7200 // resolution - 1))
    return (
        draw(st.integers(3, 4)),
        DAY.start + place * resolution,
        draw(st.integers(-1, 2)),
        resolution,
        draw(st.sampled_from([0, 3, 5])),
        draw(st.integers(1, 3)),
    )


@given(st.lists(deliveries(), max_size=25))
def test_deliveries_settle_as_a_plain_reading_of_the_rules_says(drawn):
    rows = np.zeros(len(drawn), dtype=ROW)
    for place, (point, start, energy, resolution, status, _) in enumerate(drawn):
        rows[place] = (point, start, energy, resolution, status, 0, 0)
    registered = np.array([DAY.end + days for *_, days in drawn], dtype=np.int64)
    outcome = _settle(rows, registered, DAY)

    readings = [
        fleet_oracle.Reading(str(point), resolution, start, DAY.end + days, status, energy)
        for point, start, energy, resolution, status, days in drawn
    ]
    right = fleet_oracle.settle(readings)
    final = outcome.superseded == ""
    assert sorted(r for r, kept in zip(readings, final, strict=True) if kept) == sorted(right.final)
    assert np.count_nonzero(outcome.conflicting & final) == right.conflicting
    for kind, losers in right.superseded.items():
        told = [r for r, said in zip(readings, outcome.superseded, strict=True) if said == kind]
        assert sorted(told) == sorted(losers), kind


def test_nothing_settles_to_nothing():
    outcome = _settle(np.zeros(0, dtype=ROW), np.zeros(0, dtype=np.int64), DAY)
    assert len(outcome.superseded) == len(outcome.conflicting) == 0
