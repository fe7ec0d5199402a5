"""Reference snapshots: sites, contracts and customers, cut by bucket, sorted, and memory-mapped where they are used.

A snapshot is a folder ``<root>/<version>`` that never changes, with an Arrow IPC file per bucket and kind:

* ``points``: rows of ``SITES_SCHEMA``, bucket and order by metering point;
* ``occupancies``: rows of ``CONTRACTS_SCHEMA``, bucket by metering point, ordered by metering point and first day;
* ``customers``: rows of the ``customers`` view, bucket and order by customer.

``manifest.json`` has its inputs, counts and digests. Which snapshot a lake's tables stand by, its commits say; one that
was built for a run that then died is of no consequence.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import MeterveilError
from pipeline.feeds import find_feeds, read_feed, refuse
from schemas.reference import CONTRACTS_SCHEMA, CUSTOMERS_SCHEMA, SITES_SCHEMA
from transforms.buckets import bucket_of
from transforms.customers import CUSTOMERS_VIEW_SCHEMA, PLACED_SCHEMA, join_customers, place_contracts

#: Raised with every change of what a snapshot holds, so that it gets another version and is built again.
_FORMAT = 1
_MANIFEST = "manifest.json"
_VERSION = re.compile(r"[0-9a-f]{16}")
_KINDS = {"points": SITES_SCHEMA, "occupancies": CONTRACTS_SCHEMA, "customers": CUSTOMERS_VIEW_SCHEMA}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version of the reference data. Small to pickle: workers open the slices that they need.

    Attributes:
        version: 16 hex digits, of the inputs and the bucket count; empty for ``NO_REFERENCE``.
        bucket_count: buckets that it is cut into.
        folder: where its slices are, or None.
    """

    version: str
    bucket_count: int
    folder: Path | None

    def points(self, bucket: int) -> pa.Table:
        """Open a bucket's metering points, sorted by ``metering_point_id``; rows of ``SITES_SCHEMA``."""
        return self._open_slice("points", bucket)

    def occupancies(self, bucket: int) -> pa.Table:
        """Open a bucket's contracts, sorted by metering point and first day; rows of ``CONTRACTS_SCHEMA``."""
        return self._open_slice("occupancies", bucket)

    def customers(self, bucket: int) -> pa.Table:
        """Open a bucket's rows of the ``customers`` view, sorted by customer; ``CUSTOMERS_VIEW_SCHEMA``."""
        return self._open_slice("customers", bucket)

    def find_damage(self) -> list[str]:
        """List the slices that are missing or differ from the manifest's digests."""
        if self.folder is None:
            return []
        digests = _read_manifest(self.folder)["files"]
        return [
            name
            for name, digest in digests.items()
            if not (self.folder / name).is_file() or _digest_file(self.folder / name) != digest
        ]

    def _open_slice(self, kind: str, bucket: int) -> pa.Table:
        if self.folder is None:
            return _KINDS[kind].empty_table()
        try:
            return pa.ipc.open_file(pa.memory_map(str(self.folder / _name_slice(kind, bucket)))).read_all()
        except (OSError, pa.ArrowInvalid):
            raise _damaged(self.folder) from None


#: Stands for the reference of a run that has none: no point is known, and nobody has a contract.
NO_REFERENCE = Snapshot("", 0, None)


def open_snapshot(root: Path, version: str) -> Snapshot:
    """Open a snapshot by its version.

    Raises:
        MeterveilError: there is none of that version, or its manifest is damaged.
    """
    folder = root / version
    if not _VERSION.fullmatch(version) or not folder.is_dir():
        remedy = "restore its folder, or ingest with the very reference that it was made of"
        raise MeterveilError("there is no such snapshot", where=f"reference/{version}", remedy=remedy)
    return Snapshot(version, _read_manifest(folder)["bucket_count"], folder)


def build_snapshot(source: Path, root: Path, bucket_count: int) -> Snapshot:
    """Make a reference folder into a snapshot; one that exists already is taken as it is.

    Memory holds a bucket for each thread. A build that dies leaves a ``.building-`` folder.

    Args:
        source: folder with ``sites``, and perhaps ``contracts`` and ``customers``, each ``.parquet``, ``.csv`` or
            ``.avro``.
        root: folder of the lake's snapshots; made (0700) if need be.
        bucket_count: buckets of the lake.

    Raises:
        BadFileError: a feed that can't be read, or has a wrong column or type.
        MeterveilError: a feed missing, or with rows that break a rule; how many of each.
    """
    feeds = find_feeds(source)
    inputs = {name: _digest_file(path) for name, path in feeds.items()}
    identity = json.dumps([_FORMAT, bucket_count, inputs], sort_keys=True)
    version = hashlib.sha256(identity.encode()).hexdigest()[:16]
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (root / version).is_dir():
        with TemporaryDirectory(prefix=".building-", dir=root) as building:
            slices = Path(building) / "slices"
            slices.mkdir(mode=0o700)
            counts = _write_slices(feeds, slices, Path(building), bucket_count)
            files = {path.name: _digest_file(path) for path in sorted(slices.iterdir())}
            manifest = {"bucket_count": bucket_count, "inputs": inputs, "counts": counts, "files": files}
            with _create(slices / _MANIFEST) as file:
                file.write(json.dumps(manifest, indent=1).encode())
                _sync(file)
            _move_into_place(slices, root / version)
    return open_snapshot(root, version)


@dataclass(frozen=True, slots=True)
class _Spill:
    """Rows in a file per bucket of their key, so that no step has to hold them all."""

    folder: Path
    key: str
    schema: pa.Schema
    bucket_count: int

    def scatter(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Write batches; gives the number of rows."""
        self.folder.mkdir(mode=0o700)
        rows = 0
        with ExitStack() as stack:
            writers = [
                stack.enter_context(pa.ipc.new_stream(stack.enter_context(_create(self._path(bucket))), self.schema))
                for bucket in range(self.bucket_count)
            ]
            for batch in batches:
                rows += batch.num_rows
                buckets = bucket_of(batch[self.key], self.bucket_count)
                ordered = batch.take(pa.array(np.argsort(buckets.astype(np.uint16), kind="stable")))
                ends = np.cumsum(np.bincount(buckets, minlength=self.bucket_count)).tolist()
                for writer, start, end in zip(writers, [0, *ends], ends, strict=False):
                    if end > start:
                        writer.write_batch(ordered.slice(start, end - start))
        return rows

    def gather(self, bucket: int, *order: str) -> pa.Table:
        """Read a bucket, sorted by the columns given."""
        with pa.memory_map(str(self._path(bucket))) as file:
            table = pa.ipc.open_stream(file).read_all().combine_chunks()
        return table.sort_by([(name, "ascending") for name in order]) if order else table

    def _path(self, bucket: int) -> Path:
        return self.folder / f"{bucket:05d}.arrows"


def _write_slices(feeds: Mapping[str, Path], slices: Path, scratch: Path, bucket_count: int) -> dict[str, int]:
    """Scatter the feeds by bucket, then write the slices bucket by bucket; gives the counts of the manifest."""
    sites, contracts, customers, placed = (
        _Spill(scratch / name, key, schema, bucket_count)
        for name, key, schema in (
            ("sites", "metering_point_id", SITES_SCHEMA),
            ("contracts", "metering_point_id", CONTRACTS_SCHEMA),
            ("customers", "customer_id", CUSTOMERS_SCHEMA),
            ("placed", "customer_id", PLACED_SCHEMA),
        )
    )
    counts: Counter[str] = Counter()

    def scatter_feed(spill: _Spill) -> dict[str, int]:
        name = spill.folder.name
        return {name: spill.scatter(read_feed(name, feeds[name]) if name in feeds else ())}

    def write_points(bucket: int) -> tuple[pa.Table, dict[str, int]]:
        return _write_points(bucket, sites, contracts, slices)

    def write_customers(bucket: int) -> dict[str, int]:
        return _write_customers(bucket, customers, placed, slices)

    def place_all(pool: ThreadPoolExecutor) -> Iterator[pa.RecordBatch]:
        for rows, found in pool.map(write_points, range(bucket_count)):
            counts.update(found)
            yield from rows.to_batches()

    with ThreadPoolExecutor() as pool:
        for found in pool.map(scatter_feed, (sites, contracts, customers)):
            counts.update(found)
        placed.scatter(place_all(pool))
        for found in pool.map(write_customers, range(bucket_count)):
            counts.update(found)
    for name, key in (("sites", "metering_point_id"), ("customers", "customer_id")):
        if repeated := counts.pop(f"repeated {key}"):
            refuse({f"{key} there before": repeated}, feeds[name])
    return dict(counts)


def _write_points(bucket: int, sites: _Spill, contracts: _Spill, slices: Path) -> tuple[pa.Table, dict[str, int]]:
    """Write a bucket's points and occupancies; gives the contracts with their sites, and counts."""
    points = sites.gather(bucket, "metering_point_id")
    occupancies = contracts.gather(bucket, "metering_point_id", "valid_from", "signed_at", "contract_id")
    _write_slice(slices, "points", bucket, points)
    _write_slice(slices, "occupancies", bucket, occupancies)
    placed = place_contracts(occupancies, points)
    return placed, {
        "repeated metering_point_id": _count_repeated(points["metering_point_id"]),
        "contracts without site": placed["site_id"].null_count,
    }


def _write_customers(bucket: int, customers: _Spill, placed: _Spill, slices: Path) -> dict[str, int]:
    """Write a bucket's rows of the ``customers`` view; gives counts."""
    who, contracts = customers.gather(bucket, "customer_id"), placed.gather(bucket)
    rows = join_customers(who, contracts)
    _write_slice(slices, "customers", bucket, rows)
    return {
        "repeated customer_id": _count_repeated(who["customer_id"]),
        "contracts without customer": contracts.num_rows - (rows.num_rows - rows["contract_id"].null_count),
    }


def _count_repeated(sorted_ids: pa.ChunkedArray) -> int:
    return pc.sum(pc.equal(sorted_ids[1:], sorted_ids[:-1])).as_py() or 0


def _write_slice(folder: Path, kind: str, bucket: int, rows: pa.Table) -> None:
    with _create(folder / _name_slice(kind, bucket)) as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
        writer.close()
        _sync(file)


def _name_slice(kind: str, bucket: int) -> str:
    return f"{kind}-{bucket:05d}.arrow"


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError):
        raise _damaged(folder) from None
    return manifest


def _damaged(folder: Path) -> MeterveilError:
    remedy = "delete its folder and ingest with --reference again"
    return MeterveilError("the snapshot is damaged", where=f"reference/{folder.name}", remedy=remedy)


def _move_into_place(slices: Path, folder: Path) -> None:
    """Rename a finished snapshot; another run that made the same one first has made the same files."""
    try:
        slices.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _create(path: Path) -> BinaryIO:
    """Open a new file that only its owner may read."""
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))


def _sync(file: BinaryIO) -> None:
    """See a file onto the disk: what has its final name is complete, also after a power cut."""
    file.flush()
    os.fsync(file.fileno())


def _digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
