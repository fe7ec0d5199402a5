import itertools
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources import text_rows
from pipeline.sources.text_rows import (
    LONGEST,
    WORD,
    as_slice,
    cut_rows,
    differ,
    find_all,
    find_byte,
    find_repeats,
    read_clock,
    read_decimals,
    read_digits,
)

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


@given(st.lists(st.integers(0, 20), unique=True).map(sorted))
def test_indices_that_follow_each_other_are_a_slice(indices):
    found = as_slice(np.array(indices, np.int64))
    assert np.arange(21)[found].tolist() == indices
    assert isinstance(found, slice) == (indices != [] and indices == list(range(indices[0], indices[-1] + 1)))


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


@given(st.binary(max_size=60), st.integers(0, 255), st.sampled_from([1, 7, 1 << 18]))
def test_every_place_of_a_byte_is_found(text, byte, searched):
    before, text_rows._SEARCHED = text_rows._SEARCHED, searched
    try:
        assert find_byte(text, byte).tolist() == [place for place, one in enumerate(text) if one == byte]
    finally:
        text_rows._SEARCHED = before


@given(
    st.lists(
        st.one_of(
            st.from_regex(rb"\A[0-9]{1,21}\Z"),
            st.from_regex(rb"\A[0-9]{1,10}[.][0-9]{1,11}\Z"),
            st.from_regex(rb"\A0[.]0{0,3}[0-9]{1,17}\Z"),
            st.from_regex(rb"\A[0-9.,/:-]{1,22}\Z"),
            st.binary(min_size=1, max_size=LONGEST),
        ),
        max_size=20,
    ),
    st.sampled_from([b".", b","]),
    st.binary(min_size=1, max_size=1),
)
def test_decimals_are_read_and_nothing_else_is(texts, sign, around):
    texts = [text.replace(b".", sign) for text in texts]
    padded = [around * (3 * WORD) + text for text in texts]
    data = b"".join(padded) + around * WORD
    stops, lengths = np.cumsum([len(text) for text in padded]), np.array([len(text) for text in texts])
    digits, decimals, good = read_decimals(data, stops.astype(np.int64), lengths.astype(np.int64), sign)
    form = re.compile(rb"([0-9]+)(?:" + re.escape(sign) + rb"([0-9]+))?")
    for text, number, places, one in zip(texts, digits.tolist(), decimals.tolist(), good.tolist(), strict=True):
        found = form.fullmatch(text)
        if one:
            assert (number, places) == (int(found[1] + (found[2] or b"")), len(found[2] or b""))
        else:  # with its sign as one more digit, it would be too great
            assert found is None or int(text.replace(sign, b"0")) >= 10**18


def test_a_clock_is_read_and_nothing_else_is():
    texts = [f"{hour:02d}:{minute:02d}".encode() for hour in range(100) for minute in range(100)]
    rows = np.frombuffer(b"".join(b"abc" + text for text in texts), np.uint8).reshape(-1, 8)
    minutes, good = read_clock(rows, 3)
    assert good.tolist() == [text[:2] < b"24" and text[3:] < b"60" for text in texts]
    assert minutes[good].tolist() == list(range(24 * 60))
    for place in range(5):
        for byte in range(256):
            text = b"00:00"[:place] + bytes([byte]) + b"00:00"[place + 1 :]
            is_clock = byte == ord(":") if place == 2 else byte in b"0123456789"[: (3, 10, 0, 6, 10)[place]]
            assert read_clock(np.frombuffer(b"abc" + text, np.uint8).reshape(1, 8), 3)[1].tolist() == [is_clock]


@given(ROWS, st.lists(st.booleans(), min_size=16, max_size=16))
def test_a_row_repeats_the_one_before_in_the_bytes_that_count(texts, counts):
    texts = [text for one in texts for text in (one, one, one[:15] + bytes([one[15] ^ 1]))]
    mask = bytes(0xFF * one for one in counts)
    told = [bytes(byte & bits for byte, bits in zip(text, mask, strict=True)) for text in texts]
    expected = [False] * bool(texts) + [one == other for one, other in itertools.pairwise(told)]
    assert find_repeats(as_rows(texts), mask).tolist() == expected
