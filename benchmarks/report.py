"""Where benchmarks work and where their results go."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import describe_machine

RESULTS = Path(__file__).parent / "results"


def open_console() -> Console:
    """Open a console on which the tables have room, in a log too."""
    console = Console(soft_wrap=True, highlight=False)
    return console if console.is_terminal else Console(soft_wrap=True, highlight=False, width=160)


@contextmanager
def work_folder(chosen: Path | None) -> Iterator[Path]:
    """Give a new folder, within the one that was chosen, and delete it afterwards."""
    if chosen:
        chosen.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="meterveil-bench-", dir=chosen) as name:
        yield Path(name)


def write_results(name: str, results: Mapping[str, Any]) -> None:
    """Write results, and on what machine they came about, to ``results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**results, **describe_machine()}, indent=1) + "\n")


def write_part(name: str, part: str, results: Mapping[str, Any]) -> None:
    """Write results, and on what machine they came about, as one part of ``results/<name>.json``; the rest stays."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    rest = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**rest, part: {**results, **describe_machine()}}, indent=1) + "\n")


def take_median(runs: Sequence[Mapping[str, Any]], figure: str) -> float:
    """Take the median of one figure of several runs."""
    return median(run[figure] for run in runs)


def take_turns(
    rounds: int, variants: Mapping[str, Callable[[int], dict[str, Any]]], console: Console
) -> dict[str, list[dict[str, Any]]]:
    """Run each variant once a round, one after the other, so that a busy minute meets all; what each run gave."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for turn in range(rounds):
        for name, measure in variants.items():
            runs[name].append(measure(turn))
            console.print(f"round {turn + 1}: {name}, {runs[name][-1]['wall']:.2f} s")
    return runs


def start_table(title: str, *columns: str) -> Table:
    """Start a table of figures, the first column of names."""
    table = Table(title=title)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left")
    return table


def compare_two(
    title: str, what: str, runs: Mapping[str, Sequence[Mapping[str, Any]]], target: float
) -> dict[str, Any]:
    """Compare the runs of two variants and print them; the results say the ratio of their medians.

    Args:
        title: of the table.
        what: the figure of a run that counts: ``wall`` or ``peak_bytes``. Time counts for a reading.
        runs: two variants, the one that the other is measured by first; each run with ``wall``, ``cpu``,
            ``peak_bytes`` and ``readings``.
        target: the ratio that is to be kept.
    """
    table = start_table(title, "variant", "readings", "seconds", "ns a reading", "CPU s", "peak MB")
    figures = []
    for name, of in runs.items():
        readings, wall, cpu, peak = (take_median(of, figure) for figure in ("readings", "wall", "cpu", "peak_bytes"))
        cells = (f"{readings:,.0f}", f"{wall:.2f}", f"{wall / readings * 1e9:,.0f}", f"{cpu:.2f}", f"{peak / 1e6:,.0f}")
        table.add_row(name, *cells)
        figures.append(wall / readings if what == "wall" else peak)
    ratio = round(figures[1] / figures[0], 3)
    console = open_console()
    console.print(table)
    names = list(runs)
    console.print(f"{names[1]} over {names[0]}: {ratio:.2f} (target: at most {target})")
    return {"ratio": ratio, "of": what, "target": target, "runs": dict(runs)}
