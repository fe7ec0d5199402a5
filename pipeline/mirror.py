"""Mirrors: a zone's tables in a Glue catalog, where the engines of analysts look them up.

The lake's own catalog stays the one that commits go by. A mirror holds where each table's current metadata is, and no
more: it can be late, never wrong, and a mirror that is lost is made again. Which catalog a name means, and with which
credentials, is pyiceberg's own configuration (``PYICEBERG_CATALOG__<NAME>__…``, ``~/.pyiceberg.yaml``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError
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
        MeterveilError: there is no such Glue catalog, it fails, or the namespace has a table of somebody else's by a
            name that is needed. What was brought stays.
    """
    with _mirror_faults(name):
        mirror = load_catalog(name, **_FILES)
        if type(mirror).__name__ != "GlueCatalog":  # whose module needs a client that others do not
            raise MeterveilError("not a Glue catalog", where=name, remedy="name one of the type glue")
        mirror.create_namespace_if_not_exists(namespace)
        brought = [
            Brought(table, _bring(lake, table, mirror, (namespace, table.partition(".")[2])))
            for table in lake.table_names((zone,))
        ]
        kept = {entry.table.partition(".")[2] for entry in brought}
        for identifier in sorted(mirror.list_tables(namespace)):
            if identifier[-1] in kept:
                continue
            if (_find(mirror, identifier) or "").startswith(f"{lake.folder(zone)}/"):
                mirror.drop_table(identifier)  # the name alone, never a file
                brought.append(Brought(f"{zone}.{identifier[-1]}", "removed"))
    return brought


def _bring(lake: Lake, table: str, mirror: Any, identifier: tuple[str, str]) -> str:
    """Bring a table, again if the lake has moved on: of two that bring it at once, one ends with what is current."""
    outcome = "as it was"
    while True:
        current, found = lake.state(table).file, _find(mirror, identifier)
        if found is None:
            mirror.register_table(identifier, current)
            outcome = "added"
        elif not found.startswith(f"{lake.table_folder(table)}/"):
            raise MeterveilError(
                "the namespace has a table of this name that is not of this lake",
                where=".".join(identifier),
                remedy="name another one: --namespace",
            )
        elif found != current:
            _move(mirror, identifier, current)
            outcome = "moved" if outcome == "as it was" else outcome
        if lake.state(table).file == current:
            return outcome


def _find(mirror: Any, identifier: Identifier) -> str | None:
    """Find where Glue says that a table's metadata is, without opening it: it may be gone by now."""
    namespace, table = identifier
    try:
        return str(mirror._get_glue_table(namespace, table)["Parameters"]["metadata_location"])  # noqa: SLF001
    except NoSuchTableError:
        return None


def _move(mirror: Any, identifier: tuple[str, str], current: str) -> None:
    """Do what pyiceberg's own commits do there, without writing metadata: columns and pointer in one update."""
    from pyiceberg.catalog.glue import _construct_table_input  # noqa: PLC0415 - it needs a client that others do not

    namespace, table = identifier
    held = mirror._get_glue_table(namespace, table)  # noqa: SLF001
    metadata = StaticTable.from_metadata(current, _FILES).metadata
    before = held["Parameters"]["metadata_location"]
    moved = _construct_table_input(table, current, metadata.properties, metadata, held, before)
    mirror._update_glue_table(namespace, table, moved, held["VersionId"])  # noqa: SLF001


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
