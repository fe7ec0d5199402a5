"""Limits speak when they are exceeded, of the days that they cover, and not before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.completeness import DayCount
from transforms.limits import NO_LIMITS, Limits, MissingLimit, QuarantineLimit, compile_limits

TODAY = 20_541


def day(age: int, missing: int, expected: int = 1000) -> DayCount:
    return DayCount(TODAY - age, points=10, silent_points=1, expected_minutes=expected, missing_minutes=missing)


@given(st.integers(0, 1000), st.integers(0, 1000), st.sampled_from([0.0, 0.01, 0.5, 1.0]))
def test_quarantine_speaks_above_its_share_alone(quarantined, others, share):
    delivered = quarantined + others
    limits = Limits(QuarantineLimit(share, "stop"))
    found = list(limits.check_quarantined(delivered, {"future": quarantined}))
    assert bool(found) == (delivered > 0 and quarantined / delivered > share)
    assert {breach.action for breach in found} <= {"stop"}


def test_what_was_quarantined_is_told_by_reason():
    [breach] = Limits(QuarantineLimit(0.01, "warn")).check_quarantined(100, {"future": 3, "off_grid": 2})
    assert breach.problem == "5 of 100 readings quarantined (3 future, 2 off_grid), more than 1.0000%"


@pytest.mark.parametrize(
    ("age", "missing", "actions"),
    [
        (0, 1000, []),  # today isn't over
        (1, 50, []),
        (1, 51, ["warn"]),
        (11, 50, []),
        (12, 50, ["stop"]),
        (12, 51, ["stop"]),  # the strictest is told, once
        (60, 2, ["stop"]),
        (61, 1000, ["warn"]),
        (91, 1000, []),
    ],
)
def test_a_day_is_held_against_the_limits_of_its_age(age, missing, actions):
    limits = Limits(missing=(MissingLimit(0.05, "warn", 1, 90), MissingLimit(0.001, "stop", 12, 60)))
    found = list(limits.check_days([day(age, missing)], TODAY))
    assert [breach.action for breach in found] == actions
    assert all(str(day(age, 0).date) in breach.problem for breach in found)


def test_a_day_of_nobody_misses_nothing():
    assert list(Limits(missing=(MissingLimit(0.0, "stop", 1, 60),)).check_days([day(1, 0, 0)], TODAY)) == []
    assert day(1, 0, 0).missing_share == 0


@pytest.mark.parametrize(
    ("held", "due"),
    [
        ([], set()),
        ([TODAY - 400, TODAY - 100], set()),  # old days are being brought in
        ([TODAY - 5, TODAY - 2], {TODAY - 1}),  # the lake had not begun twelve days ago
        ([TODAY - 40, TODAY - 2], {TODAY - 1, TODAY - 12}),
        ([TODAY - 40, TODAY - 31], {TODAY - 1}),
    ],
)
def test_days_come_due_in_a_lake_that_lives(held, due):
    limits = Limits(missing=(MissingLimit(0.05, "warn", 1, 60), MissingLimit(0.001, "warn", 12, 30)))
    assert limits.due(TODAY, held) == due


def test_limits_are_what_the_policy_says():
    spec = {
        "quarantined": {"share": 0.02, "action": "stop"},
        "missing": [{"share": 0.1, "action": "warn", "after_days": 1}],
    }
    assert compile_limits(spec) == Limits(QuarantineLimit(0.02, "stop"), (MissingLimit(0.1, "warn", 1, 60),))
    assert compile_limits({}) == NO_LIMITS
    [late] = compile_limits({"missing": [{"share": 0, "action": "warn", "after_days": 100}]}).missing
    assert late.covers(TODAY - 100, TODAY)
