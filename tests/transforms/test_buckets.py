"""Buckets: Iceberg's own values, whatever the encoding of the ids."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from transforms.buckets import MIN_BUCKETS, POINTS_PER_BUCKET, bucket_of, default_bucket_count


@given(st.lists(st.text()), st.integers(1, 64))
def test_buckets_are_those_of_an_independent_murmur3(ids: list[str], bucket_count: int) -> None:
    expected = [BucketTransform(bucket_count).transform(StringType())(text) for text in ids]
    assert bucket_of(pa.array(ids, pa.string()), bucket_count).tolist() == expected


@given(st.lists(st.lists(st.sampled_from(["A", "B", "643006966022791278", "Ä"]))))
def test_buckets_do_not_depend_on_the_encoding(chunks: list[list[str]]) -> None:
    plain = pa.array([text for chunk in chunks for text in chunk], pa.string())
    expected = bucket_of(plain, 16).tolist()
    assert bucket_of(plain.dictionary_encode(), 16).tolist() == expected
    assert bucket_of(pa.chunked_array(chunks, pa.string()), 16).tolist() == expected


def test_the_hash_is_the_one_of_the_iceberg_specification() -> None:
    assert bucket_of(pa.array(["iceberg"]), 2**31 - 1).tolist() == [1210000089]


def test_a_null_has_no_bucket() -> None:
    with pytest.raises(ValueError, match="null"):
        bucket_of(pa.array(["A", None]), 8)


@given(st.integers(0, 10_000_000))
def test_the_default_suits_the_points_and_a_quarter_more(points: int) -> None:
    count = default_bucket_count(points)
    assert count >= MIN_BUCKETS
    assert count.bit_count() == 1
    assert points * 1.25 <= count * POINTS_PER_BUCKET
    assert count == MIN_BUCKETS or points * 1.25 > count // 2 * POINTS_PER_BUCKET


@pytest.mark.parametrize(("points", "count"), [(0, 2), (100_000, 2), (200_000, 4), (500_000, 8), (3_900_000, 64)])
def test_default_bucket_counts(points: int, count: int) -> None:
    assert default_bucket_count(points) == count
