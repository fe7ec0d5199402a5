"""What a person sees: progress of a run, a summary when it is done, what a verification found."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.findings import Findings
from pipeline.progress import PROGRESS
from pipeline.totals import Totals

_REFRESH_S = 0.2
_NEWEST_DAYS = 14


@contextmanager
def show_progress(what: str) -> Iterator[None]:
    """Show the counters of a run on standard error while it works; nothing where that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    done = threading.Event()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what)

        def refresh() -> None:
            while not done.wait(_REFRESH_S):
                counts = "  ".join(f"{name} {count:,}" for name, count in PROGRESS.read().items())
                bar.update(task, description=f"{what}  {counts}")

        thread = threading.Thread(target=refresh, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def print_record(record: dict[str, Any], console: Console, started: float | None = None) -> None:
    """Print the summary of a run: readings, what became of them, tables, seconds.

    Args:
        record: of the run (``pipeline.commit``).
        console: where to.
        started: when the command that ran it was, by the monotonic clock; None if it was another one.
    """
    totals = Totals(**record["totals"])
    readings = Table(title=f"Run {record['run_id']}", title_justify="left")
    readings.add_column("readings")
    readings.add_column("count", justify="right")
    readings.add_column("kWh", justify="right")
    for label, name in _LINES:
        if name.endswith(":"):
            for kind in totals.by_kind(name[:-1]):
                _add_line(readings, f"  {label} {kind}", totals, name + kind)
        else:
            _add_line(readings, label, totals, name)
    console.print(readings)
    tables = Table(title="Written", title_justify="left")
    tables.add_column("table")
    for column in ("files", "rows", "bytes"):
        tables.add_column(column, justify="right")
    for name, entry in record["tables"].items():
        tables.add_row(name, *(f"{entry[column]:,}" for column in ("files", "rows", "bytes")))
    console.print(tables)
    _print_days(record["days"], console)
    if repeated := record["repeated"]:
        runs = ", ".join(sorted({entry["run_id"] for entry in repeated}))
        console.print(
            f"{len(repeated)} files were ingested before, by {runs}: not read again (--force reads them)",
            style="yellow",
            highlight=False,
        )
    for name, counts in record["registers"].items():
        if aside := ", ".join(f"{rule}: {rows:,}" for rule, rows in counts["set aside"].items()):
            console.print(f"{name}: rows set aside ({aside})", style="yellow", highlight=False)
    for line in record["skipped"]:
        console.print(f"skipped: {line}", style="yellow", highlight=False)
    began, ended = (datetime.fromisoformat(record[name]) for name in ("started_at", "committed_at"))
    to_commit = (ended - began).total_seconds()
    wall = to_commit if started is None else time.monotonic() - started
    rate = totals.count("delivered") / max(wall, 1e-9)
    console.print(
        f"{wall:.1f} s ({to_commit:.1f} s to the commit), {rate:,.0f} readings/s, "
        f"{totals.count('cells')} cells, {totals.count('cells_unchanged')} of them unchanged",
        highlight=False,
    )


def _print_days(days: Sequence[dict[str, Any]], console: Console) -> None:
    """Print how complete the days are, of those that the run touched the newest."""
    if not days:
        return
    table = Table(title="Complete", title_justify="left")
    table.add_column("local date")
    for column in ("points", "silent", "minutes missing", "share"):
        table.add_column(column, justify="right")
    for day in days[-_NEWEST_DAYS:]:
        expected, missing = day["expected_minutes"], day["missing_minutes"]
        numbers = (day["points"], day["silent_points"], missing)
        share = missing / expected if expected else 0.0
        table.add_row(day["local_date"], *(f"{number:,}" for number in numbers), f"{share:.2%}")
    console.print(table)
    if len(days) > _NEWEST_DAYS:
        console.print(f"and {len(days) - _NEWEST_DAYS} days before: see meterveil completeness", highlight=False)


def print_description(description: dict[str, Any], console: Console) -> None:
    """Print what an ingestion would do: files, cells, tables and policy."""
    files = Table(title="Would read", title_justify="left")
    for column in ("file", "format", "parts", "readings"):
        files.add_column(column, justify="right" if column in ("parts", "readings") else "left", overflow="fold")
    for file in description["files"]:
        if "problem" in file:
            files.add_row(file["name"], "can't be read", "", "")
        else:
            files.add_row(file["name"], file["format"], str(file["parts"]), f"{file['readings']:,}")
    console.print(files)
    days = Table(title="Into", title_justify="left")
    for column in ("local date", "cells", "readings"):
        days.add_column(column, justify="left" if column == "local date" else "right")
    by_day: dict[str, list[int]] = {}
    for cell in description["cells"]:
        by_day.setdefault(cell["local_date"], []).append(cell["readings"])
    for day, readings in by_day.items():
        days.add_row(day, str(len(readings)), f"{sum(readings):,}")
    console.print(days)
    quarantined = ", ".join(f"{count:,} {reason}" for reason, count in description["quarantined"].items())
    state = "there already" if description["lake_exists"] else "to be made"
    for line in (
        f"{description['readings']:,} readings; quarantined: {quarantined or 'none'}",
        f"lake {description['lake']}, {state}: {description['bucket_count']} buckets, {description['time_zone']}",
        f"policy {description['policy_digest'][:16]}…: {', '.join(description['datasets'])}",
        "nothing was written",
    ):
        console.print(line, highlight=False)


def print_findings(findings: Findings, console: Console) -> None:
    """Print what a verification looked at and found, and the first few places of each check."""
    table = Table()
    table.add_column("check")
    for column in ("looked at", "found", "notes"):
        table.add_column(column, justify="right")
    for check in findings:
        table.add_row(check.name, *(f"{number:,}" for number in (check.looked_at, check.violations, check.notes)))
    console.print(table)
    for check in findings:
        for place, problem, breaks in check.places:
            style = "red" if breaks else "yellow"
            console.print(f"{check.name}: {place}: {problem}", style=style, markup=False, highlight=False)


_LINES = (
    ("delivered", "delivered"),
    ("delivered", "delivered:"),
    ("quarantined", "quarantined"),
    ("quarantined", "quarantined:"),
    ("released before", "released_before"),
    ("not set aside", "not_set_aside:"),
    ("in the touched cells before", "before"),
    ("superseded", "superseded"),
    ("superseded", "superseded:"),
    ("dropped", "dropped"),
    ("dropped", "dropped:"),
    ("in the touched cells after", "after"),
)


def _add_line(table: Table, label: str, totals: Totals, name: str) -> None:
    table.add_row(label, f"{totals.count(name):,}", _kwh(totals.energy(name)))


def _kwh(milliwatt_hours: int) -> str:
    sign = "-" if milliwatt_hours < 0 else ""
    whole, fraction = divmod(abs(milliwatt_hours), 1_000_000)
    return f"{sign}{whole:,}.{fraction:06d}"
