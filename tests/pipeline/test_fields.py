from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pyarrow as pa
import pytest
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
@example([(MAX_ENERGY + 1, 6, "kWh"), (MAX_ENERGY + 1, 9, "MWh")])
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


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.decimals(0, 99, places=3).map(str),
            st.from_regex(r"\A[0-9]{1,9}[.,][0-9]{0,9}\Z"),
            st.sampled_from(
                [
                    "",
                    " 7 ",
                    "-",
                    "-1.5",
                    "+2.5",
                    "1e3",
                    "1E-7",
                    "null",
                    "nan",
                    "1.5.5",
                    "5.",
                    ".5",
                    "99999999.9999995",
                    "0x1",
                ]
            ),
        ),
        max_size=30,
    ),
    st.sampled_from([".", ","]),
    st.integers(0, 5),
    st.sampled_from([1 << 14, 3]),
)
def test_numbers_are_read_as_if_each_stood_alone(texts, sign, cut, block):
    """Those of digits alone at once, whatever is before them in the column; alone, nothing is before one."""
    units = pa.array(["kWh", "Wh", "MWh", "m", None] * 6)[: len(texts)][cut:]
    column = pa.array(texts, pa.string())[cut:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.sources.fields._BLOCK", block)
        found = parse_energy(column, units, sign).to_pylist()
    alone = [
        parse_energy(pa.array([text.as_py()], pa.string()), units[at : at + 1], sign)[0].as_py()
        for at, text in enumerate(column)
    ]
    assert found == alone


def test_what_is_missing_stays_so():
    digits = pa.array([1, None, 3], pa.int64())
    assert scale_decimals(digits, np.array([0, 1, 7]), pa.array(["Wh"] * 3)).to_pylist() == [1_000, None, 0]


def test_a_null_may_have_bytes():
    column = pa.array([f"{number}.5" for number in range(20)])
    _, offsets, text = column.buffers()
    bits = pa.py_buffer(bytes([0xFF, 0x7F, 0xFF]))  # all but the sixteenth
    nulled = pa.Array.from_buffers(pa.string(), 20, [bits, offsets, text])
    energy = parse_energy(nulled, pa.array(["kWh"] * 20), ".").to_pylist()
    assert energy == [None if number == 15 else number * 1_000_000 + 500_000 for number in range(20)]
