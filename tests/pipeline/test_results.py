import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import MeterveilError
from pipeline.results import RESULT_FORMATS, write_result

HELSINKI = "Europe/Helsinki"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("start", pa.timestamp("us", tz=HELSINKI)),
        ("energy", pa.decimal128(38, 6)),
        ("share", pa.float64()),
        ("n", pa.int64()),
        ("known", pa.bool_()),
        ("day", pa.date32()),
        ("list", pa.list_(pa.int32())),
    ]
)
rows = st.fixed_dictionaries(
    {
        "id": st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
        "start": st.none() | st.integers(0, 2 * 10**9).map(lambda second: datetime.fromtimestamp(second, UTC)),
        "energy": st.none() | st.integers(-(10**20), 10**20).map(lambda value: Decimal(value).scaleb(-6)),
        "share": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "known": st.none() | st.booleans(),
        "day": st.none() | st.dates(),
        "list": st.none() | st.lists(st.integers(0, 9), max_size=2),
    }
)
tables = st.lists(rows, max_size=4).map(lambda values: pa.Table.from_pylist(values, SCHEMA))


def written(table: pa.Table, format_name: str) -> bytes:
    stream = io.BytesIO()
    write_result(table, format_name, stream)
    return stream.getvalue()


@given(table=tables)
def test_json_keeps_every_digit(table):
    back = json.loads(written(table, "json"), parse_float=Decimal)
    for row, expected in zip(back, table.to_pylist(), strict=True):
        assert (row["id"], row["n"], row["known"], row["list"]) == tuple(
            expected[name] for name in ("id", "n", "known", "list")
        )
        assert row["energy"] == expected["energy"]
        assert (row["share"] is None) == (expected["share"] is None)
        assert row["share"] is None or float(row["share"]) == expected["share"]
        assert row["start"] is None or datetime.fromisoformat(row["start"]) == expected["start"]
        assert row["day"] is None or date.fromisoformat(row["day"]) == expected["day"]


@given(table=tables)
def test_csv_keeps_every_digit(table):
    back = list(csv.DictReader(io.StringIO(written(table, "csv").decode(), newline="")))
    for row, expected in zip(back, table.to_pylist(), strict=True):
        assert row["id"] == (expected["id"] or "")
        assert (Decimal(row["energy"]) if row["energy"] else None) == expected["energy"]
        assert not row["start"] or datetime.fromisoformat(row["start"]) == expected["start"]


@given(table=tables)
def test_parquet_is_the_same_table(table):
    assert pq.read_table(pa.BufferReader(written(table, "parquet"))).equals(table)


def test_known_answers():
    start = datetime(2026, 3, 29, 3, 59, 59, tzinfo=ZoneInfo(HELSINKI))
    table = pa.Table.from_pylist(
        [{"id": "a", "start": start, "energy": Decimal("0.000001"), "share": float("inf")}], SCHEMA
    )
    table = table.select(["id", "start", "energy", "share"])
    stamp = start.astimezone(UTC).astimezone(ZoneInfo(HELSINKI)).isoformat()
    assert (
        written(table, "json").decode()
        == f'[\n{{"id": "a", "start": "{stamp}", "energy": 0.000001, "share": null}}\n]\n'
    )
    assert written(table, "csv").decode() == f'"id","start","energy","share"\n"a","{stamp}",0.000001,inf\n'


def test_a_table_in_a_pipe_is_as_wide_as_it_needs():
    text = written(pa.table({"name": ["x" * 300, None], "[b]": ["[red]", "å"]}), "table").decode()
    assert "x" * 300 in text
    assert "[red]" in text
    assert "[b]" in text


def test_no_rows_are_no_trouble():
    for name in RESULT_FORMATS:
        assert written(SCHEMA.empty_table(), name)
    assert json.loads(written(SCHEMA.empty_table(), "json")) == []


def test_an_unknown_format_is_refused():
    with pytest.raises(MeterveilError, match="table, csv, json, parquet"):
        written(SCHEMA.empty_table(), "xlsx")
