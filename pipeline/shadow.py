"""Changing tables where nobody sees it, and all at once: in a shadow of the lake's catalogs.

A rebuild changes every table, some of them in their columns. Its tables are changed in catalogs of their own, and then
the rows of these take the places of the lake's, in one transaction a zone. So a reader finds all tables of a zone as
they were or as they are, and one that is at work keeps the files that it has begun with.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.table import Table
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from pipeline.catalog import catalog_faults, ensure_table, has_columns, open_catalog
from pipeline.files import make_folder
from pipeline.lake import CATALOG, Lake
from pipeline.records import RecordPath
from transforms.plan import Plan, Zone

_ZONES: tuple[Zone, ...] = ("operational", "analytics")


def list_remade(lake: Lake, plan: Plan) -> tuple[str, ...]:
    """List the tables of a plan that have to be made anew: they are not there, or have other columns."""
    return tuple(
        name
        for name, dataset in sorted(plan.datasets.items())
        if not lake.has_table(name) or not has_columns(lake.table(name), dataset)
    )


class Shadow:
    """Catalogs with the tables of a plan as they are to be."""

    def __init__(self, lake: Lake, catalogs: dict[Zone, SqlCatalog]) -> None:
        self._lake, self._catalogs = lake, catalogs

    def table(self, name: str) -> Table:
        """Load a table, to change it."""
        zone, table = name.split(".")
        return self._catalogs[zone].load_table((zone, table))  # type: ignore[index]

    def take_place(self) -> None:
        """Put every table in its place in the lake, and take out those that the shadow has not."""
        for zone, catalog in self._catalogs.items():
            with catalog_faults(zone), Session(catalog.engine) as session:
                wanted = {
                    (row.table_namespace, row.table_name): row.metadata_location
                    for row in session.scalars(select(IcebergTables))
                }
            real = self._lake.catalog(zone)
            with catalog_faults(zone), Session(real.engine) as session, session.begin():
                for row in session.scalars(select(IcebergTables).where(IcebergTables.catalog_name == real.name)):
                    location = wanted.pop((row.table_namespace, row.table_name), None)
                    if location is None:
                        session.execute(
                            delete(IcebergTables).where(
                                IcebergTables.catalog_name == row.catalog_name,
                                IcebergTables.table_namespace == row.table_namespace,
                                IcebergTables.table_name == row.table_name,
                            )
                        )
                    elif location != row.metadata_location:
                        row.previous_metadata_location = row.metadata_location
                        row.metadata_location = location
                for (namespace, table), location in wanted.items():
                    session.add(
                        IcebergTables(
                            catalog_name=real.name,
                            table_namespace=namespace,
                            table_name=table,
                            metadata_location=location,
                            previous_metadata_location=None,
                        )
                    )


@contextmanager
def shadow_tables(lake: Lake, plan: Plan, remade: Iterable[str], folder: Path | RecordPath) -> Iterator[Shadow]:
    """Open a shadow of a lake's catalogs; what was left of an earlier one is begun again.

    Args:
        lake: the lake.
        plan: the tables that it is to have.
        remade: names of those that begin empty, with the columns of the plan.
        folder: where the shadow is kept; emptied afterwards. A lake whose catalog is in a server has it in a temporary
            folder.
    """
    if isinstance(folder, RecordPath):
        with (
            TemporaryDirectory(prefix="meterveil-shadow-") as temporary,
            shadow_tables(lake, plan, remade, Path(temporary)) as shadow,
        ):
            yield shadow
        return
    catalogs: dict[Zone, SqlCatalog] = {}
    for zone in _ZONES:
        make_folder(folder / zone, private=True)
        (folder / zone / CATALOG).unlink(missing_ok=True)
        catalogs[zone] = open_catalog(folder / zone / CATALOG, zone, make=True)
    try:
        new = set(remade)
        for name, dataset in plan.datasets.items():
            zone, table = dataset.zone, name.partition(".")[2]
            if name in new:
                ensure_table(catalogs[zone], dataset, lake.folder(zone) / table)
            else:
                with catalog_faults(name):
                    catalogs[zone].register_table((zone, table), lake.table(name).metadata_location)
        yield Shadow(lake, catalogs)
    finally:
        for zone, catalog in catalogs.items():
            catalog.close()
            (folder / zone / CATALOG).unlink(missing_ok=True)
