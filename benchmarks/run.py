"""The whole job beside its peers, in one run: ``python -m benchmarks.run [--scale small|full]``."""

import argparse
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.chart import draw_bars
from benchmarks.measure import count_bytes, describe_machine, ingest, python, run_process

RESULTS = Path(__file__).parent / "results"
POLICY = Path(__file__).with_name("two_datasets.yaml")
#: Metering points of one day: about 80 readings each, some metered by the hour.
SCALES = {"small": 25_000, "full": 250_000}
#: Points of the workload for the row-wise peer, and of the one that shows what starting takes.
ROWS, TINY = 2_500, 120
ROUNDS = 3
OURS = "meterveil"


@dataclass(frozen=True)
class Entrant:
    """Somebody who does the job.

    Attributes:
        name: in tables and results.
        title: in the chart.
        points: size of the workload that it gets.
        command: makes the command, given the workload, the folder for the output, and our own lake of that workload.
        in_order: whether its files must be sorted.
        rounds: how often it runs.
    """

    name: str
    title: str
    points: int
    command: Callable[[Path, Path, Path], list[str]]
    in_order: bool = True
    rounds: int = ROUNDS


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="full", help="small: 2 M readings; full: 20 M (full)")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    arguments = parser.parse_args()
    console = open_console()
    with work_folder(arguments.work) as work:
        results = _measure(arguments.scale, work, console)
    results = {"scale": arguments.scale, **results, **describe_machine()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "latest.svg").write_text(_draw(results))
    _print(results, console)


def open_console() -> Console:
    """Open a console on which the tables have room, in a log too."""
    console = Console(soft_wrap=True, highlight=False)
    return console if console.is_terminal else Console(soft_wrap=True, highlight=False, width=140)


@contextmanager
def work_folder(chosen: Path | None) -> Iterator[Path]:
    """Give a new folder, within the one that was chosen, and delete it afterwards."""
    if chosen:
        chosen.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="meterveil-bench-", dir=chosen) as name:
        yield Path(name)


def _measure(scale: str, work: Path, console: Console) -> dict[str, Any]:
    points = SCALES[scale]
    entrants, skipped = _list_entrants(points, scale)
    readings, lakes = {}, {}
    for size in sorted({TINY, *(entrant.points for entrant in entrants)}):
        console.print(f"making a workload of {size:,} points")
        source = work / f"source-{size}"
        readings[size] = json.loads(run_process(python("benchmarks.workload", source, str(size))).output)["readings"]
        lakes[size] = work / f"lake-{size}"
        run_process(ingest(source, lakes[size], "--policy", POLICY))
    runs: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for turn in range(ROUNDS):
        for entrant in entrants:
            if turn >= entrant.rounds:
                continue
            out = work / "out"
            source, lake = work / f"source-{entrant.points}", lakes[entrant.points]
            usage = run_process(entrant.command(source, out, lake))
            ours = entrant.name in (OURS, "start")
            told = {} if ours else json.loads(usage.output.splitlines()[-1])
            run = {"seconds": usage.wall, **told, "wall": usage.wall, "cpu": usage.cpu, "peak_bytes": usage.peak_bytes}
            run["bytes_out"] = count_bytes(*(_datasets_of_lake(out) if ours else (out,)))
            if not ours and turn == 0:
                in_order = ["--sorted"] if entrant.in_order else []
                run["verified"] = json.loads(run_process(python("benchmarks.verify", lake, out, *in_order)).output)
            runs[entrant.name].append(run | {"readings": readings[entrant.points]})
            console.print(f"round {turn + 1}: {entrant.name} {run['seconds']:.2f} s")
            shutil.rmtree(out)
    return {
        "ratios": _compare(runs, 0),
        "ratios_without_start": _compare(runs, _median(runs["start"], "wall")),
        "titles": {entrant.name: entrant.title for entrant in entrants},
        "skipped": skipped,
        "runs": dict(runs),
    }


def _list_entrants(points: int, scale: str) -> tuple[list[Entrant], dict[str, str]]:
    def peer(name: str) -> Callable[[Path, Path, Path], list[str]]:
        return lambda source, out, _: python(f"benchmarks.peers.{name}", source, out)

    def ours(source: Path, out: Path, _: Path) -> list[str]:
        return ingest(source, out, "--policy", POLICY)

    entrants = [
        Entrant("start", "starting meterveil", TINY, ours),
        Entrant(OURS, "meterveil", points, ours),
        Entrant(
            "codec_floor",
            "decode and encode only",
            points,
            lambda source, out, lake: python("benchmarks.peers.codec_floor", source, out, lake),
        ),
        Entrant("duckdb", "DuckDB, plain script", points, peer("duckdb")),
        Entrant("duckdb_expert", "DuckDB, expert", points, peer("duckdb_expert")),
        Entrant("polars", "Polars, streaming", points, peer("polars")),
        # These two take a minute each: at the small scale once must do.
        Entrant("beam_rows", "Beam, row by row", ROWS, peer("beam_rows"), False, ROUNDS if scale == "full" else 1),
        Entrant("pyspark", "PySpark", points, peer("pyspark"), True, ROUNDS if scale == "full" else 1),
    ]
    skipped = {}
    if not find_spec("pyspark") or not shutil.which("java"):
        skipped["pyspark"] = "pyspark (extra bench) or Java is not installed"
    return [entrant for entrant in entrants if entrant.name not in skipped], skipped


def _datasets_of_lake(lake: Path) -> tuple[Path, Path]:
    return lake / "operational" / "readings" / "data", lake / "analytics" / "readings" / "data"


def _median(runs: Sequence[dict[str, Any]], name: str) -> float:
    return median(run[name] for run in runs)


def _compare(runs: dict[str, list[dict[str, Any]]], start: float) -> dict[str, float]:
    """Divide each peer's time for a reading by ours, from which ``start`` seconds are taken."""
    ours = (_median(runs[OURS], "wall") - start) / runs[OURS][0]["readings"]
    return {
        name: round(_median(of, "seconds") / of[0]["readings"] / ours, 3)
        for name, of in runs.items()
        if name not in (OURS, "start")
    }


def _print(results: dict[str, Any], console: Console) -> None:
    table = Table(title=f"median of up to {ROUNDS} runs, {results['cores']} cores")
    table.add_column("who")
    for name in ("readings", "seconds", "ns a reading", "CPU s", "peak MB", "MB out", "time / ours", "… without start"):
        table.add_column(name, justify="right")
    for name, runs in results["runs"].items():
        seconds, cpu, peak, out = (_median(runs, key) for key in ("seconds", "cpu", "peak_bytes", "bytes_out"))
        count = runs[0]["readings"]
        ratios = [results[kind].get(name) for kind in ("ratios", "ratios_without_start")]
        table.add_row(
            results["titles"][name],
            f"{count:,}",
            f"{seconds:.2f}",
            f"{seconds / count * 1e9:,.0f}",
            f"{cpu:.2f}",
            f"{peak / 1e6:,.0f}",
            f"{out / 1e6:.1f}",
            *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        )
    console.print(table)
    for name, reason in results["skipped"].items():
        console.print(f"{name} was skipped: {reason}")
    console.print(f"written: {RESULTS / 'latest.json'} and latest.svg")


def _draw(results: dict[str, Any]) -> str:
    costs = {
        results["titles"][name]: _median(runs, "seconds") / runs[0]["readings"] * 1e9
        for name, runs in results["runs"].items()
        if name != "start"
    }
    readings = results["runs"][OURS][0]["readings"]
    title = f"{readings / 1e6:.1f} M readings, duplicates settled, joined, pseudonymised, two datasets written"
    return draw_bars(title, f"ns a reading, log scale, {results['cores']} cores; less is better", costs, OURS)


if __name__ == "__main__":
    main()
