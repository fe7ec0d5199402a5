"""Reference snapshots: built from each format, cut by bucket, complete, private, and refused with a reason."""

import datetime as dt
import json
import os
import pickle
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import BadFileError, MeterveilError
from pipeline.feeds import read_feed
from pipeline.reference import NO_REFERENCE, Snapshot, build_snapshot, open_snapshot
from pipeline.thrift import decode_struct, encode_struct
from schemas.reference import CONTRACTS_SCHEMA, CUSTOMERS_SCHEMA, POINTS_SCHEMA, REFERENCE_FEEDS, SITES_SCHEMA
from transforms.buckets import bucket_of
from transforms.customers import CUSTOMERS_VIEW_SCHEMA
from transforms.series import canonical_ids

Row = Mapping[str, Any]
Feeds = Mapping[str, Sequence[Row]]

_UTC = dt.UTC
_POINT = "643006966022791278"


def _site(point: str, **other: object) -> Row:
    return {"metering_point_id": point, "site_id": f"S-{point}", "direction": "consumption", "fuse_a": 25, **other}


def _contract(contract: str, point: str, customer: str, **other: object) -> Row:
    return {
        "contract_id": contract,
        "metering_point_id": point,
        "customer_id": customer,
        "valid_from": dt.date(2026, 1, 1),
        "signed_at": dt.datetime(2025, 12, 1, 8, 30, 0, 123456, tzinfo=_UTC),
        **other,
    }


def _customer(customer: str, **other: object) -> Row:
    return {"customer_id": customer, "kind": "person", "information_restriction": False, **other}


_FEEDS: Feeds = {
    "sites": [_site(f"P{number:02d}", postal_code="00100", street_address='Katu "1", A') for number in range(30)],
    "contracts": [
        _contract(f"K{number:02d}", f"P{number % 20:02d}", f"C{number % 12:02d}", valid_to=dt.date(2026, 2, 1))
        for number in range(25)
    ],
    "customers": [_customer(f"C{number:02d}", name=f"Näme {number}") for number in range(15)],
}


def _avro_schema(schema: pa.Schema) -> dict[str, Any]:
    types: dict[pa.DataType, Any] = {
        pa.string(): "string",
        pa.int32(): "int",
        pa.bool_(): "boolean",
        pa.date32(): {"type": "int", "logicalType": "date"},
        pa.timestamp("us", "UTC"): {"type": "long", "logicalType": "timestamp-micros"},
    }
    fields = [{"name": field.name, "type": ["null", types[field.type]]} for field in schema]
    return {"type": "record", "name": "feed", "fields": fields}


def _write(folder: Path, feeds: Feeds, suffix: str = ".parquet") -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in feeds.items():
        schema = REFERENCE_FEEDS[name]
        table = pa.Table.from_pylist(list(rows), schema=schema)
        path = folder / f"{name}{suffix}"
        match suffix:
            case ".parquet":
                pq.write_table(table, path)
            case ".csv":
                pv.write_csv(table, path)
            case ".avro":
                with path.open("wb") as file:
                    fastavro.writer(file, _avro_schema(schema), table.to_pylist())
    return folder


def _all_rows(snapshot: Snapshot, kind: str) -> list[Row]:
    tables = [getattr(snapshot, kind)(bucket) for bucket in range(snapshot.bucket_count)]
    return pa.concat_tables(tables).to_pylist()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    points=st.sets(st.integers(0, 40)),
    contracts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20))),
    customers=st.sets(st.integers(0, 20)),
    bucket_count=st.sampled_from([1, 2, 4]),
)
def test_every_row_is_in_its_bucket_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    points: set[int],
    contracts: list[tuple[int, int]],
    customers: set[int],
    bucket_count: int,
) -> None:
    folder = tmp_path_factory.mktemp("reference")
    feeds: Feeds = {
        "sites": [_site(f"P{point}") for point in points],
        "contracts": [_contract(f"K{n}", f"P{point}", f"C{who}") for n, (point, who) in enumerate(contracts)],
        "customers": [_customer(f"C{who}") for who in customers],
    }
    snapshot = build_snapshot(_write(folder / "in", feeds), folder / "lake", bucket_count)
    for kind, feed, key, schema in (
        ("points", "sites", "metering_point_id", POINTS_SCHEMA),
        ("occupancies", "contracts", "metering_point_id", CONTRACTS_SCHEMA),
        ("customers", "customers", "customer_id", CUSTOMERS_VIEW_SCHEMA),
    ):
        for bucket in range(bucket_count):
            rows = getattr(snapshot, kind)(bucket)
            assert rows.schema == schema
            assert set(bucket_of(rows[key], bucket_count).tolist()) <= {bucket}
            assert rows[key].to_pylist() == sorted(rows[key].to_pylist())
        if kind != "customers":
            unique = "contract_id" if kind == "occupancies" else key
            said = [{"withheld": False, **row} for row in feeds[feed]]
            expected = pa.Table.from_pylist(said, schema=schema).to_pylist()
            assert sorted(_all_rows(snapshot, kind), key=lambda row: row[unique]) == sorted(
                expected, key=lambda row: row[unique]
            )
    served = {(f"C{who}", f"K{n}") for n, (_, who) in enumerate(contracts) if who in customers}
    idle = {(f"C{who}", None) for who in customers - {who for _, who in contracts}}
    view = _all_rows(snapshot, "customers")
    assert {(row["customer_id"], row["contract_id"]) for row in view} == served | idle
    assert len(view) == len(served | idle)
    manifest = json.loads((folder / "lake" / snapshot.version / "manifest.json").read_text())
    assert manifest["counts"] == {
        "sites": len(points),
        "contracts": len(contracts),
        "customers": len(customers),
        "contracts without site": sum(point not in points for point, _ in contracts),
        "contracts without customer": sum(who not in customers for _, who in contracts),
    }


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".avro"])
def test_each_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    plain = build_snapshot(_write(tmp_path / "in", _FEEDS), tmp_path / "one", 4)
    other = build_snapshot(_write(tmp_path / "other", _FEEDS, suffix), tmp_path / "two", 4)
    for bucket in range(4):
        assert other.points(bucket).equals(plain.points(bucket))
        assert other.occupancies(bucket).equals(plain.occupancies(bucket))
        assert other.customers(bucket).equals(plain.customers(bucket))


@given(ids=st.lists(st.one_of(st.text(alphabet=" aBäÄ\u0041\u030a\tß-1", min_size=1), st.just("c-1 ")), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ids_are_canonical(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    path = tmp_path_factory.mktemp("feed") / "customers.parquet"
    pq.write_table(pa.Table.from_pylist([_customer(f"C{text}") for text in ids], schema=CUSTOMERS_SCHEMA), path)
    (batch,) = read_feed("customers", path)
    expected = canonical_ids(pa.array([f"C{text}" for text in ids])).to_pylist()
    assert batch["customer_id"].to_pylist() == expected


def test_ids_that_differ_only_in_form_meet(tmp_path: Path) -> None:
    feeds: Feeds = {
        "sites": [_site("p1 ")],
        "contracts": [_contract("k1", " P1", "c1")],
        "customers": [_customer("C1")],
    }
    snapshot = build_snapshot(_write(tmp_path / "in", feeds), tmp_path / "lake", 2)
    (row,) = _all_rows(snapshot, "customers")
    assert (row["customer_id"], row["contract_id"], row["metering_point_id"], row["site_id"]) == (
        "C1",
        "K1",
        "P1",
        "S-P1",
    )


def test_types_of_the_same_kind_are_taken(tmp_path: Path) -> None:
    _write(tmp_path / "in", {"sites": _FEEDS["sites"]})
    table = pa.Table.from_pylist(list(_FEEDS["sites"]), schema=SITES_SCHEMA)
    table = table.set_column(9, "fuse_a", table["fuse_a"].cast(pa.int64()))
    table = table.set_column(4, "postal_code", table["postal_code"].dictionary_encode())
    table = table.set_column(1, "site_id", table["site_id"].cast(pa.large_string()))
    pq.write_table(table, tmp_path / "in" / "sites.parquet")
    snapshot = build_snapshot(tmp_path / "in", tmp_path / "lake", 2)
    assert snapshot.points(0).schema == POINTS_SCHEMA


def test_a_feed_in_many_batches_gives_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _write(tmp_path / "in", _FEEDS)
    whole = build_snapshot(source, tmp_path / "one", 2)
    monkeypatch.setattr("pipeline.feeds._BATCH_ROWS", 7)
    parts = build_snapshot(source, tmp_path / "two", 2)
    for kind in ("points", "occupancies", "customers"):
        assert _all_rows(parts, kind) == _all_rows(whole, kind)


@pytest.mark.parametrize("bucket_count", [1, 8])
def test_a_site_is_withheld_as_soon_as_a_restricted_person_ever_has_a_contract_there(
    tmp_path: Path, bucket_count: int
) -> None:
    feeds: Feeds = {
        "sites": [_site(f"P{number:02d}", site_id=f"S{number // 2}") for number in range(20)],  # two points each
        "contracts": [
            _contract("K0", "P00", "C0"),
            _contract("K1", "P04", "C1", valid_to=dt.date(2026, 2, 1)),  # over
            _contract("K2", "P04", "C2", valid_from=dt.date(2026, 2, 1)),
            _contract("K3", "P06", "C2"),
            _contract("K4", "P99", "C1"),  # at no site that is known
        ],
        "customers": [_customer(f"C{number}", information_restriction=number == 1) for number in range(3)],
    }
    snapshot = build_snapshot(_write(tmp_path / "in", feeds), tmp_path / "lake", bucket_count)
    rows = _all_rows(snapshot, "points")
    assert {row["metering_point_id"] for row in rows if row["withheld"]} == {"P04", "P05"}
    assert len(rows) == 20
    assert snapshot.find_damage() == []


def test_contracts_and_customers_may_be_absent(tmp_path: Path) -> None:
    snapshot = build_snapshot(_write(tmp_path / "in", {"sites": _FEEDS["sites"]}), tmp_path / "lake", 2)
    assert len(_all_rows(snapshot, "points")) == 30
    assert _all_rows(snapshot, "occupancies") == _all_rows(snapshot, "customers") == []


def test_the_same_input_gives_the_same_version_and_is_not_built_again(tmp_path: Path) -> None:
    source, root = _write(tmp_path / "in", _FEEDS), tmp_path / "lake"
    first = build_snapshot(source, root, 2)
    made = (root / first.version / "manifest.json").stat().st_mtime_ns
    assert build_snapshot(source, root, 2) == first
    assert (root / first.version / "manifest.json").stat().st_mtime_ns == made
    assert build_snapshot(source, root, 4).version != first.version
    _write(source, {"customers": [_customer("C99")]})
    assert build_snapshot(source, root, 2).version != first.version


def test_no_reference_knows_nothing() -> None:
    assert NO_REFERENCE.points(7).equals(POINTS_SCHEMA.empty_table())
    assert NO_REFERENCE.occupancies(7).equals(CONTRACTS_SCHEMA.empty_table())
    assert NO_REFERENCE.customers(7).equals(CUSTOMERS_VIEW_SCHEMA.empty_table())
    assert NO_REFERENCE.find_damage() == []


def test_a_snapshot_is_small_to_send(tmp_path: Path) -> None:
    snapshot = build_snapshot(_write(tmp_path / "in", _FEEDS), tmp_path / "lake", 2)
    sent = pickle.dumps(snapshot)
    assert len(sent) < 500
    assert pickle.loads(sent).points(0).equals(snapshot.points(0))  # noqa: S301 - our own bytes


def test_slices_are_mapped_not_read(tmp_path: Path) -> None:
    snapshot = build_snapshot(_write(tmp_path / "in", _FEEDS), tmp_path / "lake", 2)
    before = pa.total_allocated_bytes()
    rows = snapshot.points(0)
    assert rows.num_rows
    assert pa.total_allocated_bytes() - before < rows.nbytes


def test_only_the_owner_can_read_and_nothing_is_left_over(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    old = os.umask(0)
    try:
        snapshot = build_snapshot(_write(tmp_path / "in", _FEEDS), root, 2)
    finally:
        os.umask(old)
    assert {path.name for path in root.iterdir()} == {snapshot.version}
    for path in (root, *root.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_damage_is_found(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    snapshot = build_snapshot(_write(tmp_path / "in", _FEEDS), root, 2)
    assert snapshot.find_damage() == []
    path = root / snapshot.version / "points-00001.arrow"
    path.write_bytes(path.read_bytes()[:-100])
    (root / snapshot.version / "customers-00000.arrow").unlink()
    assert snapshot.find_damage() == ["customers-00000.arrow", "points-00001.arrow"]
    for read in (lambda: snapshot.points(1), lambda: snapshot.customers(0)):
        with pytest.raises(MeterveilError, match="damaged"):
            read()


@pytest.mark.parametrize("version", ["0123456789abcdef", "../in", ""])
def test_an_unknown_version_is_refused(tmp_path: Path, version: str) -> None:
    build_snapshot(_write(tmp_path / "in", _FEEDS), tmp_path / "lake", 2)
    with pytest.raises(MeterveilError, match="no such snapshot"):
        open_snapshot(tmp_path / "lake", version)


_BAD_ROWS: dict[str, tuple[Feeds, str]] = {
    "repeated point": (
        {"sites": [_site(_POINT), _site(f" {_POINT}"), _site("P2")]},
        "metering_point_id there before: 1",
    ),
    "direction": ({"sites": [_site(_POINT, direction="sideways")]}, "direction neither .*: 1 rows"),
    "no site": ({"sites": [_site(_POINT, site_id=" ")]}, "no site_id: 1 rows"),
    "empty validity": (
        {
            "sites": [],
            "contracts": [
                _contract("K1", _POINT, "C1", valid_to=dt.date(2026, 1, 1)),
                _contract("K2", _POINT, "C1", valid_to=dt.date(2025, 12, 31)),
                _contract("K3", _POINT, "C1", valid_to=dt.date(2026, 1, 2)),
            ],
        },
        "valid_to not after valid_from: 2 rows",
    ),
    "repeated customer": ({"sites": [], "customers": [_customer(_POINT)] * 3}, "customer_id there before: 2"),
    "kind": ({"sites": [], "customers": [_customer(_POINT, kind="dog")]}, "kind neither .*: 1 rows"),
}


@pytest.mark.parametrize("case", _BAD_ROWS)
def test_rows_that_break_a_rule_are_refused_with_their_count(tmp_path: Path, case: str) -> None:
    feeds, message = _BAD_ROWS[case]
    with pytest.raises(MeterveilError, match=message) as caught:
        build_snapshot(_write(tmp_path / "in", feeds), tmp_path / "lake", 2)
    assert _POINT not in str(caught.value)
    assert list((tmp_path / "lake").iterdir()) == []


def test_a_missing_required_value_is_counted(tmp_path: Path) -> None:
    _write(tmp_path, {"sites": [_site("P1"), _site("P2")]})
    table = pq.read_table(tmp_path / "sites.parquet")
    table = table.set_column(0, "metering_point_id", pa.array([None, "P2"]))
    pq.write_table(table, tmp_path / "sites.parquet")
    with pytest.raises(MeterveilError, match="no metering_point_id: 1 rows"):
        build_snapshot(tmp_path, tmp_path / "lake", 2)


_CSV_HEADER = ",".join(CONTRACTS_SCHEMA.names)
_GOOD = f"K1,{_POINT},C1,spot,2026-01-01,,2025-12-01T00:00:00Z"
_BAD_CSV = {
    "": "contract_id is missing",
    f"{_GOOD}\n{_GOOD}\n": "contract_id is missing",
    f"{_CSV_HEADER},{_POINT}\n{_GOOD},1\n": "column number 8 is unknown",
    f"{_CSV_HEADER},tariff\n{_GOOD},1\n": "tariff is there twice",
    f"{_CSV_HEADER}\n{_GOOD.replace('2026-01-01', _POINT)}\n": "valid_from does not fit",
    f"{_CSV_HEADER}\n{_GOOD.replace('00Z', '00')}\n": "signed_at does not fit",
    f"{_CSV_HEADER}\n{_GOOD},{_POINT}\n": "can't be read as csv",
    f"{_CSV_HEADER}\n{_GOOD}": "its last line does not end",
    f"{_CSV_HEADER}\n{_GOOD}\n{_GOOD[:9]}": "its last line does not end",
    _CSV_HEADER: "its last line does not end",
}


@pytest.mark.parametrize("text", _BAD_CSV)
def test_a_csv_that_is_not_the_feed_is_refused(tmp_path: Path, text: str) -> None:
    _write(tmp_path, {"sites": []})
    (tmp_path / "contracts.csv").write_text(text)
    with pytest.raises(BadFileError, match=_BAD_CSV[text]) as caught:
        build_snapshot(tmp_path, tmp_path / "lake", 2)
    assert str(caught.value).startswith("contracts.csv: ")
    assert _POINT not in str(caught.value)


def test_a_csv_may_order_its_columns_and_begin_with_a_mark(tmp_path: Path) -> None:
    _write(tmp_path, {"sites": []})
    names = [f'"{name}"' for name in reversed(_CSV_HEADER.split(","))]
    text = "\ufeff" + ",".join(names) + "\r\n" + ",".join(reversed(_GOOD.split(","))) + "\r\n"
    (tmp_path / "contracts.csv").write_text(text)
    (row,) = _all_rows(build_snapshot(tmp_path, tmp_path / "lake", 2), "occupancies")
    assert row == _contract("K1", _POINT, "C1", tariff="spot", valid_to=None) | {
        "signed_at": dt.datetime(2025, 12, 1, tzinfo=_UTC)
    }


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("postal_code", pa.array([100])),
        ("metering_point_id", pa.array([int(_POINT)])),
        ("fuse_a", pa.array([2**40])),
        ("fuse_a", pa.array([2.5])),
    ],
)
def test_a_wrong_type_is_refused(tmp_path: Path, column: str, values: pa.Array) -> None:
    _write(tmp_path, {"sites": [_site("P1")]})
    table = pq.read_table(tmp_path / "sites.parquet")
    pq.write_table(table.set_column(table.column_names.index(column), column, values), tmp_path / "sites.parquet")
    with pytest.raises(BadFileError, match=rf"sites.parquet: column {column} does not fit its type"):
        build_snapshot(tmp_path, tmp_path / "lake", 2)


@pytest.mark.parametrize("suffix", [".parquet", ".avro"])
@pytest.mark.parametrize("keep", [0, 3, 0.5, -20, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    path = _write(tmp_path, _FEEDS, suffix) / f"contracts{suffix}"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if keep == 0.5 else int(keep)])
    problem = rf"contracts{suffix}(: can't be read as {suffix[1:]}|, byte \d+: the file ends)"
    with pytest.raises(BadFileError, match=problem):
        build_snapshot(tmp_path, tmp_path / "lake", 2)
    assert list((tmp_path / "lake").iterdir()) == []


@pytest.mark.parametrize("more", [-1, 1])
def test_a_feed_of_other_rows_than_its_footer_says_is_refused(tmp_path: Path, more: int) -> None:
    path = _write(tmp_path, _FEEDS) / "contracts.parquet"
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    footer = decode_struct(whole[-8 - length : -8])
    group = footer[4][1][1][0]
    for fields in (footer, group):
        fields[3] = (fields[3][0], fields[3][1] + more)
    changed = encode_struct(footer)
    path.write_bytes(whole[: -8 - length] + changed + len(changed).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(BadFileError, match=r"contracts.parquet: can't be read as parquet"):
        list(read_feed("contracts", path))


def test_a_folder_without_sites_or_with_a_feed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeterveilError, match="no such folder"):
        build_snapshot(tmp_path / "nowhere", tmp_path / "lake", 2)
    with pytest.raises(MeterveilError, match="no sites"):
        build_snapshot(tmp_path, tmp_path / "lake", 2)
    _write(_write(tmp_path, _FEEDS), _FEEDS, ".csv")
    with pytest.raises(MeterveilError, match=r"sites.parquet and sites.csv"):
        build_snapshot(tmp_path, tmp_path / "lake", 2)


def test_a_snapshot_that_another_run_made_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, root = _write(tmp_path / "in", _FEEDS), tmp_path / "lake"
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        build_snapshot(source, root, 2)
        return self.rename(target)

    monkeypatch.setattr(Path, "rename", late)
    snapshot = build_snapshot(source, root, 2)
    assert snapshot.find_damage() == []
    assert {path.name for path in root.iterdir()} == {snapshot.version}
    assert pc.sum(pa.array([snapshot.points(bucket).num_rows for bucket in range(2)])).as_py() == 30
