"""What is in the lake, and what a role may read of it."""

from dataclasses import dataclass

from pipeline.lake import Lake
from transforms.plan import Plan, Zone


@dataclass(frozen=True, slots=True)
class TableInfo:
    """One table of the lake.

    Attributes:
        name: ``analytics.readings``.
        zone: which of the two roots holds it.
        rows: rows in the current snapshot; None where the zone is out of reach.
        bytes: size of the current data files; None likewise.
        files: number of the current data files; None likewise.
        audience: roles that may read it.
        purposes: purposes for which they may.
        readable: whether the role asked about may read it; None when none was.
    """

    name: str
    zone: Zone
    rows: int | None
    bytes: int | None
    files: int | None
    audience: tuple[str, ...]
    purposes: tuple[str, ...]
    readable: bool | None


def list_tables(lake: Lake, plan: Plan, role: str | None = None) -> list[TableInfo]:
    """List the tables of a plan by name, with the totals of their current snapshots; reads no manifest."""
    return [
        TableInfo(
            name,
            dataset.zone,
            *_totals(lake, name, dataset.zone),
            tuple(sorted(dataset.audience)),
            tuple(sorted(dataset.purposes)),
            None if role is None else role in dataset.audience,
        )
        for name, dataset in sorted(plan.datasets.items())
    ]


def _totals(lake: Lake, name: str, zone: Zone) -> tuple[int | None, int | None, int | None]:
    if not lake.reaches(zone):
        return None, None, None
    if not lake.has_table(name):
        return 0, 0, 0
    summary = lake.state(name).summary()
    rows, size, files = (int(summary.get(f"total-{what}", 0)) for what in ("records", "files-size", "data-files"))
    return rows, size, files
