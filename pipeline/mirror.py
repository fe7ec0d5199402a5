"""Mirrors: a zone's tables in a Glue or an Iceberg REST catalog, where the engines of analysts look them up.

The lake's own catalog stays the one that commits go by. A mirror holds where each table's current metadata is, and no
more: it can be late, never wrong, and a mirror that is lost is made again. Which catalog a name means, and with which
credentials, is pyiceberg's own configuration (``PYICEBERG_CATALOG__<NAME>__…``, ``~/.pyiceberg.yaml``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError, RESTError, TableAlreadyExistsError
from pyiceberg.table import StaticTable
from pyiceberg.typedef import Identifier

from pipeline.errors import MeterveilError
from pipeline.lake import Lake
from transforms.plan import Zone

#: How pyiceberg reads files here: by the stores that all else goes by.
_FILES = {"py-io-impl": "pipeline.catalog.LakeFileIO"}


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of a table in a mirror.

    Attributes:
        table: its name in the lake.
        outcome: ``added``, ``moved``, ``as it was`` or ``removed``.
    """

    table: str
    outcome: str


def bring_tables(lake: Lake, zone: Zone, name: str, namespace: str) -> list[Brought]:
    """Bring every table of a zone to a mirror as it is now, and take out those that the lake has no more.

    Args:
        lake: the lake; of it the zone alone has to be in reach.
        zone: the zone.
        name: of the catalog, in pyiceberg's configuration.
        namespace: where in that catalog; made if it is not there.

    Returns:
        The tables, in order.

    Raises:
        MeterveilError: there is no such Glue or REST catalog, it fails, or the namespace has a table of somebody
            else's by a name that is needed. What was brought stays.
    """
    with _mirror_faults(name):
        catalog = load_catalog(name, **_FILES)
        kind = _KINDS.get(type(catalog).__name__)
        if kind is None:
            raise MeterveilError("neither a Glue nor a REST catalog", where=name, remedy="name one of these types")
        mirror = kind(catalog)
        catalog.create_namespace_if_not_exists(namespace)
        within = catalog.identifier_to_tuple(namespace)
        brought = [
            Brought(table, _bring(lake, table, mirror, (*within, table.partition(".")[2])))
            for table in lake.table_names((zone,))
        ]
        kept = {entry.table.partition(".")[2] for entry in brought}
        for identifier in sorted(catalog.list_tables(namespace)):
            if identifier[-1] in kept:
                continue
            if (mirror.find(identifier) or "").startswith(f"{lake.folder(zone)}/"):
                mirror.drop(identifier)
                brought.append(Brought(f"{zone}.{identifier[-1]}", "removed"))
    return brought


class _Mirror(Protocol):
    """What is done otherwise in each type of catalogs."""

    def __init__(self, catalog: Any) -> None: ...

    def find(self, identifier: Identifier) -> str | None:
        """Find where a table's metadata is, also if it is gone by now; None if there is no such table."""

    def add(self, identifier: Identifier, current: str) -> None:
        """Add a table that is not there."""

    def move(self, identifier: Identifier, current: str) -> None:
        """Name other metadata of a table that is there; at no moment is it missing."""

    def drop(self, identifier: Identifier) -> None:
        """Drop a table's name, never a file."""


def _bring(lake: Lake, table: str, mirror: _Mirror, identifier: Identifier) -> str:
    """Bring a table, again if the lake has moved on: of two that bring it at once, one ends with what is current."""
    outcome = "as it was"
    while True:
        current, found = lake.state(table).file, mirror.find(identifier)
        if found is None:
            mirror.add(identifier, current)
            outcome = "added"
        elif not found.startswith(f"{lake.table_folder(table)}/"):
            raise MeterveilError(
                "the namespace has a table of this name that is not of this lake",
                where=".".join(identifier),
                remedy="name another one: --namespace",
            )
        elif found != current:
            mirror.move(identifier, current)
            outcome = "moved" if outcome == "as it was" else outcome
        if lake.state(table).file == current:
            return outcome


class _Glue:
    """Glue, by the calls of pyiceberg's own commits: it gives and takes a pointer without opening what that names."""

    def __init__(self, catalog: Any) -> None:
        self._catalog = catalog

    def find(self, identifier: Identifier) -> str | None:
        try:
            return str(self._catalog._get_glue_table(*identifier)["Parameters"]["metadata_location"])  # noqa: SLF001
        except NoSuchTableError:
            return None

    def add(self, identifier: Identifier, current: str) -> None:
        self._catalog.register_table(identifier, current)

    def move(self, identifier: Identifier, current: str) -> None:
        """Do what a commit does there, without writing metadata: columns and pointer in one update."""
        from pyiceberg.catalog.glue import _construct_table_input  # noqa: PLC0415 - it needs a client others do not

        held = self._catalog._get_glue_table(*identifier)  # noqa: SLF001
        metadata = StaticTable.from_metadata(current, _FILES).metadata
        before = held["Parameters"]["metadata_location"]
        moved = _construct_table_input(identifier[-1], current, metadata.properties, metadata, held, before)
        self._catalog._update_glue_table(*identifier, moved, held["VersionId"])  # noqa: SLF001

    def drop(self, identifier: Identifier) -> None:
        self._catalog.drop_table(identifier)


class _Rest:
    """A server of Iceberg's REST protocol, which opens a table's metadata whenever it is asked for it.

    So of a table whose metadata is gone it can't say where that was, nor whose. The namespace therefore has a note of
    each table that was brought, by which it is known again.
    """

    def __init__(self, catalog: Any) -> None:
        self._catalog = catalog

    def find(self, identifier: Identifier) -> str | None:
        """Find where a table is; if the server can't open it, the folder that it was brought to, or nothing."""
        try:
            return str(self._catalog.load_table(identifier).metadata_location)
        except (NoSuchTableError, RESTError):  # servers differ in what they say of metadata that is gone
            if identifier not in self._catalog.list_tables(identifier[:-1]):
                return None
            return str(self._catalog.load_namespace_properties(identifier[:-1]).get(_note_of(identifier), ""))

    def add(self, identifier: Identifier, current: str) -> None:
        self._catalog.register_table(identifier, current)
        self._note(identifier, current)

    def move(self, identifier: Identifier, current: str) -> None:
        try:
            self._catalog.register_table(identifier, current, overwrite=True)
        except (TableAlreadyExistsError, RESTError) as error:
            if isinstance(error, RESTError) and type(error) is not RESTError:  # it can't now: another matter
                raise
            raise MeterveilError(
                "the server does not register over a table that it has",
                where=".".join(identifier),
                remedy="take one that does; or drop the name there, without purge, and run this again: readers miss it "
                "until then",
            ) from None
        self._note(identifier, current)

    def drop(self, identifier: Identifier) -> None:
        # First the note: whoever has the name next must not be taken for this table.
        self._catalog.update_namespace_properties(identifier[:-1], removals={_note_of(identifier)})
        self._catalog.drop_table(identifier)

    def _note(self, identifier: Identifier, current: str) -> None:
        folder = f"{current.rpartition('/')[0]}/"
        self._catalog.update_namespace_properties(identifier[:-1], updates={_note_of(identifier): folder})


def _note_of(identifier: Identifier) -> str:
    return f"meterveil.{identifier[-1]}"


#: By name: Glue's module needs a client that others do not.
_KINDS: dict[str, type[_Mirror]] = {"GlueCatalog": _Glue, "RestCatalog": _Rest}


@contextmanager
def _mirror_faults(name: str) -> Iterator[None]:
    """Say in a line what a catalog refuses; its own words may hold addresses and credentials."""
    try:
        yield
    except MeterveilError:
        raise
    except Exception as error:  # noqa: BLE001 - clients of catalogs have no error in common
        raise MeterveilError(
            f"the catalog can't be brought up to date: {type(error).__name__}",
            where=name,
            remedy="see that pyiceberg's configuration names it, and that it answers; then run this again",
        ) from None
