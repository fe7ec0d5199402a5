"""Compares what came out of a run with the truth of the fleet that went in: ``python -m pipeline.fleet.compare``."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.totals import Totals


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure as it must be and as it came out: a count, or energy in kWh with six decimals."""

    name: str
    truth: Decimal
    found: Decimal

    @property
    def agrees(self) -> bool:
        """Whether both are the same, to the last digit."""
        return self.truth == self.found


def compare_run(truth: Mapping[str, Any], record: Mapping[str, Any], days: Iterable[Mapping[str, Any]]) -> list[Figure]:
    """Set the figures of a run beside those of the truth.

    Args:
        truth: ``truth.json`` of ``pipeline.fleet.generate``; the run must have read the whole fleet into a new lake.
        record: the run's record (``pipeline.commit``).
        days: rows of a query over the lake with ``local_date`` and ``kwh``, the energy that was consumed on it.
    """
    totals = Totals(**record["totals"])
    delivered = {"count": truth["readings_delivered"], "energy_mwh": truth["energy_delivered_mwh"]}
    final = {"count": truth["rows_final"], "energy_mwh": truth["energy_final_mwh"]}
    kwh = {row["local_date"]: Decimal(row["kwh"]) for row in days}
    return [
        *_compare_total("delivered", delivered, totals, "delivered"),
        *_compare_kinds("superseded", truth["superseded_by_kind"], totals),
        *_compare_kinds("quarantined", truth["quarantined"], totals),
        *_compare_total("in the tables", final, totals, "after"),
        *(
            Figure(f"consumed on {day}, kWh", _as_kwh(told["consumption"]["energy_mwh"]), kwh.get(day, Decimal()))
            for day, told in truth["dates"].items()
        ),
    ]


def _compare_kinds(name: str, told: Mapping[str, Mapping[str, int]], totals: Totals) -> Iterator[Figure]:
    whole = {unit: sum(total[unit] for total in told.values()) for unit in ("count", "energy_mwh")}
    yield from _compare_total(name, whole, totals, name)
    for kind in sorted(told.keys() | totals.by_kind(name).keys()):
        count = told.get(kind, {"count": 0})["count"]
        yield Figure(f"  {kind}", Decimal(count), Decimal(totals.count(f"{name}:{kind}")))


def _compare_total(label: str, told: Mapping[str, int], totals: Totals, name: str) -> tuple[Figure, Figure]:
    return (
        Figure(f"{label}, readings", Decimal(told["count"]), Decimal(totals.count(name))),
        Figure(f"{label}, kWh", _as_kwh(told["energy_mwh"]), _as_kwh(totals.energy(name))),
    )


def _as_kwh(milliwatt_hours: int) -> Decimal:
    return Decimal(milliwatt_hours).scaleb(-6)


def print_figures(figures: Sequence[Figure], console: Console) -> None:
    """Print figures as a table, and in one line whether all agree."""
    table = Table()
    table.add_column("what")
    for side in ("truth", "came out"):
        table.add_column(side, justify="right")
    table.add_column("agrees")
    for figure in figures:
        table.add_row(figure.name, f"{figure.truth:,}", f"{figure.found:,}", "yes" if figure.agrees else "NO")
    console.print(table)
    agreeing = sum(figure.agrees for figure in figures)
    console.print(f"{agreeing} of {len(figures)} figures agree with the truth, to the last digit", highlight=False)


def main(truth: str, record: str, days: str) -> int:
    """Compare the files of a truth, a run record and a query's rows as JSON; exit code 1 if a figure differs."""
    contents = (json.loads(Path(path).read_bytes(), parse_float=Decimal) for path in (truth, record, days))
    figures = compare_run(*contents)
    print_figures(figures, Console())
    return 0 if all(figure.agrees for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
