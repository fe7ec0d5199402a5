import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.flags import Flag
from schemas.status import Status
from transforms.checks import check_grid
from transforms.grid import ABSENT, DayGrid

QUARTER, HOUR, DAY = 900, 3600, 86_400
KWH = 1_000_000


def make_grid(energy, status=None) -> DayGrid:
    energy = np.atleast_2d(np.array(energy, np.int64))
    grid = DayGrid.empty(np.arange(len(energy)), energy.shape[1])
    grid.status[:] = Status.OK if status is None else np.atleast_2d(status)
    grid.energy[:] = np.where(grid.status > 0, energy, 0)
    return grid


def flags_of(grid: DayGrid, resolution: int, fuse: int = 0) -> list[list[int]]:
    found = check_grid(grid, resolution, np.full(len(grid.points), fuse, np.int32))
    return (np.zeros(grid.energy.shape, int) if found is None else found).tolist()


def check_slowly(energy: list[int], status: list[int], resolution: int, fuse: int) -> list[int]:
    """Check one point's day, slot by slot, by the words of the constants."""
    flags = [0] * len(energy)
    valued = [slot for slot in range(len(energy)) if status[slot] > 0]
    hour = max(1, HOUR // resolution)
    runs, begin = {}, 0  # slot to the length of the run of equal values that it is in
    for slot in range(1, len(energy) + 1):
        same = slot < len(energy) and energy[slot] == energy[begin] and (status[slot] > 0) == (status[begin] > 0)
        if not same:
            runs.update(dict.fromkeys(range(begin, slot), slot - begin if status[begin] > 0 else 0))
            begin = slot
    for slot in range(len(energy)):
        if energy[slot] < 0:
            flags[slot] |= Flag.NEGATIVE
        if fuse and energy[slot] > fuse * 230 * 3 * resolution * 1_000 // 3_600:
            flags[slot] |= Flag.ABOVE_FUSE
        if resolution == DAY:
            continue
        top = max(energy)
        others = sum(energy) - top
        if (
            energy[slot] == top
            and top >= 5 * KWH * resolution // HOUR
            and len(valued) > 1
            and others > 0
            and top * (len(valued) - 1) > 20 * others
        ):
            flags[slot] |= Flag.SPIKE
        if runs[slot] >= 8 * hour and energy[slot]:
            flags[slot] |= Flag.FLAT
        mean = sum(energy) // max(1, len(valued))
        if (
            slot
            and energy[slot]
            and energy[slot - 1] == 0
            and runs[slot - 1] >= 3 * hour
            and energy[slot] > mean * runs[slot - 1] // 2
        ):
            flags[slot] |= Flag.STALE_THEN_DOUBLE
    return [int(flag) for flag in flags]


@st.composite
def days(draw):
    """Draw days with runs, holes and extremes, so that every check has something to find."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    resolution = draw(st.sampled_from([QUARTER, HOUR]))
    slots = 24 * HOUR // resolution
    values = random.choice([0, 0, 1, 1, -1, 300_000, 4 * KWH, 40 * KWH, 900 * KWH], (4, slots))
    repeats = random.integers(1, draw(st.sampled_from([2, 5, 60])), (4, slots))
    energy = np.array([np.repeat(row, count)[:slots] for row, count in zip(values, repeats, strict=True)])
    status = np.where(
        random.random((4, slots)) < draw(st.sampled_from([0.0, 0.02, 0.3])), random.choice([ABSENT, 0]), 5
    )
    return make_grid(energy, status), resolution


@given(days(), st.sampled_from([0, 25, 63]))
def test_flags_are_those_of_a_look_at_every_slot(drawn, fuse):
    grid, resolution = drawn
    expected = [
        check_slowly(energy, status, resolution, fuse)
        for energy, status in zip(grid.energy.tolist(), grid.status.tolist(), strict=True)
    ]
    assert flags_of(grid, resolution, fuse) == expected


@pytest.mark.parametrize(("resolution", "limit"), [(QUARTER, 4_312_500), (HOUR, 17_250_000), (DAY, 414_000_000)])
def test_what_a_fuse_of_25_ampere_carries_is_not_above_it(resolution, limit):
    """25 A × 230 V × 3 phases are 17.25 kW."""
    slots = DAY // resolution
    below, above = [limit] + [limit - 1] * (slots - 1), [limit + 1] + [limit] * (slots - 1)
    flagged = np.array(flags_of(make_grid([below, above]), resolution, 25)) & Flag.ABOVE_FUSE
    assert np.argwhere(flagged).tolist() == [[1, 0]]
    assert not np.any(np.array(flags_of(make_grid([above]), resolution, 0)) & Flag.ABOVE_FUSE)


def flagged(energy: list[int], flag: Flag) -> list[int]:
    [flags] = flags_of(make_grid(energy), HOUR)
    return [slot for slot, found in enumerate(flags) if found & flag]


def test_one_value_for_eight_hours_is_flat_and_for_seven_not():
    changing = list(range(1, 17))
    assert flagged([*changing, *[500] * 8], Flag.FLAT) == list(range(16, 24))
    assert flagged([*changing, 17, *[500] * 7], Flag.FLAT) == []
    assert flagged([*changing, *[0] * 8], Flag.FLAT) == []


def test_zeros_and_what_makes_up_for_them():
    day = [700, 800] * 12
    assert flagged([*day[:8], 0, 0, 0, 3_000, *day[12:]], Flag.STALE_THEN_DOUBLE) == [11]
    assert flagged([*day[:8], 0, 0, 700, 3_000, *day[12:]], Flag.STALE_THEN_DOUBLE) == []
    assert flagged([*day[:8], 0, 0, 0, 700, *day[12:]], Flag.STALE_THEN_DOUBLE) == []


def test_a_spike_is_far_above_the_rest_and_large():
    assert flagged([200_000] * 23 + [9 * KWH], Flag.SPIKE) == [23]
    assert flagged([200_000] * 23 + [3 * KWH], Flag.SPIKE) == []  # a large oven
    assert flagged([2_000_000] * 23 + [9 * KWH], Flag.SPIKE) == []
    assert flagged([0] * 23 + [9 * KWH], Flag.SPIKE) == []  # a summer house wakes up


def test_nothing_is_looked_for_in_what_is_not_there():
    assert check_grid(make_grid([[0] * 24], np.full((1, 24), ABSENT)), HOUR, np.array([25], np.int32)) is None
    assert check_grid(make_grid([[0] * 24], np.zeros((1, 24), np.int8)), HOUR, np.array([25], np.int32)) is None
