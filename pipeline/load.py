"""Load features of a lake's customers, read from the months that it has; opened when the first rule asks for them.

Months are cut by metering point, customers by customer: so the months are read once, and what is used of them is kept
by bucket of customers.
"""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import PurePath
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.labels import bucket_in_month, month_in
from pipeline.stores import columnar
from pipeline.table_state import CurrentFile
from transforms.buckets import bucket_of
from transforms.load_features import (
    choose_months,
    empty_load,
    find_months,
    list_sources,
    list_used,
    sign_solar,
    tell_load,
)
from transforms.plan import Plan


class Load:
    """Load features by bucket of customers.

    Args:
        plan: whose rules ask for them.
        current: current files of the lake's tables, by label.
        bucket_count: of the lake.
        threads: to read with.
    """

    def __init__(
        self, plan: Plan, current: Mapping[str, Mapping[str, CurrentFile]], bucket_count: int, threads: int
    ) -> None:
        self.used = list_used(plan.target_groups)
        self._dataset = find_months(plan.datasets, self.used) if self.used else None
        files = current.get(self._dataset.name, {}).values() if self._dataset else ()
        self._months = choose_months({month_in(file.label) for file in files}, self.used)
        self._files = sorted(
            (file for file in files if month_in(file.label) in self._months), key=lambda one: one.label
        )
        self._bucket_count, self._threads, self._lock = bucket_count, threads, Lock()
        self._buckets: list[pa.Table] | None = None

    @property
    def mark(self) -> str:
        """Names the months that the features come from, in the footer of what goes by them; empty where none do."""
        names = "\n".join(PurePath(file.path).name for file in self._files)
        return hashlib.sha256(names.encode()).hexdigest() if self.used else ""

    def of_bucket(self, bucket: int) -> pa.Table:
        """Give the load features of the customers of a bucket: of ``transforms.load_features.tell_load``."""
        with self._lock:
            if self._buckets is None:
                self._buckets = self._read()
            return self._buckets[bucket]

    def _read(self) -> list[pa.Table]:
        if not self._files:
            return [empty_load(self.used)] * self._bucket_count
        by_bucket: dict[int, list[str]] = {}
        for file in self._files:
            by_bucket.setdefault(bucket_in_month(file.label), []).append(file.path)
        with ThreadPoolExecutor(self._threads) as pool:
            load = pa.concat_tables(pool.map(self._tell, by_bucket.values()))
        if "solar_sign" in self.used:
            load = sign_solar(load, self._months[-1])
        bucket = pa.array(bucket_of(load["customer_id"].combine_chunks(), self._bucket_count))
        load = load.append_column("bucket", bucket).sort_by("bucket").combine_chunks()
        begin = load["bucket"].combine_chunks().to_numpy().searchsorted(range(self._bucket_count + 1))
        rows = load.drop_columns("bucket")
        return [rows.slice(first, last - first) for first, last in pairwise(begin)]

    def _tell(self, paths: Sequence[str]) -> pa.Table:
        """Tell the features of the points of a bucket."""
        assert self._dataset
        names = {column.source: column.name for column in self._dataset.columns}
        sources = list_sources(self.used)
        wanted = [names[source] for source in sources]
        tables = [pq.read_table(columnar(path), columns=wanted, partitioning=None) for path in paths]
        return tell_load(pa.concat_tables(tables).rename_columns(list(sources)), self._months[-1], self.used)
