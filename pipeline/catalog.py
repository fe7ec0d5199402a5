"""Iceberg's catalogs, for what changes a table: one SQLite file a zone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyarrow import NativeFile
from pyarrow.fs import FileSystem
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import TableAlreadyExistsError
from pyiceberg.io.pyarrow import PyArrowFileIO, PyArrowLocalFileSystem
from pyiceberg.table import Table
from sqlalchemy.exc import DatabaseError

from pipeline.errors import MeterveilError
from pipeline.files import create_file, make_folder
from pipeline.iceberg import TABLE_PROPERTIES, iceberg_schema, partition_spec
from pipeline.lake import CATALOG, CATALOG_TIMEOUT_S, explain_fault
from transforms.plan import Dataset, Zone


def open_catalog(folder: Path, zone: Zone, *, make: bool = False) -> SqlCatalog:
    """Open the catalog of a zone.

    Args:
        folder: the zone's root, where the database's file is.
        zone: the zone.
        make: whether to make the database's tables and the zone's namespace.
    """
    properties = {
        "uri": f"sqlite:///{folder / CATALOG}?timeout={CATALOG_TIMEOUT_S}",
        "init_catalog_tables": str(make).lower(),
    }
    if zone == "operational":
        properties["py-io-impl"] = f"{__name__}.{PrivateFileIO.__name__}"
    with catalog_faults(str(folder / CATALOG)):
        catalog = SqlCatalog(zone, **properties)
        if make:
            catalog.create_namespace_if_not_exists(zone)
    return catalog


def ensure_table(catalog: SqlCatalog, dataset: Dataset, location: Path) -> None:
    """Make a dataset's table if it is not there.

    Raises:
        MeterveilError: it is there with other columns.
    """
    identifier = tuple(dataset.name.split("."))
    with catalog_faults(dataset.name):
        if not catalog.table_exists(identifier):
            with suppress(TableAlreadyExistsError):  # made by another run meanwhile
                catalog.create_table(
                    identifier,
                    iceberg_schema(dataset),
                    location=str(location),
                    partition_spec=partition_spec(dataset),
                    properties=TABLE_PROPERTIES,
                )
        table = catalog.load_table(identifier)
    if not has_columns(table, dataset):
        raise MeterveilError(
            "the table's columns are not the policy's",
            where=dataset.name,
            remedy="ingest by the policy that it was made with, or rebuild the lake by this one",
        )


def has_columns(table: Table, dataset: Dataset) -> bool:
    """Tell whether a table has the columns of a dataset."""
    return _shape(table.schema().fields) == _shape(iceberg_schema(dataset).fields)


@contextmanager
def catalog_faults(where: str) -> Iterator[None]:
    """Say in a line what is wrong with a catalog's database.

    Raises:
        MeterveilError: it is locked, damaged, not to be written, or its disk is full.
    """
    try:
        yield
    except DatabaseError as error:
        raise explain_fault(error.orig or error, where) from None


class PrivateFileIO(PyArrowFileIO):
    """pyiceberg's files of the operational zone: metadata for their owner alone, whatever the umask."""

    def _initialize_local_fs(self) -> FileSystem:
        return _PrivateFileSystem()


class _PrivateFileSystem(PyArrowLocalFileSystem):
    def open_output_stream(self, path: str, *args: Any, **kwargs: Any) -> NativeFile:
        make_folder(Path(path).parent, private=True)
        os.close(create_file(Path(path), private=True))
        return super().open_output_stream(path, *args, **kwargs)


def _shape(fields: Any) -> list[tuple[object, ...]]:
    return [(field.field_id, field.name, field.field_type, field.required) for field in fields]
