"""What is written run by run and index by index is read back by every engine, and is what pyarrow would have written."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from unittest.mock import patch
from uuid import UUID

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.parquet import encode_rows
from pipeline.thrift import decode_struct, encode_struct
from schemas.views import ENERGY
from transforms.plan import Column, Dataset, Keep
from transforms.rows import repeat_runs

UTC_US = pa.timestamp("us", tz="UTC")
TYPES = {
    "word": pa.string(),
    "id": pa.uuid(),
    "flags": pa.int32(),
    "count": pa.int64(),
    "day": pa.date32(),
    "start": UTC_US,
    "energy": ENERGY,
    "share": pa.float64(),
    "known": pa.bool_(),
}
FEW = {
    "word": st.sampled_from(["", "OK", "sähkö", "x" * 300]),
    "id": st.integers(0, 3).map(lambda n: UUID(int=n).bytes),
    "flags": st.sampled_from([0, -1, 2**31 - 1]),
    "count": st.sampled_from([0, -(2**63), 2**63 - 1]),
    "day": st.integers(-3, 3),
    "start": st.integers(-3, 3).map(lambda n: n * 900_000_000),
    "energy": st.integers(-3, 3),
    "share": st.sampled_from([0.0, -1.5, 0.25]),
    "known": st.booleans(),
}


@st.composite
def columns(draw):
    """A name, whether it may be missing, and blocks: each with values, perhaps missing, and lengths of runs."""
    name = draw(st.sampled_from(list(TYPES)))
    required = draw(st.booleans())
    value = FEW[name] if required else st.one_of(st.none(), FEW[name])
    run = st.tuples(value, st.one_of(st.integers(1, 3), st.sampled_from([63, 64, 96, 8191, 8192])))
    blocks = draw(st.lists(st.lists(run, max_size=12), min_size=1, max_size=3))
    return name, required, blocks


def make(name: str, values: list) -> pa.Array:
    kind = TYPES[name]
    if name == "energy":
        return pa.array(values, pa.int64())
    return pa.array(values, pa.binary(16) if name == "id" else kind)


def dataset_of(**required: bool) -> Dataset:
    made = tuple(Column(name, name, Keep(), TYPES[name], needed, "") for name, needed in required.items())
    nobody: frozenset[str] = frozenset()
    return Dataset("analytics.test", "analytics", "readings", nobody, nobody, "", "none", {}, None, made)


def as_read(name: str, values: list) -> list:
    """Say values as pyarrow gives them back."""
    convert = {
        "id": lambda value: UUID(bytes=value),
        "energy": lambda value: Decimal(value).scaleb(-6),
        "day": lambda value: (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=value)).date(),
        "start": lambda value: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value),
    }.get(name, lambda value: value)
    return [None if value is None else convert(value) for value in values]


FORMS = {
    "runs": lambda values, ends: pa.RunEndEncodedArray.from_arrays(ends, values),
    "runs of a dictionary": lambda values, ends: pa.RunEndEncodedArray.from_arrays(ends, doubled(values)),
    "rows": lambda values, ends: repeat_runs(pa.RunEndEncodedArray.from_arrays(ends, values)),
}


def doubled(values: pa.Array) -> pa.Array:
    """Encode text in a dictionary that has every entry twice, and some that nobody uses."""
    if not pa.types.is_string(values.type):
        return values
    encoded = values.dictionary_encode()
    entries = pa.concat_arrays([encoded.dictionary, encoded.dictionary, pa.array(["unused"] * 40)])
    shift = len(encoded.dictionary) * (np.arange(len(values)) % 2)
    indices = pa.array(encoded.indices.fill_null(0).to_numpy() + shift, mask=values.is_null().to_numpy(False))
    return pa.DictionaryArray.from_arrays(indices.cast(pa.int32()), entries)


@pytest.mark.parametrize("form", FORMS)
@given(column=columns(), page_rows=st.sampled_from([500, 1 << 15]))
@example(column=("word", False, [[(None, 96)], [("OK", 8192), (None, 1)], []]), page_rows=1 << 15)
@example(column=("known", True, [[(True, 1)]]), page_rows=1 << 15)
@example(column=("energy", False, [[(1, 3), (None, 2), (2, 1), (3, 2)] * 3]), page_rows=8)
def test_values_come_back_as_they_went_in(form, column, page_rows):
    name, required, blocks = column
    tables = []
    for block in blocks:
        ends = pa.array(np.cumsum([length for _, length in block]).astype(np.int32))
        tables.append(pa.table({name: FORMS[form](make(name, [value for value, _ in block]), ends)}))
    with patch("pipeline.column_chunks._PAGE_ROWS", page_rows):
        content, rows = encode_rows(tables, dataset_of(**{name: required}), {"of": "a test"})
    expected = as_read(name, [value for block in blocks for value, length in block for _ in range(length)])
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        assert file.read()[name].to_pylist() == expected
        assert file.metadata.num_rows == rows == len(expected)
        assert [file.metadata.row_group(n).num_rows for n in range(len(blocks))] == [len(t) for t in tables]
        assert file.metadata.metadata == {b"of": b"a test"}
    if pa.types.is_string(TYPES[name]):
        read = pq.read_table(pa.BufferReader(content), read_dictionary=[name]).unify_dictionaries()
        assert read[name].to_pylist() == expected


@pytest.mark.parametrize("distinct", [1, 2, 255, 256, 257, 65_536, 65_537])
@pytest.mark.parametrize("missing", [False, True])
def test_every_width_of_indices_is_read_by_every_engine(tmp_path, distinct, missing):
    numbers = np.random.default_rng(7).permutation(np.arange(70_003) % distinct)
    mask = numbers % 11 == 0 if missing else None
    energy = pa.array(numbers, mask=mask)
    ids = pa.array([int(number).to_bytes(16) for number in numbers], pa.binary(16))
    words = pa.array([f"{number}" for number in numbers])
    table = pa.table({"id": ids, "word": words, "energy": energy, "count": pa.array(numbers)})
    content, _ = encode_rows([table, table.slice(5, 9)], dataset_of(id=True, word=True, energy=False, count=True), {})
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    expected = {
        "id": [str(UUID(bytes=value)) for value in ids.to_pylist()],
        "word": words.to_pylist(),
        "energy": as_read("energy", energy.to_pylist()),
        "count": numbers.tolist(),
    }
    expected = {name: [*values, *values[5:14]] for name, values in expected.items()}
    engines = {
        "duckdb": duckdb.sql(f"SELECT id::VARCHAR AS id, word, energy, count FROM '{path}'")
        .to_arrow_table()
        .to_pydict(),
        "pyarrow": pq.read_table(path).to_pydict(),
        "polars": pl.read_parquet(path).to_dict(as_series=False),
    }
    engines["pyarrow"]["id"] = [str(value) for value in engines["pyarrow"]["id"]]
    engines["polars"]["id"] = [str(UUID(bytes=value)) for value in engines["polars"]["id"]]
    for engine, found in engines.items():
        for name, values in expected.items():
            assert found[name] == values, (engine, name)


def test_what_comes_in_runs_costs_by_the_run():
    """A point's day is as small as a point's year."""
    sizes = []
    for length in (96, 96 * 365):
        ends = pa.array((np.arange(1, 101) * length).astype(np.int32))
        words = pa.RunEndEncodedArray.from_arrays(ends, pa.array([f"point {n}" for n in range(100)]))
        sizes.append(len(encode_rows([pa.table({"word": words})], dataset_of(word=True), {})[0]))
    assert sizes[1] - sizes[0] < 150


values_of_thrift = st.recursive(
    st.one_of(
        st.tuples(st.just(5), st.integers(-(2**31), 2**31 - 1)),
        st.tuples(st.just(6), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just(4), st.integers(-(2**15), 2**15 - 1)),
        st.tuples(st.just(3), st.integers(-128, 127)),
        st.tuples(st.just(8), st.binary(max_size=200)),
        st.tuples(st.sampled_from([1, 2]), st.none()),
    ),
    lambda inner: st.one_of(
        st.tuples(st.just(12), st.dictionaries(st.integers(1, 300), inner, max_size=5)),
        st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40).map(lambda items: (9, (5, items))),
        st.lists(st.booleans(), max_size=20).map(lambda items: (9, (1, items))),
        st.lists(st.dictionaries(st.integers(1, 300), inner, max_size=3), max_size=20).map(lambda i: (9, (12, i))),
    ),
)


@given(fields=st.dictionaries(st.integers(1, 30_000), values_of_thrift, max_size=20))
def test_structures_are_read_back(fields):
    assert decode_struct(encode_struct(fields)) == fields


def test_a_footer_of_pyarrow_is_read_and_written_back_byte_by_byte():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: pa.nulls(3, kind) for name, kind in TYPES.items()}), sink)
    content = sink.getvalue().to_pybytes()
    footer = content[-8 - int.from_bytes(content[-8:-4], "little") : -8]
    assert encode_struct(decode_struct(footer)) == footer
