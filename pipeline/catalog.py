"""Iceberg's catalogs, for what changes a table: one SQLite file a zone, or one schema a zone in a server."""

import os
import sqlite3
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
from sqlalchemy import create_engine
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool, StaticPool

from pipeline.errors import MeterveilError
from pipeline.files import create_file, make_folder
from pipeline.iceberg import TABLE_PROPERTIES, iceberg_schema, partition_spec
from pipeline.lake import CATALOG_TIMEOUT_S, explain_fault
from pipeline.records import RecordPath, connect, explain_server_fault, held_session
from pipeline.stores import ObjectPath, locate
from transforms.plan import Dataset, Zone


def open_catalog(place: Path | RecordPath, zone: Zone, *, make: bool = False) -> SqlCatalog:
    """Open the catalog of a zone.

    Args:
        place: the database's file, or the zone's schema in a server.
        zone: the zone.
        make: whether to make the database's tables and the zone's namespace.
    """
    files = PrivateFileIO if zone == "operational" else LakeFileIO
    properties = {"init_catalog_tables": str(make).lower(), "py-io-impl": f"{__name__}.{files.__name__}"}
    with catalog_faults(str(place)):
        if isinstance(place, RecordPath):
            catalog: SqlCatalog = _ServerCatalog(place, zone, **properties)
        else:
            catalog = SqlCatalog(zone, uri=f"sqlite:///{place}?timeout={CATALOG_TIMEOUT_S}", **properties)
        if make:
            catalog.create_namespace_if_not_exists(zone)
    return catalog


def ensure_table(catalog: SqlCatalog, dataset: Dataset, location: Path | ObjectPath) -> None:
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
        fault = error.orig or error
        raise (explain_fault if isinstance(fault, sqlite3.Error) else explain_server_fault)(fault, where) from None


class _ServerCatalog(SqlCatalog):
    """A zone's schema as a catalog; what changes it goes by the session that holds the committer's lock, if one does.

    A session that was lost is not made anew: whoever has lost the lock must change nothing.
    """

    def __init__(self, place: RecordPath, zone: Zone, **properties: str) -> None:
        held = held_session(place.server)
        engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: held or connect(place.server),
            poolclass=StaticPool if held else NullPool,
        )
        self._of_zone = engine.execution_options(schema_translate_map={None: place.zone})
        super().__init__(zone, uri="postgresql+psycopg://", **properties)

    def _init_catalog(self) -> None:
        self.engine = self._of_zone
        if self.properties["init_catalog_tables"] == "true":
            self.create_tables()
        self._schema_version = "v1"


class LakeFileIO(PyArrowFileIO):
    """pyiceberg's files, by the stores that all else goes by."""

    def _initialize_fs(self, scheme: str, netloc: str | None = None) -> FileSystem:
        store = locate(f"{scheme}://{netloc}")
        return store.filesystem if isinstance(store, ObjectPath) else super()._initialize_fs(scheme, netloc)


class PrivateFileIO(LakeFileIO):
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
