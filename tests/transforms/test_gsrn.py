"""GSRN check digits, beside python-stdnum."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import ean

from transforms.gsrn import check_gsrn

_LIKELY = st.from_regex(r"[0-9]{17}", fullmatch=True).flatmap(
    lambda body: st.sampled_from([body + ean.calc_check_digit(body), body + "0", body])
)


@given(st.lists(st.one_of(st.none(), _LIKELY, st.text(max_size=20))), st.integers(0, 3))
def test_agrees_with_stdnum(ids: list[str | None], skipped: int) -> None:
    # stdnum takes spaces and hyphens out and knows shorter numbers: a GSRN is 18 ASCII digits and nothing else.
    expected = [
        text is not None
        and len(text) == 18
        and text.isascii()
        and text.isdigit()
        and ean.calc_check_digit(text[:-1]) == text[-1]
        for text in ids
    ]
    assert check_gsrn(pa.array(ids, pa.string()).slice(skipped)).tolist() == expected[skipped:]


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("643006966022791278", True),
        ("643003825107340356", True),
        ("640602010768992653", True),
        ("642502030419633983", True),
        ("571313180400013562", False),
        ("643006966022791279", False),
        ("64300696602279127", False),
        ("64300696602279127/", False),
        ("64300696602279127:", False),
        ("6430:3825107340356", False),
        ("", False),
    ],
)
def test_known_answers(text: str, valid: bool) -> None:  # noqa: FBT001 - a table of answers
    assert check_gsrn(pa.array([text])).tolist() == [valid]


def test_an_error_in_any_one_digit_is_found() -> None:
    valid = "643006966022791278"
    wrong = [
        valid[:place] + digit + valid[place + 1 :]
        for place in range(18)
        for digit in "0123456789"
        if digit != valid[place]
    ]
    assert not check_gsrn(pa.array(wrong)).any()
