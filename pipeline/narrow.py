"""Which files of a cell dataset a query needs: those of the buckets of the points that it asks for.

DuckDB opens the files of the dates that it wants, by their paths, but knows nothing of buckets: one customer's month
would open every bucket's file of each day. So the query is planned over empty tables, and its plan says of which point
the rows of each scan are. The plan is read and not the SQL: however the query is written, nothing has to be guessed.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.labels import bucket_in
from pipeline.table_state import CurrentFile, is_cell_dataset
from transforms.buckets import bucket_of
from transforms.plan import Dataset, Keep

#: What may change a plan: all that moves filters to the scans, and nothing that drops a scan because a table is empty.
_OPTIMIZERS = frozenset({"expression_rewriter", "filter_pullup", "filter_pushdown", "deliminator"})
_SCAN = "SEQ_SCAN"
#: A filter that every row of a scan passes; one that some may not pass is written ``optional: …``.
_EQUALITY = re.compile(r"\((\w+) = '([^']+)'\)")


def plan_plainly(connection: duckdb.DuckDBPyConnection) -> None:
    """Let plans of a database say all that a query reads, as if its empty tables had rows."""
    names = [name for (name,) in connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()]
    disabled = ",".join(name for name in names if name not in _OPTIMIZERS)
    connection.execute(f"SET disabled_optimizers = '{disabled}'")


def find_points(
    connection: duckdb.DuckDBPyConnection, sql: str, datasets: Mapping[str, Dataset]
) -> dict[str, frozenset[str]]:
    """Find the metering points that a query asks for, one by one, in tables that are divided by them.

    Args:
        connection: with an empty table for each dataset, and ``plan_plainly``.
        sql: the query.
        datasets: tables that it names.

    Returns:
        Table to points; a table is left out where the query may read rows of any point.
    """
    found: dict[str, set[str | None]] = {}
    [[_, plans]] = connection.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()
    for scan in (scan for plan in json.loads(plans) for scan in _list_scans(plan)):
        name = scan["Table"].removeprefix("memory.").replace('"', "")  # DuckDB quotes words of its own: "months"
        found.setdefault(name, set()).add(_find_point(scan, datasets[name]))
    return {name: frozenset(point for point in points if point) for name, points in found.items() if None not in points}


def narrow_files(files: Iterable[CurrentFile], points: frozenset[str], bucket_count: int) -> list[CurrentFile]:
    """Take the files of the buckets that hold points; of a table that is divided by them."""
    buckets = set(bucket_of(pa.array(sorted(points), pa.string()), bucket_count).tolist())
    return [file for file in files if bucket_in(file.label) in buckets]


def _list_scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if node["name"].strip() == _SCAN:
        yield node["extra_info"]
    for child in node["children"]:
        yield from _list_scans(child)


def _find_point(scan: dict[str, Any], dataset: Dataset) -> str | None:
    """Find the only point whose rows a scan of a dataset gives, if there is but one."""
    keys = {column.name for column in dataset.columns if column.source == "metering_point_id" and column.rule == Keep()}
    filters = scan.get("Filters", [])
    for text in [filters] if isinstance(filters, str) else filters:
        equal = _EQUALITY.fullmatch(text)
        if equal and equal[1] in keys and is_cell_dataset(dataset):
            return equal[2]
    return None
