"""What a run changed is what differs between the sums of the rows before and after, added up one by one."""

from collections import defaultdict
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_fold import CALENDAR, DAY, Delivered, as_base, frames_of, random_history, state_of

from schemas.series import ACTIVE_ENERGY, DAY_S
from schemas.status import Status
from transforms.changes import compare_days
from transforms.fold import fold


def days_of(base) -> dict[str, Decimal]:
    """Sum the present values of every point's rows; a point without any is absent."""
    days = defaultdict(Decimal)
    for point, energy in zip(base["metering_point_id"].to_pylist(), base["energy"].to_pylist(), strict=True):
        if energy is not None:
            days[point] += energy
    return days


def fold_both(first, second):
    """Fold two runs; the rows after each, and what the second one changed."""
    before = as_base(fold(frames_of(first), [], DAY, CALENDAR)[0])
    cell, tally = fold(frames_of(second), state_of(before), DAY, CALENDAR)
    return before, as_base(cell), compare_days(tally.days_before, cell)


@given(
    st.randoms(use_true_random=False),
    st.integers(1, 12),
    st.sampled_from([(900,), (900, 3600), (900, 3600, DAY_S)]),
)
def test_changes_are_the_days_that_differ(rng, size, resolutions):
    before, after, changed = fold_both(random_history(rng, resolutions, 6), random_history(rng, resolutions, size))
    old, new = days_of(before), days_of(after)
    expected = [(p, old.get(p), new.get(p)) for p in sorted({*old, *new}) if old.get(p) != new.get(p)]
    columns = ("metering_point_id", "energy_before", "energy_after")
    assert list(zip(*(changed[name].to_pylist() for name in columns), strict=True)) == expected
    assert set(changed["product"].to_pylist()) <= {ACTIVE_ENERGY}


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (("a", Status.OK, 5), []),  # registered again, the same value
        (("a", Status.OK, 7), [("a", Decimal("0.000005"), Decimal("0.000007"))]),
        (("a", Status.MISSING, 0), [("a", Decimal("0.000005"), None)]),
        (("b", Status.OK, 0), [("b", None, Decimal(0))]),  # zero is a value
        (("b", Status.MISSING, 0), []),
    ],
)
def test_a_day_changes_by_what_it_holds_not_by_when_it_came(second, expected):
    point, status, energy = second
    late = 1_790_000_000_000_000
    first = [Delivered("a", 3600, 0, late, int(Status.OK), 5)]
    _, _, changed = fold_both(first, [Delivered(point, 3600, 0, late + 1, int(status), energy)])
    columns = ("metering_point_id", "energy_before", "energy_after")
    assert list(zip(*(changed[name].to_pylist() for name in columns), strict=True)) == expected
