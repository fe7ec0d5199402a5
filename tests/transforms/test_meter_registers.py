import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.meter_registers import Reads, difference

HOUR = 3_600
MODULUS, MOST = 10_000, 100


def take(rows, resolution_s=HOUR):
    """Rows of (stream, meter, hour, value); what becomes of each: its energy, ``broken``, or None."""
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)] or [np.zeros(0, np.int64)] * 4
    stream, meter, hours, value = columns
    found = difference(Reads(stream, meter, hours * HOUR * 1_000_000, value), resolution_s, MODULUS, MOST)
    assert not (found.made & found.broken).any()
    return [
        int(energy) if made else "broken" if broken else None
        for made, broken, energy in zip(found.made, found.broken, found.energy, strict=True)
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], []),
        ([(1, 0, 0, 5)], [None]),
        ([(1, 0, 0, 5), (1, 0, 1, 7), (1, 0, 2, 7)], [None, 2, 0]),
        ([(1, 0, 2, 9), (1, 0, 0, 5), (1, 0, 1, 7)], [2, None, 2]),
        ([(1, 0, 0, 5), (2, 0, 1, 7)], [None, None]),
        ([(1, 0, 0, 9_990), (1, 0, 1, 15)], [None, 25]),
        ([(1, 0, 0, 9_000), (1, 0, 1, 15)], [None, "broken"]),
        ([(1, 0, 0, 50), (1, 0, 1, 40), (1, 0, 2, 45)], [None, "broken", 5]),
        ([(1, 0, 0, 50), (1, 0, 1, 150), (1, 0, 2, 251)], [None, 100, "broken"]),
        ([(1, 0, 0, 50), (1, 1, 1, 51), (1, 1, 2, 53)], [None, "broken", 2]),
        ([(1, 0, 0, 50), (1, 0, 3, 60), (1, 0, 4, 61)], [None, "broken", 1]),
        ([(1, 0, 0, 5), (1, 0, 1, 7), (1, 0, 1, 7), (1, 0, 2, 8)], [None, 2, None, 1]),
        ([(1, 0, 0, 5), (1, 0, 1, 7), (1, 0, 1, 8), (1, 0, 2, 9)], [None, "broken", "broken", "broken"]),
    ],
)
def test_what_becomes_of_reads(rows, expected):
    assert take(rows) == expected


@pytest.mark.parametrize(("hours", "expected"), [(23, 3), (24, 3), (25, 3), (22, "broken"), (26, "broken")])
def test_a_day_may_be_an_hour_off(hours, expected):
    assert take([(1, 0, 0, 5), (1, 0, hours, 8)], resolution_s=86_400) == [None, expected]


ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 6), st.sampled_from([0, 1, 60, 150, 9_950])),
    max_size=10,
)


def naive(rows):
    expected = []
    for place, (stream, meter, hour, value) in enumerate(rows):
        mine = [row for row in rows if row[0] == stream]
        at = {}
        for row in mine:
            at.setdefault(row[2], set()).add((row[1], row[3]))
        sound = {time: next(iter(of)) for time, of in at.items() if len(of) == 1}
        earlier = [time for time in sound if time < hour]
        if hour not in sound:
            expected.append("broken")
        elif (stream, meter, hour, value) in rows[:place] or not earlier:
            expected.append(None)
        else:
            device, shown = sound[max(earlier)]
            grown = (value - shown) % MODULUS
            fits = hour - max(earlier) == 1 and device == meter and grown <= MOST
            expected.append(grown if fits else "broken")
    return expected


@given(ROWS)
def test_it_is_what_a_naive_reading_says(rows):
    assert take(rows) == naive(rows)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_lines_is_of_no_consequence(rows, random):
    rows = list(dict.fromkeys(rows))
    shuffled = rows.copy()
    random.shuffle(shuffled)
    assert dict(zip(shuffled, take(shuffled), strict=True)) == dict(zip(rows, take(rows), strict=True))
