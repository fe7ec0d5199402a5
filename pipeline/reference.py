"""Reference snapshots: sites, contracts and customers, cut by bucket, sorted, and memory-mapped where they are used.

A snapshot is a folder ``<root>/<version>`` that never changes, with an Arrow IPC file per bucket and kind:

* ``points``: rows of ``POINTS_SCHEMA``, bucket and order by metering point;
* ``occupancies``: rows of ``CONTRACTS_SCHEMA``, bucket by metering point, ordered by metering point and first day;
* ``stays``: rows of ``STAYS_SCHEMA``, bucket by usage site, ordered by site, metering point and first day;
* ``customers``: rows of the ``customers`` view, bucket and order by customer, attributes resolved over all sources;

and, where the reference folder has registers (``schemas.registers``), by bucket of customers,

* ``provenance``: what was said of attributes, and what became of it, ``PROVENANCE_SCHEMA``;
* a kind named after each register with facts: its rows that are of customers, of its ``kept`` schema.

``manifest.json`` has its inputs, counts and digests. Which snapshot a lake's tables stand by, its commits say; one that
was built for a run that then died is of no consequence.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import MeterveilError
from pipeline.feeds import find_feeds, read_feed, refuse
from pipeline.registers import Registers, ResolveRules, count_conflicts
from pipeline.spill import Spill, create_private, map_ahead
from pipeline.stores import ObjectPath, upload
from schemas.reference import CONTRACTS_SCHEMA, CUSTOMERS_SCHEMA, POINTS_SCHEMA, SITES_SCHEMA, STAYS_SCHEMA
from schemas.registers import PROVENANCE_SCHEMA, REGISTERS
from transforms.customers import CUSTOMERS_VIEW_SCHEMA, PLACED_SCHEMA, join_customers, place_contracts
from transforms.sites import place_stays

#: Raised with every change of what a snapshot holds, so that it gets another version and is built again.
_FORMAT = 5
_MANIFEST = "manifest.json"
_VERSION = re.compile(r"[0-9a-f]{16}")
_KINDS = {
    "points": POINTS_SCHEMA,
    "occupancies": CONTRACTS_SCHEMA,
    "stays": STAYS_SCHEMA,
    "customers": CUSTOMERS_VIEW_SCHEMA,
    "provenance": PROVENANCE_SCHEMA,
    **{name: register.kept for name, register in REGISTERS.items() if register.facts},
}
#: One more than processors, for when one waits for the disk: each has a bucket in memory.
_THREADS = (os.cpu_count() or 1) + 1
#: Kinds that every snapshot has.
_ALWAYS = ("points", "occupancies", "customers")


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
    folder: Path | ObjectPath | None

    def points(self, bucket: int) -> pa.Table:
        """Open a bucket's metering points, sorted by ``metering_point_id``; rows of ``POINTS_SCHEMA``."""
        rows = self._open_slice("points", bucket)
        if "withheld" in rows.column_names:
            return rows
        # Of a version of the program that withheld nothing: the next reference finds who has to be.
        nobody = pa.array(np.zeros(len(rows), bool))
        return rows.append_column(POINTS_SCHEMA.field("withheld"), nobody)

    def occupancies(self, bucket: int) -> pa.Table:
        """Open a bucket's contracts, sorted by metering point and first day; rows of ``CONTRACTS_SCHEMA``."""
        return self._open_slice("occupancies", bucket)

    def stays(self, bucket: int) -> pa.Table:
        """Open what a bucket's usage sites are like, and when; sorted by site, metering point and first day."""
        return self._open_slice("stays", bucket)

    def customers(self, bucket: int) -> pa.Table:
        """Open a bucket's rows of the ``customers`` view, sorted by customer; ``CUSTOMERS_VIEW_SCHEMA``."""
        return self._open_slice("customers", bucket)

    def provenance(self, bucket: int) -> pa.Table:
        """Open what was said of a bucket's customers, sorted by customer; rows of ``PROVENANCE_SCHEMA``."""
        return self._open_slice("provenance", bucket)

    def facts(self, register: str, bucket: int) -> pa.Table:
        """Open a register's facts about a bucket's customers, sorted by customer; rows of its ``kept`` schema."""
        return self._open_slice(register, bucket)

    def registers(self) -> dict[str, Any]:
        """Say what became of the rows of each register (``pipeline.registers.Registers.tell``)."""
        found: dict[str, Any] = _read_manifest(self.folder).get("registers", {}) if self.folder else {}
        return found

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
        if kind not in _ALWAYS and _name_slice(kind, bucket) not in _read_manifest(self.folder)["files"]:
            return _KINDS[kind].empty_table()
        try:
            return pa.ipc.open_file(_open_whole(self.folder / _name_slice(kind, bucket))).read_all()
        except (OSError, pa.ArrowInvalid):
            raise _damaged(self.folder) from None


#: Stands for the reference of a run that has none: no point is known, and nobody has a contract.
NO_REFERENCE = Snapshot("", 0, None)


def open_snapshot(root: Path | ObjectPath, version: str) -> Snapshot:
    """Open a snapshot by its version.

    Raises:
        MeterveilError: there is none of that version, or its manifest is damaged.
    """
    folder = root / version
    if not _VERSION.fullmatch(version) or not _is_there(folder):
        remedy = "restore its folder, or ingest with the very reference that it was made of"
        raise MeterveilError("there is no such snapshot", where=f"reference/{version}", remedy=remedy)
    return Snapshot(version, _read_manifest(folder)["bucket_count"], folder)


def build_snapshot(
    source: Path, root: Path | ObjectPath, bucket_count: int, rules: ResolveRules | None = None
) -> Snapshot:
    """Make a reference folder into a snapshot; one that exists already is taken as it is.

    Memory holds a bucket for each thread. A build that dies leaves a ``.building-`` folder.

    Args:
        source: folder with ``sites``, and perhaps ``contracts``, ``customers`` and registers, each ``.parquet``,
            ``.csv`` or ``.avro``.
        root: folder of the lake's snapshots; made (0700) if need be.
        bucket_count: buckets of the lake.
        rules: how to resolve what registers say; without, nothing of theirs but protections is heard.

    Raises:
        BadFileError: a feed that can't be read, or has a wrong column or type.
        MeterveilError: a feed missing, or with rows that break a rule; how many of each.
    """
    feeds = find_feeds(source)
    inputs = {name: _digest_file(path) for name, path in feeds.items()}
    rules = rules or ResolveRules()
    order = {attribute: list(feeds) for attribute, feeds in rules.order.items()} if inputs.keys() & REGISTERS else {}
    identity = json.dumps([_FORMAT, bucket_count, inputs, order], sort_keys=True)
    version = hashlib.sha256(identity.encode()).hexdigest()[:16]
    if isinstance(root, Path):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_there(root / version):
        with TemporaryDirectory(prefix=".building-", dir=root if isinstance(root, Path) else None) as building:
            slices = Path(building) / "slices"
            slices.mkdir(mode=0o700)
            found = {name: path for name, path in feeds.items() if name in REGISTERS}
            registers = Registers(found, Path(building), bucket_count, rules)
            counts, conflicts = _write_slices(feeds, slices, registers)
            paths = sorted(slices.iterdir())
            with ThreadPoolExecutor(_THREADS) as pool:
                files = dict(zip((path.name for path in paths), pool.map(_digest_file, paths), strict=True))
            manifest = {"bucket_count": bucket_count, "inputs": inputs, "counts": counts, "files": files}
            if found:
                manifest |= {"registers": registers.tell(), "conflicts": conflicts}
            with create_private(slices / _MANIFEST) as file:
                file.write(json.dumps(manifest, indent=1).encode())
                _sync(file)
            _move_into_place(slices, root / version)
    return open_snapshot(root, version)


def _write_slices(
    feeds: Mapping[str, Path], slices: Path, registers: Registers
) -> tuple[dict[str, int], dict[str, int]]:
    """Scatter the feeds by bucket, then write the slices bucket by bucket; gives counts, and those of conflicts."""
    scratch, bucket_count = registers.scratch, registers.bucket_count
    sites, contracts, customers, placed, stays = (
        Spill(scratch / name, key, schema, bucket_count)
        for name, key, schema in (
            ("sites", "metering_point_id", SITES_SCHEMA),
            ("contracts", "metering_point_id", CONTRACTS_SCHEMA),
            ("customers", "customer_id", CUSTOMERS_SCHEMA),
            ("placed", "customer_id", PLACED_SCHEMA),
            ("stays", "site_id", STAYS_SCHEMA),
        )
    )
    counts: Counter[str] = Counter()
    conflicts: Counter[str] = Counter()
    withheld: list[pa.Array] = []

    def scatter_feed(spill: Spill) -> dict[str, int]:
        name = spill.folder.name
        return {name: spill.scatter(read_feed(name, feeds[name]) if name in feeds else ())}

    def write_points(bucket: int) -> "_PlacedContracts":
        return _write_points(bucket, sites, contracts, slices)

    def write_customers(bucket: int) -> "_CustomerCounts":
        return _write_customers(bucket, customers, placed, registers, slices)

    def place_all(pool: ThreadPoolExecutor) -> Iterator[pa.RecordBatch]:
        with stays.open() as write_stays:
            for found in map_ahead(pool, write_points, bucket_count):
                counts.update(found.counts)
                for batch in found.stays.to_batches():
                    write_stays(batch)
                yield from found.of_customers.to_batches()

    with ThreadPoolExecutor(_THREADS) as pool:
        scattered = pool.map(scatter_feed, (sites, contracts, customers))
        reading = registers.read(pool)
        for found in scattered:
            counts.update(found)
        placed.scatter(place_all(pool))
        registers.match(customers, reading, pool)
        for of_bucket in map_ahead(pool, write_customers, bucket_count):
            counts.update(of_bucket.counts)
            conflicts.update(of_bucket.conflicts)
            withheld.append(of_bucket.withheld)
            for name, rows in of_bucket.nobody.items():
                registers.counts[name].update({"matched": -rows, "nobody": rows})
        places = pa.concat_arrays(withheld).unique()
        list(pool.map(lambda bucket: _withhold(bucket, places, slices), range(bucket_count)))
        list(pool.map(lambda bucket: _write_stays(bucket, stays, places, slices), range(bucket_count)))
    _refuse_repeated(counts, feeds)
    return dict(counts), dict(conflicts)


@dataclass(frozen=True, slots=True)
class _PlacedContracts:
    """The contracts at a bucket of points, on their way to their customers and to their sites; with counts."""

    of_customers: pa.Table
    stays: pa.Table
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class _CustomerCounts:
    """What became of a bucket of customers.

    Attributes:
        counts: of rows.
        conflicts: of what is said of attributes.
        nobody: of registers' rows that name nobody there is.
        withheld: usage sites of people under an information restriction, whenever their contract is.
    """

    counts: dict[str, int]
    conflicts: dict[str, int]
    nobody: dict[str, int]
    withheld: pa.Array


def _write_points(bucket: int, sites: Spill, contracts: Spill, slices: Path) -> _PlacedContracts:
    """Write a bucket's points and occupancies; gives the contracts with their sites."""
    points = sites.drain(bucket, "metering_point_id")
    occupancies = contracts.drain(bucket, "metering_point_id", "valid_from", "signed_at", "contract_id")
    nobody = pa.array(np.zeros(len(points), bool))  # until all customers are resolved
    _write_slice(slices, "points", bucket, points.append_column(POINTS_SCHEMA.field("withheld"), nobody))
    _write_slice(slices, "occupancies", bucket, occupancies)
    placed = place_contracts(occupancies, points)
    counts = {
        "repeated metering_point_id": _count_repeated(points["metering_point_id"]),
        "contracts without site": placed["site_id"].null_count,
    }
    return _PlacedContracts(placed, place_stays(occupancies, points), counts)


def _write_customers(
    bucket: int, customers: Spill, placed: Spill, registers: Registers, slices: Path
) -> _CustomerCounts:
    """Write a bucket's rows of the ``customers`` view, and what registers say of its customers; gives counts."""
    who, contracts = customers.drain(bucket, "customer_id"), placed.drain(bucket)
    resolution = registers.resolve(who, bucket)
    rows = join_customers(resolution.customers, contracts)
    _write_slice(slices, "customers", bucket, rows)
    nobody = {}
    if registers.feeds:
        _write_slice(slices, "provenance", bucket, resolution.provenance)
    for name, facts, unknown in registers.list_facts(who, bucket):
        _write_slice(slices, name, bucket, facts)
        nobody[name] = unknown
    counts = {
        "repeated customer_id": _count_repeated(who["customer_id"]),
        "contracts without customer": contracts.num_rows - (rows.num_rows - rows["contract_id"].null_count),
    }
    withheld = rows.filter(rows["information_restriction"])["site_id"].drop_null().combine_chunks()
    return _CustomerCounts(counts, count_conflicts(resolution.provenance), nobody, withheld)


def _withhold(bucket: int, sites: pa.Array, slices: Path) -> None:
    """Mark the points of sites that nothing may tell the place of; most buckets of a small reference have none."""
    with pa.memory_map(str(slices / _name_slice("points", bucket))) as file:
        points = pa.ipc.open_file(file).read_all()
        marked = pc.is_in(points["site_id"], sites)
        if not pc.any(marked).as_py():
            return
        (slices / _name_slice("points", bucket)).unlink()  # what is mapped stays
        column = POINTS_SCHEMA.get_field_index("withheld")
        _write_slice(slices, "points", bucket, points.set_column(column, POINTS_SCHEMA.field(column), marked))


def _write_stays(bucket: int, stays: Spill, withheld: pa.Array, slices: Path) -> None:
    """Write a bucket's stays, with the mark of sites that nothing may tell the place of."""
    rows = stays.drain(bucket, "site_id", "metering_point_id", "valid_from")
    column = STAYS_SCHEMA.get_field_index("withheld")
    marked = pc.is_in(rows["site_id"], withheld)
    _write_slice(slices, "stays", bucket, rows.set_column(column, STAYS_SCHEMA.field(column), marked))


def _refuse_repeated(counts: Counter[str], feeds: Mapping[str, Path]) -> None:
    for name, key in (("sites", "metering_point_id"), ("customers", "customer_id")):
        if repeated := counts.pop(f"repeated {key}"):
            refuse({f"{key} there before": repeated}, feeds[name])


def _count_repeated(sorted_ids: pa.ChunkedArray) -> int:
    return pc.sum(pc.equal(sorted_ids[1:], sorted_ids[:-1])).as_py() or 0


def _write_slice(folder: Path, kind: str, bucket: int, rows: pa.Table) -> None:
    with create_private(folder / _name_slice(kind, bucket)) as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
        writer.close()
        _sync(file)


def _name_slice(kind: str, bucket: int) -> str:
    return f"{kind}-{bucket:05d}.arrow"


def _open_whole(path: Path | ObjectPath) -> Any:
    return pa.memory_map(str(path)) if isinstance(path, Path) else pa.BufferReader(path.read_bytes())


def _read_manifest(folder: Path | ObjectPath) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError):
        raise _damaged(folder) from None
    return manifest


def _damaged(folder: Path | ObjectPath) -> MeterveilError:
    remedy = "delete its folder and ingest with --reference again"
    return MeterveilError("the snapshot is damaged", where=f"reference/{folder.name}", remedy=remedy)


def _is_there(folder: Path | ObjectPath) -> bool:
    """Tell whether a snapshot is there, whole: renamed, or with its manifest, which is put last."""
    return folder.is_dir() if isinstance(folder, Path) else (folder / _MANIFEST).is_file()


def _move_into_place(slices: Path, folder: Path | ObjectPath) -> None:
    """Rename or upload a finished snapshot; another run that made the same one first has made the same files."""
    if isinstance(folder, ObjectPath):
        upload(sorted(slices.iterdir(), key=lambda path: path.name == _MANIFEST), folder)
        return
    try:
        slices.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _sync(file: BinaryIO) -> None:
    """See a file onto the disk: what has its final name is complete, also after a power cut."""
    file.flush()
    os.fsync(file.fileno())


def _digest_file(path: Path | ObjectPath) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
