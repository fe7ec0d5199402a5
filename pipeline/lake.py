"""The lake: two roots with a catalog each."""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pipeline.errors import MeterveilError
from pipeline.files import create_file, list_drafts, make_folder, replace_file
from pipeline.labels import name_data_file
from pipeline.records import RecordPath, check_server, hold, make_zone, reaches_zone
from pipeline.settings import BUCKET_FUNCTION, FORMAT_VERSION, SETTINGS, LakeSettings, read_settings, write_settings
from pipeline.stores import ObjectPath, Place, is_readable, locate
from pipeline.table_state import TableState, list_names, read_state
from transforms.plan import Plan, Zone

if TYPE_CHECKING:
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.table import Table

CATALOG = "catalog.db"
#: Files of the operational zone that a lake must not lose, as they are at first: which days, and whose, it has no more.
MEMORY = {"horizons.json": b"{}\n", "tombstones.json": b"[]\n"}
_POLICY = "policy.yaml"
_ZONES: tuple[Zone, ...] = get_args(Zone)
#: Characters that the URIs of catalogs and tables, or the globs of readers, would take for something else.
_UNFIT_FOR_PATHS = frozenset("?#%*[]{}:\\")
#: How long a commit waits for another one's lock on the catalog.
CATALOG_TIMEOUT_S = 30


class Lake:
    """A lake. Cheap to open; pickles as its place alone.

    Attributes:
        root: the folder, or the prefix of a store, that holds both zones; absolute.
        settings: what was fixed when it was made.
    """

    def __init__(self, root: Path | ObjectPath, settings: LakeSettings) -> None:
        self.root, self.settings = root, settings
        self._catalogs: dict[Zone, SqlCatalog] = {}
        self._reached: set[Zone] = set()

    def __reduce__(self) -> tuple[object, ...]:
        return open_lake, (self.root,)

    @property
    def operational(self) -> Path | ObjectPath:
        """The root of the identified tables."""
        return self.root / "operational"

    @property
    def analytics(self) -> Path | ObjectPath:
        """The root of the pseudonymised tables; all that an analyst needs to reach."""
        return self.root / "analytics"

    def folder(self, zone: Zone) -> Path | ObjectPath:
        """Give the root of a zone."""
        return self.operational if zone == "operational" else self.analytics

    def records(self, zone: Zone) -> Path | RecordPath:
        """Say where a zone keeps the small files that are replaced or appended to: in its root, or in the server."""
        if self.settings.catalog:
            return _records_of(self.settings.catalog, zone)
        root = self.folder(zone)
        assert isinstance(root, Path)
        return root

    def reaches(self, zone: Zone) -> bool:
        """Tell whether this process can read a zone's catalog."""
        catalog = self.catalog_place(zone)
        if isinstance(catalog, Path):
            return os.access(catalog, os.R_OK)
        if zone not in self._reached and reaches_zone(catalog):
            self._reached.add(zone)
        return zone in self._reached

    def catalog(self, zone: Zone) -> "SqlCatalog":
        """Open a zone's catalog.

        Raises:
            MeterveilError: the zone is out of reach.
        """
        from pipeline.catalog import open_catalog

        if self.settings.catalog:  # by the session that holds the lock, if there is one
            self._check_reach(zone)
            return open_catalog(self.catalog_place(zone), zone)
        if zone not in self._catalogs:
            self._check_reach(zone)
            self._catalogs[zone] = open_catalog(self.catalog_place(zone), zone)
        return self._catalogs[zone]

    def ensure_tables(self, plan: Plan) -> None:
        """Make the tables of a plan that are missing.

        Raises:
            MeterveilError: a table is there with other columns.
        """
        from pipeline.catalog import ensure_table

        for dataset in plan.datasets.values():
            zone, (_, table) = _split_name(dataset.name)
            ensure_table(self.catalog(zone), dataset, self.folder(zone) / table)

    def table(self, name: str) -> "Table":
        """Load a table, ``operational.readings``, in its present state, to change it.

        Raises:
            MeterveilError: there is no such table, its zone is out of reach, or the lake was moved.
        """
        from pipeline.catalog import catalog_faults

        self.state(name)
        zone, identifier = _split_name(name)
        with catalog_faults(name):
            return self.catalog(zone).load_table(identifier)

    def state(self, name: str) -> TableState:
        """Read a table's present state.

        Raises:
            MeterveilError: there is no such table, its zone is out of reach, or the lake was moved.
        """
        state = self._find_state(name)
        if state is None:
            raise MeterveilError("no such table in the lake", where=name, remedy="see: meterveil tables")
        zone, (_, table) = _split_name(name)
        if state.location != str(self.folder(zone) / table):
            raise MeterveilError(
                "this is a copy of a lake elsewhere, whose files it would change",
                where=name,
                remedy="work on the lake itself: Iceberg's paths are absolute",
            )
        return state

    def has_table(self, name: str) -> bool:
        """Tell whether a table has been made."""
        return self._find_state(name) is not None

    def table_names(self, zones: Iterable[Zone] = _ZONES) -> list[str]:
        """List the tables that have been made, of both zones or of some."""
        names: list[str] = []
        for zone in zones:
            self._check_reach(zone)
            with _database_faults(str(self.catalog_place(zone))):
                names += list_names(self.catalog_place(zone), CATALOG_TIMEOUT_S)
        return sorted(names)

    def folder_names(self) -> list[str]:
        """List the names of tables that have a folder with data or metadata, be they in a catalog or not."""
        inner = [(zone, kind) for zone in _ZONES for kind in ("data", "metadata")]
        return sorted(
            {f"{zone}.{path.parent.name}" for zone, kind in inner for path in self.folder(zone).glob(f"*/{kind}")}
        )

    def table_folder(self, dataset_name: str) -> Path | ObjectPath:
        """Give the folder of a table."""
        zone, (_, table) = _split_name(dataset_name)
        return self.folder(zone) / table

    def new_data_path(self, dataset_name: str, label: str, mark: str = "") -> str:
        """Make a final, unique path for a data file; the label is a cell, a bucket or an input's digest."""
        return str(self._data_folder(dataset_name) / name_data_file(label, mark))

    def marked_data_paths(self, dataset_name: str, mark: str) -> set[str]:
        """Find the data files that were named with a mark, whether or not the table has them."""
        return {str(path) for path in self._data_folder(dataset_name).rglob(f"*-{mark}*.parquet")}

    def read_memory(self, name: str) -> bytes:
        """Read a file of ``MEMORY``.

        Raises:
            MeterveilError: it is gone.
        """
        path = self.records("operational") / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            if self.settings.format_version < FORMAT_VERSION:
                return MEMORY[name]
            raise MeterveilError(
                "this file is gone, without which what was dropped or erased could come back",
                where=str(path),
                remedy="restore it from a backup",
            ) from None

    def check_format(self) -> None:
        """Check that this version may change the lake.

        Raises:
            MeterveilError: it is of an older format: it can be read, and has to be migrated before it is changed.
        """
        if self.settings.format_version < FORMAT_VERSION:
            raise MeterveilError(
                f"the lake has format {self.settings.format_version}, this version writes {FORMAT_VERSION}",
                where=str(self.root),
                remedy=f"back it up, then: meterveil migrate --lake {self.root}",
            )

    def store_policy(self, text: str) -> None:
        """Keep the policy that the tables are made by, in both zones: an analyst reaches one of them only."""
        for zone in _ZONES:
            replace_file(self.records(zone) / _POLICY, text.encode(), private=zone == "operational")

    def stored_policy(self) -> Path | RecordPath | None:
        """Find the policy that the tables were made by, or None before the first run."""
        copies = (self.records(zone) / _POLICY for zone in _ZONES if not self.settings.catalog or self.reaches(zone))
        return next((copy for copy in copies if is_readable(copy)), None)

    def catalog_place(self, zone: Zone) -> Path | RecordPath:
        """Say where a zone's catalog is: a SQLite file, or a schema in the server."""
        records = self.records(zone)
        return records / CATALOG if isinstance(records, Path) else records

    def _data_folder(self, dataset_name: str) -> Path | ObjectPath:
        return self.table_folder(dataset_name) / "data"

    def _find_state(self, name: str) -> TableState | None:
        zone, _ = _split_name(name)
        self._check_reach(zone)
        try:
            with _database_faults(name):
                return read_state(self.catalog_place(zone), name, CATALOG_TIMEOUT_S)
        except FileNotFoundError as error:
            raise MeterveilError(
                "its metadata is not where the catalog says",
                where=name,
                remedy="move the lake back to the path where it was made: Iceberg's paths are absolute",
            ) from error

    def _check_reach(self, zone: Zone) -> None:
        if not self.reaches(zone):
            raise MeterveilError(
                "not there, or not readable by this user",
                where=str(self.folder(zone)),
                remedy=f"work as a user who may read the {zone} zone",
            )


def create_lake(root: str | Place, *, time_zone: str = "Europe/Helsinki", bucket_count: int, catalog: str = "") -> Lake:
    """Make a lake, or open the one that is there with the same settings.

    Args:
        root: a folder, or a prefix of a store.
        time_zone: of local dates.
        bucket_count: of metering points.
        catalog: server and database for its catalogs, ``postgresql://host:port/database``; a database holds one lake.
            Empty for files in its folders.

    Raises:
        MeterveilError: the folder holds something else, or a lake with other settings; or the lake is in a store, which
            many machines reach, and its catalog would not be.
    """
    path = _resolve(root)
    wanted = LakeSettings(FORMAT_VERSION, time_zone, bucket_count, BUCKET_FUNCTION, catalog and check_server(catalog))
    if isinstance(path, ObjectPath) and not catalog:
        raise MeterveilError(
            "a lake in a store needs a catalog that many machines can share, which SQLite is not",
            where=str(path),
            remedy="name a server: --catalog postgresql://HOST:PORT/DATABASE",
        )
    named = path.key if isinstance(path, ObjectPath) else str(path)
    if unfit := _UNFIT_FOR_PATHS.intersection(named):
        raise MeterveilError(f"the path has {' '.join(sorted(unfit))}", where=str(path), remedy="choose another name")
    if isinstance(path, Path) and next(folder for folder in (path, *path.parents) if folder.exists()).is_file():
        raise MeterveilError("there is a file where a folder is to be", where=str(path), remedy="choose another name")
    make_folder(path, private=False)
    with _lock_making(path, catalog):
        if not (path / SETTINGS).exists():
            _make_lake(path, wanted)
    lake = open_lake(path)
    lake.check_format()
    if lake.settings != wanted:
        have = lake.settings
        raise MeterveilError(
            f"the lake was made with {have.bucket_count} buckets, time zone {have.time_zone} "
            f"and {have.catalog or 'SQLite'} as its catalog",
            where=str(path),
            remedy="leave these options out, or make another lake",
        )
    return lake


def open_lake(root: str | Place) -> Lake:
    """Open a lake by its root or, where that is all one can reach, by its analytics folder.

    Raises:
        MeterveilError: it is no lake, or one of a newer format.
    """
    path = _resolve(root)
    if path.name == "analytics" and not (path / "analytics").is_dir():
        path = path.parent
    for file in (path / SETTINGS, path / "analytics" / SETTINGS):
        if is_readable(file):
            return Lake(path, read_settings(file))
    raise MeterveilError("not a lake", where=str(root), remedy="make one with: meterveil init, or ingest into it")


def is_lake(root: str | Place) -> bool:
    """Tell whether ``open_lake`` has a lake to open here."""
    return any(is_readable(locate(root) / folder / SETTINGS) for folder in ("", "analytics"))


def explain_fault(error: BaseException, where: str) -> MeterveilError:
    """Say in a line what is wrong with a catalog's database: locked, damaged, not to be written, or its disk full."""
    remedy = "look at its disk and its permissions, then run it again"
    if "locked" in str(error):
        remedy = "end the program that holds it, or wait for it; then run it again"
    elif any(word in str(error) for word in ("not a database", "malformed", "no such table")):
        remedy = f"restore {CATALOG} of its zone from a copy"
    return MeterveilError(f"the catalog fails: {error}", where=where, remedy=remedy)


def _make_lake(path: Path | ObjectPath, settings: LakeSettings) -> None:
    from pipeline.catalog import open_catalog

    for draft in list_drafts(path):  # left by a run that died here
        draft.unlink()
    if others := {entry.name for entry in path.iterdir()}.difference(_ZONES):
        raise MeterveilError(
            f"not a lake, and not empty ({len(others)} other entries)", where=str(path), remedy="choose an empty folder"
        )
    for zone in _ZONES:
        folder, private = path / zone, zone == "operational"
        make_folder(folder, private=private)
        if settings.catalog:
            catalog = _records_of(settings.catalog, zone)
            make_zone(catalog, str(path))
            open_catalog(catalog, zone, make=True)
            continue
        assert isinstance(folder, Path)
        with suppress(FileExistsError):  # left by a run that died here
            os.close(create_file(folder / CATALOG, private=private))
        open_catalog(folder / CATALOG, zone, make=True).close()
    write_memory(Lake(path, settings).records("operational"))
    write_settings(path, settings)


def write_memory(operational: Path | RecordPath) -> None:
    """Write those files of ``MEMORY`` that are not there."""
    for name, content in MEMORY.items():
        if not (operational / name).exists():
            replace_file(operational / name, content, private=True)


@contextmanager
def _database_faults(where: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise explain_fault(error, where) from None


def _split_name(name: str) -> tuple[Zone, tuple[str, str]]:
    for zone in _ZONES:
        if name.startswith(f"{zone}.") and name.count(".") == 1:
            return zone, (zone, name.removeprefix(f"{zone}."))
    raise MeterveilError("not a table's name", where=name, remedy="write operational.readings or analytics.readings")


def _resolve(root: str | Place) -> Path | ObjectPath:
    place = locate(root).resolve()
    if isinstance(place, RecordPath):
        raise MeterveilError("a lake's files are in no database", where=str(root), remedy="name a folder or a store")
    return place


def _records_of(server: str, zone: Zone) -> RecordPath:
    place = locate(server)
    assert isinstance(place, RecordPath)
    return place / zone


@contextmanager
def _lock_making(path: Path | ObjectPath, catalog: str) -> Iterator[None]:
    """Let one process at a time make a lake here."""
    if catalog:
        with hold(catalog, CATALOG_TIMEOUT_S):
            yield
        return
    assert isinstance(path, Path)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
