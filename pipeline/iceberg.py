"""Datasets as Iceberg tables: schema and partitions from the plan, current files, and one snapshot per replacement."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile as IcebergFile
from pyiceberg.manifest import DataFileContent, FileFormat, ManifestFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _OverwriteFiles
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IntegerType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    TimestamptzType,
    UUIDType,
)

from pipeline.errors import MeterveilError
from pipeline.parquet import DataFile
from pipeline.table_state import CurrentFile, TableState, is_cell_dataset, read_metadata
from transforms.plan import Dataset

_PARTITION_COLUMN = "local_date"
_PARTITION_FIELD_ID = 1000  # where Iceberg's specification lets partition fields begin
#: As many manifests as this become one, up to a size: every commit adds one or two, and each is a file to open.
_MERGED_AT = 20
_MERGED_BYTES = 8 << 20

#: No retries: a commit on a stale base fails, and the run looks again at what changed. No bounds or statistics in
#: manifests, whoever writes: readers prune by partition. Old metadata files go by themselves; data files are ours to
#: delete.
TABLE_PROPERTIES = {
    "format-version": "2",
    "commit.retry.num-retries": "0",
    "write.metadata.metrics.default": "none",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "write.parquet.compression-codec": "zstd",
}

_ICEBERG_TYPES: dict[pa.DataType, PrimitiveType] = {
    pa.string(): StringType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float64(): DoubleType(),
    pa.bool_(): BooleanType(),
    pa.date32(): DateType(),
    pa.timestamp("us", tz="UTC"): TimestamptzType(),
    pa.uuid(): UUIDType(),
}


def iceberg_schema(dataset: Dataset) -> Schema:
    """Translate a dataset's columns; field ids are their positions from 1, docs are the columns' docs."""
    return Schema(
        *(
            NestedField(position, column.name, _iceberg_type(column.type), required=column.required, doc=column.doc)
            for position, column in enumerate(dataset.columns, start=1)
        )
    )


def partition_spec(dataset: Dataset) -> PartitionSpec:
    """Partition cell datasets by their local date, others not at all.

    Raises:
        MeterveilError: a cell dataset without its local date.
    """
    if not is_cell_dataset(dataset):
        return PartitionSpec()
    names = [column.name for column in dataset.columns]
    if _PARTITION_COLUMN not in names:
        raise MeterveilError(
            f"a dataset of the view {dataset.view!r} is partitioned by {_PARTITION_COLUMN}, which it has not",
            where=dataset.name,
            remedy=f"keep {_PARTITION_COLUMN} in the policy",
        )
    source = names.index(_PARTITION_COLUMN) + 1
    return PartitionSpec(PartitionField(source, _PARTITION_FIELD_ID, IdentityTransform(), _PARTITION_COLUMN))


def current_files(table: Table, snapshot_id: int | None = None) -> list[CurrentFile]:
    """List the data files of a table's current snapshot, or of the one that is named.

    Raises:
        MeterveilError: the snapshot has expired, or another program has written into the table.
    """
    return _state_of(table).files(snapshot_id)


def kept_files(table: Table) -> dict[str, CurrentFile]:
    """Find the data files of every snapshot that a table still has, by path; reads each manifest once.

    Raises:
        MeterveilError: another program has written into the table.
    """
    return _state_of(table).kept_files()


def replace_files(
    table: Table, added: Sequence[DataFile], removed_paths: Sequence[str], summary: Mapping[str, str]
) -> int:
    """Commit one snapshot that adds files and removes others, on the state that ``table`` was loaded in.

    Args:
        table: loaded by ``Lake.table``; shows the new snapshot afterwards.
        added: files that were written for this table.
        removed_paths: paths of current files.
        summary: what the snapshot says of itself: run id, key id, digests.

    Returns:
        The new snapshot's id.

    Raises:
        CommitFailedException: the table has changed since it was loaded, or a file to remove is not current. Nothing
            is committed: load the table again and compare.
        ValueError: an added file is in the table already, or twice in the list.
    """
    current = {file.file_path: file for file in _live_files(table)}
    paths = [file.path for file in added]
    if len(set(paths)) < len(paths) or not current.keys().isdisjoint(paths):
        raise ValueError("a data file can be added once only: its rows would double")
    if not current.keys() >= set(removed_paths):
        raise CommitFailedException("a file to replace is no longer in the table")
    with table.transaction() as transaction:
        snapshot = _MergingOverwrite(table, transaction, summary)
        for path in removed_paths:
            snapshot.delete_data_file(current[path])
        for file in added:
            snapshot.append_data_file(_as_iceberg_file(file, table))
        snapshot.commit()
    return snapshot.snapshot_id


def expire_snapshots(table: Table, snapshot_ids: Container[int]) -> None:
    """Take snapshots out of a table's metadata, those of them that are there; the current one stays.

    Their files stay on the disk, and are for the caller to delete.
    """
    found = [one.snapshot_id for one in table.snapshots() if one.snapshot_id in snapshot_ids]
    if found:
        table.maintenance.expire_snapshots().by_ids(found).commit()


class _MergingOverwrite(_OverwriteFiles):
    """pyiceberg's replacement of files, which keeps the number of manifests bounded as its append does."""

    def __init__(self, table: Table, transaction: Transaction, summary: Mapping[str, str]) -> None:
        operation = Operation.OVERWRITE if table.current_snapshot() else Operation.APPEND
        super().__init__(operation, transaction, table.io, snapshot_properties=dict(summary))

    def _build_manifest_evaluator(self, spec_id: int) -> Callable[[ManifestFile], bool]:  # noqa: ARG002 - pyiceberg's
        # pyiceberg's own keeps the manifest that it looks at in itself, and several threads ask it at once: now and
        # then it takes a manifest for one without any of the files to remove.
        return lambda _: True

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        merger = _ManifestMergeManager(_MERGED_BYTES, _MERGED_AT, merge_enabled=True, snapshot_producer=self)
        merged = merger.merge_manifests(manifests)
        listed = {manifest.manifest_path for manifest in merged}
        for manifest in manifests:
            if manifest.added_snapshot_id == self.snapshot_id and manifest.manifest_path not in listed:
                self._io.delete(manifest.manifest_path)  # written a moment ago, and part of another one now
        return merged


def _iceberg_type(kind: pa.DataType) -> PrimitiveType:
    if pa.types.is_decimal(kind):
        return DecimalType(kind.precision, kind.scale)
    return _ICEBERG_TYPES[kind]


def _state_of(table: Table) -> TableState:
    return read_metadata(".".join(table.name()), table.metadata_location)


def _live_files(table: Table) -> Iterator[IcebergFile]:
    """Find the current data files as pyiceberg has them, which is how it wants them back."""
    if snapshot := table.current_snapshot():
        for manifest in snapshot.manifests(table.io):
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                yield entry.data_file


def _as_iceberg_file(file: DataFile, table: Table) -> IcebergFile:
    return IcebergFile.from_args(
        content=DataFileContent.DATA,
        file_path=file.path,
        file_format=FileFormat.PARQUET,
        partition=Record() if file.local_date is None else Record(file.local_date),
        record_count=file.rows,
        file_size_in_bytes=file.bytes,
        spec_id=table.spec().spec_id,
    )
