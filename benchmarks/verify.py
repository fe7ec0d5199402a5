"""Compares what a peer made with what meterveil made: ``python -m benchmarks.verify OURS THEIRS [--sorted]``.

``OURS`` is a lake, ``THEIRS`` the folder of a peer. Every row of both datasets is compared, all columns but the flags
(which the peers do not compute); with ``--sorted``, each file must be sorted. Prints one JSON line.
"""

import json
import sys
from pathlib import Path

import duckdb

_OF_READING = "start, energy_mwh, status"
_READINGS = (
    f"count(*) AS readings, sum(energy_mwh)::HUGEINT AS energy, sum(hash({_OF_READING}{{more}}))::HUGEINT AS digest"
)
#: What holds for a group of readings; sums over each group are compared.
_GROUPS = {
    "identified": "metering_point_id, product, direction, resolution_s, local_date, customer_id, contract_id",
    "pseudonymised": "metering_point, site, customer, product, direction, resolution_s, local_date",
}
_MORE = {"identified": ", registered_at, rival_registered_at, daily_rival_registered_at", "pseudonymised": ""}
_ORDERS = {
    "identified": ("metering_point_id", "product", "resolution_s", "start"),
    "pseudonymised": ("metering_point", "start"),
}
#: Where a lake keeps the two datasets.
_TABLES = {"identified": "operational/readings/data", "pseudonymised": "analytics/readings/data"}


def compare_outputs(ours: Path, theirs: Path, *, in_order: bool) -> dict[str, dict[str, int]]:
    """Compare both datasets; counts and sums of each, for the record.

    Raises:
        AssertionError: they differ, or a file that should be is not sorted.
    """
    told = {}
    for dataset in _GROUPS:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for name, folder in (("ours", ours / _TABLES[dataset]), ("theirs", theirs / dataset)):
                files = sorted(map(str, folder.rglob("*.parquet")))
                assert files, f"{dataset}: nothing in {folder}"
                for file in files if in_order else ():
                    assert _is_sorted(connection, file, _ORDERS[dataset]), f"{dataset}: {Path(file).name} is not sorted"
                connection.execute(f"CREATE TABLE {name} AS {_sum_groups(dataset, files)}")
            different = connection.execute(
                "SELECT count(*) FROM ((FROM ours EXCEPT FROM theirs) UNION ALL (FROM theirs EXCEPT FROM ours))"
            ).fetchall()[0][0]
            assert not different, f"{dataset}: {different} groups differ"
            [row] = connection.execute("SELECT sum(readings), sum(energy), count(*) FROM theirs").fetchall()
        told[dataset] = dict(zip(("rows", "energy_mwh", "groups"), map(int, row), strict=True))
    return told


def _sum_groups(dataset: str, files: list[str]) -> str:
    """Sum the readings of each group; pseudonyms, UUIDs or 16 bytes, become text once for each group."""
    sums = _READINGS.format(more=_MORE[dataset])
    # kWh with six decimals, or integers of milliwatt-hours
    rows = f"""SELECT * REPLACE (start::TIMESTAMPTZ AS start),
        CASE WHEN typeof(energy) = 'BIGINT' THEN energy::BIGINT ELSE (energy * 1000000)::BIGINT END AS energy_mwh
        FROM read_parquet({files}, hive_partitioning = false)"""
    grouped = f"SELECT {_GROUPS[dataset]}, {sums} FROM ({rows}) GROUP BY ALL"
    if dataset == "identified":
        return grouped
    texts = ", ".join(_as_text(name) for name in ("metering_point", "site", "customer"))
    return f"SELECT * REPLACE ({texts}) FROM ({grouped})"


def _as_text(name: str) -> str:
    return (
        f"CASE WHEN typeof({name}) = 'BLOB' THEN lower(hex({name}::BLOB))"
        f" ELSE replace({name}::VARCHAR, '-', '') END AS {name}"
    )


def _is_sorted(connection: duckdb.DuckDBPyConnection, file: str, columns: tuple[str, ...]) -> bool:
    before = [f"lag({name}) OVER ()" for name in columns]
    down = "false"
    for name, last in reversed(list(zip(columns, before, strict=True))):
        down = f"({name} < {last} OR ({name} = {last} AND {down}))"
    [(count,)] = connection.execute(
        f"SELECT count(*) FILTER (down)"
        f" FROM (SELECT {down} AS down FROM read_parquet('{file}', hive_partitioning = false))"
    ).fetchall()
    return count == 0


if __name__ == "__main__":
    print(json.dumps(compare_outputs(Path(sys.argv[1]), Path(sys.argv[2]), in_order="--sorted" in sys.argv)))
