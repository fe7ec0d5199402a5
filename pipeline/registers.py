"""Registers in a reference snapshot: their rows matched with customers, resolved, and kept by bucket of customers.

Rows travel by the bucket of their key's hash to meet the customers who have that key, then by the bucket of the
customer. Values that only a key needs (identity codes above all) end in the batch that was read.
"""

import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.feeds import read_feed, read_register
from pipeline.spill import Spill, map_ahead
from schemas.registers import REGISTERS
from transforms.matching import KEY, Assigned, assign_rows, entry_schema, find_holder_keys, make_entries, sort_holders
from transforms.resolve import CONFLICTS, Resolution, resolve_customers

_HOLDERS_SCHEMA = pa.schema([pa.field("key", KEY), pa.field("customer_id", pa.string())])
#: A row may have a second key.
_PASSES = 2


@dataclass(frozen=True, slots=True)
class ResolveRules:
    """How a snapshot resolves what several sources say.

    Attributes:
        order: attribute to feeds, the first wins (``transforms.plan.Plan.resolution``).
        subkey: key of the hashes that are compared (``transforms.pseudonym.derive_matching_key``); a key of the moment
            where none is given, since hashes end with the build. What is found never depends on it.
    """

    order: Mapping[str, Sequence[str]] = field(default_factory=dict)
    subkey: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)


@dataclass(eq=False)
class Registers:
    """The registers of a reference folder while a snapshot is built.

    Attributes:
        feeds: register to file.
        scratch: folder for rows on their way.
        bucket_count: buckets of customers.
        rules: how to resolve.
        counts: register to what became of its rows: ``rows`` = ``matched`` + ``ambiguous`` + ``nobody`` + set aside.
        aside: register to the rows set aside, by rule.
        versions: register to channel to the newest version of its list, of rows whoever they are about.
    """

    feeds: Mapping[str, Path]
    scratch: Path
    bucket_count: int
    rules: ResolveRules
    counts: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    aside: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    versions: defaultdict[str, dict[str, date]] = field(default_factory=lambda: defaultdict(dict))

    def read(self, pool: ThreadPoolExecutor) -> list[Future[None]]:
        """Begin to read all registers; they wait for nothing, and so fill the time in which others do."""
        return [pool.submit(self._read, name) for name in self.feeds]

    def match(self, customers: Spill, reading: Sequence[Future[None]], pool: ThreadPoolExecutor) -> None:
        """Find the customers of every row.

        Args:
            customers: rows of ``schemas.reference.CUSTOMERS_SCHEMA``.
            reading: of ``read``.
            pool: threads to work with.
        """
        holders = self._spill("holders", "key", _HOLDERS_SCHEMA)

        def list_holders(bucket: int) -> pa.RecordBatch:
            return _list_holders(customers, bucket, self.rules.subkey)

        def sort(bucket: int) -> None:
            holders.replace(bucket, sort_holders(holders.gather(bucket)))

        keyed = [name for name in self.feeds if REGISTERS[name].keys]
        if keyed:
            holders.scatter(map_ahead(pool, list_holders, self.bucket_count))
            list(pool.map(sort, range(self.bucket_count)))
        for of_register in reading:
            of_register.result()
        for name in keyed:
            self._assign(name, holders, pool)

    def resolve(self, customers: pa.Table, bucket: int) -> Resolution:
        """Resolve what is said of the customers of a bucket (``transforms.resolve``)."""
        said = {}
        for name in self.feeds:
            if REGISTERS[name].attributes:
                matched = self._matched(name)
                said[name] = matched.gather(bucket) if REGISTERS[name].facts else matched.drain(bucket)
        return resolve_customers(customers, said, self.rules.order)

    def list_facts(self, customers: pa.Table, bucket: int) -> Iterator[tuple[str, pa.Table, int]]:
        """Give the facts about the customers of a bucket: register, distinct rows in order, and rows of nobody."""
        for name in self.feeds:
            if REGISTERS[name].facts:
                rows = self._matched(name).drain(bucket)
                known = rows.filter(pc.is_in(rows["customer_id"], customers["customer_id"].combine_chunks()))
                yield name, _sort_distinct(known), rows.num_rows - known.num_rows

    def tell(self) -> dict[str, dict[str, Any]]:
        """Say what became of the rows of each register, as a snapshot's manifest has it."""
        told: dict[str, dict[str, Any]] = {}
        for name in sorted(self.feeds):
            told[name] = {**self.counts[name]}
            told[name]["set aside"] = {rule: rows for rule, rows in self.aside[name].items() if rows}
            if self.versions[name]:
                told[name]["versions"] = {channel: str(day) for channel, day in sorted(self.versions[name].items())}
        return told

    def _read(self, name: str) -> None:
        register, path, counts = REGISTERS[name], self.feeds[name], self.counts[name]
        if not register.keys:
            counts["rows"] = self._matched(name).scatter(
                pa.RecordBatch.from_arrays([batch[column] for column in register.kept.names], schema=register.kept)
                for batch in read_feed(name, path)
            )
            counts["matched"] = counts["rows"]
            return

        def prepare() -> Iterator[pa.RecordBatch]:
            for batch in read_register(name, path, self.aside[name]):
                self._note_versions(name, batch)
                entries = make_entries(batch, register, self.rules.subkey)
                self.aside[name]["no key"] += batch.num_rows - entries.num_rows
                yield entries

        matched = self._entries(name, 0).scatter(prepare())
        counts["rows"] = matched + self.aside[name].total()

    def _note_versions(self, name: str, batch: pa.RecordBatch) -> None:
        if "list_version" not in batch.schema.names:
            return
        newest = pa.table({"channel": batch["channel"], "version": batch["list_version"]}).group_by("channel")
        for row in newest.aggregate([("version", "max")]).to_pylist():
            known = self.versions[name].get(row["channel"], row["version_max"])
            self.versions[name][row["channel"]] = max(known, row["version_max"])

    def _assign(self, name: str, holders: Spill, pool: ThreadPoolExecutor) -> None:
        register = REGISTERS[name]
        with ExitStack() as stack:
            keep = stack.enter_context(self._matched(name).open())
            for attempt in range(_PASSES):
                entries, following = self._entries(name, attempt), self._entries(name, attempt + 1)

                def assign(bucket: int, entries: Spill = entries) -> Assigned:
                    return assign_rows(entries.drain(bucket), holders.gather(bucket), register)

                with following.open() as put_back:
                    for assigned in map_ahead(pool, assign, self.bucket_count):
                        self.counts[name].update(assigned.counts)
                        for table, write in ((assigned.rows, keep), (assigned.again, put_back)):
                            for batch in table.combine_chunks().to_batches():
                                write(batch)

    def _matched(self, name: str) -> Spill:
        return self._spill(f"{name}-matched", "customer_id", REGISTERS[name].kept)

    def _entries(self, name: str, attempt: int) -> Spill:
        return self._spill(f"{name}-{attempt}", "key", entry_schema(REGISTERS[name]))

    def _spill(self, name: str, key: str, schema: pa.Schema) -> Spill:
        return Spill(self.scratch / name, key, schema, self.bucket_count)


def count_conflicts(provenance: pa.Table) -> dict[str, int]:
    """Count the statements that their winner contradicts, by attribute and outcome."""
    lost = provenance.filter(pc.is_in(provenance["outcome"], pa.array(CONFLICTS)))
    groups = lost.group_by(["attribute", "outcome"]).aggregate([([], "count_all")]).to_pylist()
    return {f"{row['attribute']}: {row['outcome']}": row["count_all"] for row in groups}


def _list_holders(customers: Spill, bucket: int, subkey: bytes) -> pa.RecordBatch:
    (batch,) = customers.gather(bucket).to_batches() or [pa.RecordBatch.from_pylist([], schema=customers.schema)]
    return find_holder_keys(batch, subkey)


def _sort_distinct(rows: pa.Table) -> pa.Table:
    """Sort rows by customer, then by all else, and drop those that are there twice."""
    rows = rows.sort_by([(name, "ascending") for name in rows.column_names]).combine_chunks()
    if rows.num_rows < 2:
        return rows
    again = np.ones(rows.num_rows - 1, np.bool_)
    for column in rows.columns:
        later, earlier = column[1:], column[:-1]
        same = pc.or_(pc.fill_null(pc.equal(later, earlier), False), pc.and_(later.is_null(), earlier.is_null()))
        again &= same.to_numpy()
    return rows.filter(pa.array(np.append(True, ~again))) if again.any() else rows
