from datetime import date

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.fleet import load
from pipeline.fleet.days import LocalDay
from pipeline.fleet.draws import draw_below, draw_noise, draw_uniform

WINTER, SUMMER, SUNDAY = (LocalDay(date(2026, *day)) for day in ((1, 14), (7, 15), (1, 18)))


def measure(day, kind, count=400, fuse_a=25):
    points = np.arange(count)
    return load.measure_energy(
        3, day, points, np.full(count, kind, dtype=np.int8), np.full(count, fuse_a, dtype=np.int64)
    )


@given(st.integers(1, 60), st.integers(0, 10**6), st.integers(0, 6))
def test_points_measured_in_parts_are_those_measured_together(cut, first, kind):
    points = np.arange(first, first + 61)
    kinds, fuses = np.full(61, kind, dtype=np.int8), np.full(61, 25, dtype=np.int64)
    whole = load.measure_energy(1, WINTER, points, kinds, fuses)
    parts = [load.measure_energy(1, WINTER, points[p], kinds[p], fuses[p]) for p in (slice(cut), slice(cut, None))]
    assert (whole == np.concatenate(parts)).all()


@given(st.integers(0, 2**31), st.lists(st.integers(0, 2**40), min_size=1, max_size=5), st.integers(1, 9))
def test_draws_belong_to_their_index_and_stay_in_bounds(seed, indices, bound):
    index = np.array(indices)
    alone = [draw_uniform(seed, "a", one)[0] for one in indices]
    assert draw_uniform(seed, "a", index).tolist() == alone
    assert all(0 <= number < 1 for number in alone)
    assert set(draw_below(bound, seed, "a", index).tolist()) <= set(range(bound))


def test_draws_are_spread_evenly_and_differ_by_stream_and_seed():
    index = np.arange(100_000)
    one = draw_uniform(1, "a", index)
    noise = draw_noise(1, "a", index[:1000], 100)
    for drawn in (one, noise):
        assert abs(drawn.mean() - 0.5) < 0.005
        assert abs(drawn.var() - 1 / 12) < 0.002
    for other in (draw_uniform(2, "a", index), draw_uniform(1, "b", index), draw_uniform(1, "a", index + 1)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.02


def test_hours_and_the_day_are_the_sums_of_their_quarters():
    for day in (LocalDay(date(2026, 3, 29)), WINTER, LocalDay(date(2026, 10, 25))):
        energy = measure(day, load.APARTMENT)
        hours, quarters, whole = np.split(energy, [day.hours, day.hours * 5], axis=1)
        assert quarters.shape[1] == 4 * day.hours == len(day.clock)
        assert (quarters.reshape(len(energy), -1, 4).sum(axis=2) == hours).all()
        assert (hours.sum(axis=1, keepdims=True) == whole).all()
        assert (np.diff(day.column_starts[: day.hours]) == 3600).all()


def test_meters_count_in_watt_hours_and_stay_below_the_fuse():
    for kind in range(len(load.ARCHETYPES)):
        energy = measure(WINTER, kind)
        assert (energy % 1000 == 0).all()
        assert (energy >= 0).all()
        limits = load.fuse_limit(np.int64(25), np.r_[WINTER.column_resolutions])
        assert (energy <= limits).all()


def test_the_fuse_limit_of_25_amperes_is_17250_watts():
    assert load.fuse_limit(np.array([25]), 3600).tolist() == [17_250_000]
    assert load.fuse_limit(np.array([25]), 900).tolist() == [4_312_500]


def test_shapes_have_a_day_a_week_a_year_and_weather():
    def share(day, kind, hours):
        quarters = measure(day, kind)[:, day.hours : -1]
        return quarters[:, np.isin(day.clock // 1, hours)].sum() / quarters.sum()

    night, noon, evening = [22, 23, 0, 1, 2, 3, 4, 5], range(10, 15), range(17, 21)
    assert share(WINTER, load.STORAGE, night) > 0.6
    assert share(WINTER, load.APARTMENT, evening) > 4 / 24 * 1.5
    assert share(SUMMER, load.PLANT, noon) > 5 / 24 * 1.5
    assert share(WINTER, load.PLANT, night) == 0
    total = {(day, kind): measure(day, kind)[:, -1].sum() for day in (WINTER, SUMMER, SUNDAY) for kind in range(7)}
    assert total[WINTER, load.HEATED] > 2 * total[SUMMER, load.HEATED]
    assert total[SUMMER, load.PLANT] > 3 * total[WINTER, load.PLANT]
    assert total[SUNDAY, load.OFFICE] < 0.6 * total[WINTER, load.OFFICE]
    assert total[WINTER, load.CAR] > total[WINTER, load.APARTMENT]
