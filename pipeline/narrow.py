"""Which files of a cell dataset a query needs: those of the buckets of the points that it asks for.

DuckDB opens the files of the dates that it wants, by the path, but knows nothing of buckets; one customer's month would
open every bucket's file of each day. Its own plan says for which points rows are read.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.labels import bucket_in
from pipeline.table_state import CurrentFile, is_cell_dataset
from transforms.buckets import bucket_of
from transforms.plan import Dataset, Keep

_SCAN = "PARQUET"
#: A filter that every row which is read meets; one that some may not meet is written ``optional: …``.
_EQUALITY = re.compile(r"\((\w+) = '([^']+)'\)")


def narrow_files(
    connection: duckdb.DuckDBPyConnection, sql: str, dataset: Dataset, files: list[CurrentFile], bucket_count: int
) -> list[CurrentFile]:
    """Leave out the files of buckets that hold none of the points which a query asks for, one by one.

    Args:
        connection: where the dataset is a view of its files, and no other table has any.
        sql: the query.
        dataset: the dataset.
        files: its files.
        bucket_count: buckets of the lake.

    Returns:
        The files that are needed, some at least; all of them where the query does not say of which points its rows are.
    """
    keys = [column.name for column in dataset.columns if column.source == "metering_point_id" and column.rule == Keep()]
    if not files or not keys or not is_cell_dataset(dataset):
        return files
    [[_, plan]] = connection.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()
    points = [_find_point(scan, keys) for node in json.loads(plan) for scan in _list_scans(node)]
    if None in points:
        return files
    buckets = set(bucket_of(pa.array(points, pa.string()), bucket_count).tolist())
    return [file for file in files if bucket_in(file.label) in buckets] or files


def _list_scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """List what the plan says of each place where files are read."""
    if _SCAN in node["name"]:
        yield node["extra_info"]
    for child in node["children"]:
        yield from _list_scans(child)


def _find_point(scan: dict[str, Any], keys: list[str]) -> str | None:
    """Find the only metering point whose rows are read there, if there is but one."""
    filters = scan.get("Filters", [])
    for text in [filters] if isinstance(filters, str) else filters:
        if (found := _EQUALITY.fullmatch(text)) and found[1] in keys:
            return found[2]
    return None
