"""The rules as column operations: what each may show, and that none loses a row or a null."""

import uuid
from decimal import ROUND_HALF_EVEN, Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.columns import ROUNDED, apply_rule, cut_postal_code, mask_text, round_decimals, sort_into_bands
from transforms.plan import Band, Column, Keep, Mask, PostalPrefix, Pseudonymise, Round, Year
from transforms.pseudonym import pseudonymise

TEXTS = st.lists(st.none() | st.text(max_size=12), max_size=20)


@given(
    codes=st.lists(st.none() | st.from_regex(r"[0-9]{0,6}", fullmatch=True) | st.text(max_size=8)),
    digits=st.integers(1, 4),
)
def test_a_postal_prefix_shows_leading_digits_or_nothing(codes, digits):
    for code, prefix in zip(codes, cut_postal_code(pa.array(codes, pa.string()), digits).to_pylist(), strict=True):
        head = (code or "")[:digits]
        is_code = len(head) == digits and head.isascii() and head.isdigit()
        assert prefix == (head if is_code else None)


@given(
    values=st.lists(st.none() | st.integers(-(2**31), 2**31 - 1)),
    edges=st.lists(st.integers(-100, 100), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_a_value_lies_in_its_band(values, edges):
    bands = sort_into_bands(pa.array(values, pa.int32()), tuple(edges)).to_pylist()
    for value, band in zip(values, bands, strict=True):
        if value is None:
            assert band is None
        elif value < edges[0]:
            assert band == f"<{edges[0]}"
        elif value >= edges[-1]:
            assert band == f">={edges[-1]}"
        else:
            low = max(edge for edge in edges if edge <= value)
            high = min(edge for edge in edges if edge > value) - 1
            assert band == (str(low) if low == high else f"{low}-{high}")


@given(
    values=st.lists(st.none() | st.integers(-99_999_999_999_999, 99_999_999_999_999)), step=st.integers(1, 10_000_000)
)
def test_rounding_equals_exact_decimal_rounding(values, step):
    exact = [None if v is None else Decimal(v).scaleb(-6) for v in values]
    rounded = round_decimals(pa.array(exact, pa.decimal64(14, 6)), step)
    assert rounded.type == ROUNDED
    assert rounded.to_pylist() == [
        None if v is None else ((Decimal(v) / step).to_integral_value(ROUND_HALF_EVEN) * step).scaleb(-6)
        for v in values
    ]


def test_halves_go_to_the_even_multiple_and_a_slice_to_its_own_values():
    halves = [Decimal(n).scaleb(-2) for n in (-25, -15, -5, 5, 15, 25)]
    rounded = round_decimals(pa.array([Decimal(9), *halves], pa.decimal64(14, 6))[1:], 100_000)
    assert rounded.to_pylist() == [Decimal(n).scaleb(-1) for n in (-2, -2, 0, 0, 2, 2)]


@given(texts=TEXTS, keep_last=st.integers(0, 4))
def test_a_mask_hides_all_but_the_end_and_never_shows_a_whole_text(texts, keep_last):
    for text, masked in zip(texts, mask_text(pa.array(texts, pa.string()), keep_last).to_pylist(), strict=True):
        if text is None:
            assert masked is None
        else:
            shown = text[-keep_last:] if 0 < keep_last < len(text) else ""
            assert masked == "*" * (len(text) - len(shown)) + shown


ENERGY = pa.array([Decimal("1.005"), None, Decimal("-0.000001")], pa.decimal64(14, 6))
TIMES = pa.array([0, None, 1_774_742_400_000_000], pa.timestamp("us", tz="UTC"))


@pytest.mark.parametrize(
    ("rule", "kind", "values", "expected"),
    [
        (Keep(), pa.decimal64(14, 6), ENERGY, ENERGY.to_pylist()),
        (PostalPrefix(3), pa.string(), pa.array(["00180", None, "0a180"]), ["001", None, None]),
        (Band((25, 35)), pa.string(), pa.array([24, 25, None, 35], pa.int32()), ["<25", "25-34", None, ">=35"]),
        (Year(), pa.int32(), TIMES, [1970, None, 2026]),
        (Round(10_000), ROUNDED, ENERGY[1:], [None, Decimal(0)]),
        (Mask(2), pa.string(), pa.array(["040 1234", None, "ä"]), ["******34", None, "*"]),
    ],
)
def test_a_rule_gives_the_columns_type(rule, kind, values, expected):
    made = apply_rule(Column("made", "source", rule, kind, False, ""), values)
    assert made.type == kind
    assert made.to_pylist() == expected
    assert apply_rule(Column("made", "source", rule, kind, False, ""), values[:0]).type == kind


def test_a_pseudonym_is_a_uuid_and_needs_a_subkey():
    column = Column("customer", "customer_id", Pseudonymise("customer"), pa.uuid(), False, "")
    ids = pa.array(["C-1", None])
    made = apply_rule(column, ids, b"k" * 32)
    assert made.type == pa.uuid()
    assert made.to_pylist() == [uuid.UUID(bytes=pseudonymise(b"k" * 32, ids)[0].as_py()), None]
    with pytest.raises(ValueError, match="customer needs a subkey"):
        apply_rule(column, ids)
