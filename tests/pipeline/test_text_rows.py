import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources import text_rows
from pipeline.sources.text_rows import WORD, cut_rows, differ, find_all, read_digits

ROWS = st.lists(st.binary(min_size=16, max_size=16), min_size=0, max_size=20)


def as_rows(texts):
    return np.frombuffer(b"".join(texts), np.uint8).reshape(len(texts), 16)


@given(
    st.text("<>OBSabc", max_size=200), st.sampled_from(["<OBS>", "ab", "aab", "O<"]), st.sampled_from([1, 7, 1 << 15])
)
def test_every_place_of_a_mark_is_found(text, mark, looked_at):
    before, text_rows._LOOKED_AT = text_rows._LOOKED_AT, looked_at
    try:
        found = find_all(text.encode(), mark.encode())
    finally:
        text_rows._LOOKED_AT = before
    assert found.tolist() == [match.start() for match in re.finditer(f"(?={mark})", text)]


def test_rows_are_what_stands_there():
    data = b"0123456789"
    assert [row.tobytes() for row in cut_rows(data, np.array([0, 6, 2]), 4)] == [b"0123", b"6789", b"2345"]
    assert cut_rows(data, np.zeros(0, np.int64), 4).shape == (0, 4)


@given(ROWS, st.binary(min_size=16, max_size=16), st.lists(st.booleans(), min_size=16, max_size=16))
def test_rows_differ_where_a_byte_that_counts_does(texts, pattern, counts):
    texts = [*texts, pattern, pattern[:15] + bytes([pattern[15] ^ 1])]
    mask = bytes(0xFF * one for one in counts)
    expected = [
        any(one != other and count for one, other, count in zip(text, pattern, counts, strict=True)) for text in texts
    ]
    assert differ(as_rows(texts), pattern, mask).tolist() == expected


@given(
    st.lists(st.one_of(st.binary(min_size=16, max_size=16), st.from_regex(rb"\A[0-9]{16}\Z")), max_size=20),
    st.integers(WORD, 16),
    st.integers(0, WORD),
)
def test_digits_are_read_as_numbers_and_nothing_else_is(texts, stop, count):
    numbers, good = read_digits(as_rows(texts), stop, count)
    parts = [text[stop - count : stop] for text in texts]
    digits = [all(byte in b"0123456789" for byte in part) for part in parts]
    assert good.tolist() == digits
    assert numbers[good].tolist() == [int(part or b"0") for part, one in zip(parts, digits, strict=True) if one]


@given(st.integers(0, 15), st.integers(0, 255))
def test_a_byte_that_is_no_digit_is_seen_wherever_it_stands(place, byte):
    text = bytearray(b"9" * 16)
    text[place] = byte
    _, good = read_digits(as_rows([bytes(text)]), 16, 8)
    assert good.tolist() == [place < 8 or byte in b"0123456789"]
