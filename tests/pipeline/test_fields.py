from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.sources.fields import UNITS, parse_energy, scale_decimals
from schemas.series import MAX_ENERGY

NUMBERS = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 10**18 - 1), st.integers(0, 10**15), st.integers(0, 10**6).map(lambda one: one * 5)),
        st.integers(0, 20),
        st.sampled_from([*UNITS, "kWh", "mWh", "", None]),
    ),
    max_size=20,
)


@given(NUMBERS)
@example([(MAX_ENERGY, 6, "kWh"), (MAX_ENERGY + 1, 6, "kWh"), (999_999_999_999_995, 7, "kWh"), (5, 10, "Wh")])
@example([(15, 7, "kWh"), (25, 7, "kWh"), (10**18 - 1, 20, "Wh"), (10**14, 0, "GWh"), (100, 0, "GWh")])
def test_decimals_are_scaled_exactly_and_rounded_once(numbers):
    digits, decimals, units = zip(*numbers, strict=True) if numbers else ((), (), ())
    scaled = scale_decimals(pa.array(digits, pa.int64()), np.array(decimals, np.int64), pa.array(units, pa.string()))
    expected = []
    for number, places, unit in numbers:
        exact = Decimal(number).scaleb(6 + UNITS[unit] - places) if unit in UNITS else None
        rounded = None if exact is None else int(exact.to_integral_value(ROUND_HALF_EVEN))
        expected.append(None if rounded is None or rounded > MAX_ENERGY else rounded)
    assert scaled.to_pylist() == expected
    texts = [f"{Decimal(number).scaleb(-places):f}" for number, places, _ in numbers]
    assert parse_energy(pa.array(texts, pa.string()), pa.array(units, pa.string()), ".").to_pylist() == expected


def test_what_is_missing_stays_so():
    digits = pa.array([1, None, 3], pa.int64())
    assert scale_decimals(digits, np.array([0, 1, 7]), pa.array(["Wh"] * 3)).to_pylist() == [1_000, None, 0]
