"""Runs of the whole job, and a look at its tables that goes by the list of files alone: what tests of ingest share."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pytest

from pipeline.iceberg import current_files
from pipeline.keys import create_keyset
from pipeline.lake import open_lake
from pipeline.launch import IngestRequest, run_ingest
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.sources.base import ReadOptions
from schemas.flags import Flag

#: Tables that say in which runs something happened; every other depends on what was delivered alone.
OF_RUNS = {"operational.runs", "operational.changes", "operational.releases"}
DATA_TABLES = tuple(sorted(set(load_policy(DEFAULT_POLICY).datasets) - OF_RUNS))
CELL_TABLES = ("operational.readings", "operational.billing_daily", "analytics.readings", "analytics.daily")
#: Runs that take minutes are for a release, or whoever asks for them.
large = pytest.mark.skipif(
    not os.environ.get("METERVEIL_TEST_LARGE"), reason="takes minutes: set METERVEIL_TEST_LARGE=1 to run it"
)
#: Decimals with six places as whole millionths.
MWH = "coalesce(sum(cast(energy * 1000000 AS hugeint)), 0)::hugeint"


def make_keys(folder: Path) -> dict[str, Any]:
    """Make a keyset; the arguments of a request that name it."""
    keyset, kek = folder / "keyset.json", str(folder / "kek.bin")
    create_keyset(keyset, kek)
    return {"keyset": keyset, "kek": kek}


def ingest(lake: Path, readings: Sequence[Path | str], keys: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Ingest in this process; the run's record. Options are those of a request or of how to read."""
    known = set(ReadOptions.__dataclass_fields__)
    read = ReadOptions(**{name: str(value) for name, value in options.items() if name in known})
    rest = {name: value for name, value in options.items() if name not in known}
    # What the ledger spares is looked at in test_ledger: here files are merged however often they come.
    given = {"threads": 2, "force": True} | keys | rest
    request = IngestRequest([str(path) for path in readings], lake, read=read, **given)
    # What a power failure leaves is not looked at here, and waiting for the disk would be most of the time.
    with patch("os.fsync"):
        return run_ingest(request)


def paths_of(lake: Path, table: str) -> list[str]:
    """List the current data files of a table."""
    return sorted(file.path for file in current_files(open_lake(lake).table(table)))


def query(lake: Path, table: str, sql: str) -> list[tuple[Any, ...]]:
    """Ask DuckDB about ``t``, the rows of a table."""
    paths = paths_of(lake, table)
    if not paths:
        return []
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.from_parquet(paths, hive_partitioning=False).create_view("t")
        return connection.execute(sql).fetchall()


def rows_of(lake: Path, table: str, columns: str = "*") -> pa.Table:
    """Read the rows of a table, in an order that depends on nothing but the rows."""
    return rows_in(paths_of(lake, table), columns)


def rows_in(paths: Sequence[str], columns: str = "*") -> pa.Table:
    """Read the rows of data files, in an order that depends on nothing but the rows."""
    if not paths:
        return pa.table({})
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.from_parquet(paths, hive_partitioning=False).project(columns).order("ALL")
        return rows.to_arrow_table()


def assert_same_rows(one: Path, other: Path, tables: Sequence[str] = DATA_TABLES) -> None:
    """Compare two lakes that were made with one keyset, every column of every row."""
    for table in tables:
        assert rows_of(one, table).equals(rows_of(other, table)), table


def work_out_truth(lake: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Say of a lake, after a run into an empty one, what ``truth.json`` says of a fleet."""
    counts, energies = record["totals"]["counts"], record["totals"]["energies"]

    def recorded(name: str) -> dict[str, int]:
        return {"count": counts.get(name, 0), "energy_mwh": energies.get(name, 0)}

    def kinds(name: str) -> dict[str, dict[str, int]]:
        return {key.partition(":")[2]: recorded(key) for key in counts if key.startswith(f"{name}:")}

    superseded = kinds("superseded")
    [(rows, energy)] = query(lake, "operational.readings", f"SELECT count(*), {MWH} FROM t")
    flags = ", ".join(f"count(*) FILTER (flags & {int(flag)} != 0)" for flag in Flag)
    [found] = query(lake, "operational.readings", f"SELECT {flags} FROM t")
    return {
        "readings_delivered": counts["delivered"],
        "energy_delivered_mwh": energies["delivered"],
        "rows_final": rows,
        "energy_final_mwh": energy,
        "superseded": {part: sum(kind[part] for kind in superseded.values()) for part in ("count", "energy_mwh")},
        "superseded_by_kind": superseded,
        "quarantined": kinds("quarantined"),
        "quarantine_table": dict(
            query(lake, "operational.quarantine_readings", "SELECT reason, count(*) FROM t GROUP BY ALL")
        ),
        "status": dict(query(lake, "operational.readings", "SELECT status, count(*) FROM t GROUP BY ALL")),
        "flags": {flag.name.lower(): count for flag, count in zip(Flag, found, strict=True)},
        "dates": _tell_dates(lake),
    }


def _tell_dates(lake: Path) -> dict[str, dict[str, Any]]:
    parts = {
        "": "true",
        "consumption": "direction = 'consumption'",
        "production": "direction = 'production'",
        "with_customer": "customer_id IS NOT NULL",
        "without_customer": "customer_id IS NULL",
    }
    energy = "coalesce(sum(cast(energy * 1000000 AS hugeint)) FILTER ({where}), 0)::hugeint"
    sums = ", ".join(f"count(*) FILTER ({where}), {energy.format(where=where)}" for where in parts.values())
    numbers = "coalesce(sum(cast(substr(customer_id, 3) AS bigint) - 10000000), 0)::hugeint"
    told = {}
    for day, customers, *found in query(
        lake, "operational.readings", f"SELECT local_date::varchar, {numbers}, {sums} FROM t GROUP BY local_date"
    ):
        pairs = zip(found[::2], found[1::2], strict=True)
        told[day] = {"customer_number_sum": customers}
        for name, (count, energy) in zip(parts, pairs, strict=True):
            total = {"count": count, "energy_mwh": energy}
            told[day] |= {name: total} if name else total
    return told
