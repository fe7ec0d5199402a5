"""The whole job beside its peers, in one run: ``python -m benchmarks.run [--scale small|full|large] [--peers a,b]``."""

import argparse
import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.chart import draw_results
from benchmarks.measure import UnfinishedError, count_bytes, ingest, python, run_process
from benchmarks.report import RESULTS, open_console, start_table, take_median, work_folder, write_results
from pipeline.fleet.options import HOURLY_SHARE

POLICY = Path(__file__).with_name("two_datasets.yaml")
#: Points of the workload for the row-wise peer, and of the one that shows what starting takes.
ROWS, TINY = 2_500, 120
ROUNDS = 3
OURS = "meterveil"


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        points: metering points, of which one day is read.
        hourly_share: share of them that still deliver hours.
        slow_rounds: how often the slow peers run.
        timeout: seconds that a peer has for one run.
    """

    points: int
    hourly_share: float
    slow_rounds: int
    timeout: float


#: 2 M, 20 M and 108 M readings.
SCALES = {
    "small": Scale(25_000, HOURLY_SHARE, 1, 120),
    "full": Scale(250_000, HOURLY_SHARE, ROUNDS, 1_200),
    "large": Scale(1_100_000, 0, 1, 3_600),
}


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

    @property
    def ours(self) -> bool:
        """Whether it is meterveil itself."""
        return self.name in (OURS, "start")


@dataclass(frozen=True)
class Race:
    """The runs so far.

    Attributes:
        work: folder of workloads and lakes.
        timeout: seconds that a peer has for one run.
        console: where it says how it goes on.
        readings: number of readings of each workload, by its points.
        runs: by name of the entrant.
        unfinished: why an entrant did not end a run, after which it has no other.
    """

    work: Path
    timeout: float
    console: Console
    readings: dict[int, int] = field(default_factory=dict)
    runs: defaultdict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    unfinished: dict[str, str] = field(default_factory=dict)

    def prepare(self, points: int, hourly_share: float) -> None:
        """Make a workload, and the lake of it that peers are compared with."""
        self.console.print(f"making a workload of {points:,} points")
        source, lake = self._find(points)
        made = run_process(python("benchmarks.workload", source, str(points), str(hourly_share)))
        self.readings[points] = json.loads(made.output)["readings"]
        run_process(ingest(source, lake, "--policy", POLICY))

    def run(self, entrant: Entrant) -> None:
        """Let an entrant do the job once; what it made the first time is compared with ours."""
        source, lake = self._find(entrant.points)
        out = self.work / "out"
        try:
            usage = run_process(entrant.command(source, out, lake), None if entrant.ours else self.timeout)
        except UnfinishedError as error:
            if entrant.ours:
                raise
            self.unfinished[entrant.name] = error.reason
            self.console.print(f"{entrant.name}: {error.reason}")
        else:
            told = {} if entrant.ours else json.loads(usage.output.splitlines()[-1])
            run = {"seconds": usage.wall, **told, **usage.tell(), "readings": self.readings[entrant.points]}
            run["bytes_out"] = count_bytes(*(_datasets_of_lake(out) if entrant.ours else (out,)))
            if not entrant.ours and not self.runs[entrant.name]:
                in_order = ["--sorted"] if entrant.in_order else []
                run["verified"] = json.loads(run_process(python("benchmarks.verify", lake, out, *in_order)).output)
            self.runs[entrant.name].append(run)
            self.console.print(f"{entrant.name}: {run['seconds']:.2f} s")
        shutil.rmtree(out, ignore_errors=True)

    def _find(self, points: int) -> tuple[Path, Path]:
        return self.work / f"source-{points}", self.work / f"lake-{points}"


def main() -> None:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="full", help="2, 20 or 108 M readings (full)")
    parser.add_argument("--peers", help="names of the peers that take part, joined by commas (default: all)")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    arguments = parser.parse_args()
    scale, console = SCALES[arguments.scale], open_console()
    everybody = list_entrants(scale)
    chosen = arguments.peers.split(",") if arguments.peers else [entrant.name for entrant in everybody]
    if unknown := set(chosen) - {entrant.name for entrant in everybody}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    skipped = {entrant.name: "left out of this run" for entrant in everybody if entrant.name not in chosen}
    if not find_spec("pyspark") or not shutil.which("java"):
        skipped["pyspark"] = "pyspark (extra bench) or Java is not installed"
    skipped = {name: reason for name, reason in skipped.items() if name not in (OURS, "start")}
    entrants = [entrant for entrant in everybody if entrant.name not in skipped]
    with work_folder(arguments.work) as work:
        race = Race(work, scale.timeout, console)
        for points in sorted({TINY, *(entrant.points for entrant in entrants)}):
            race.prepare(points, scale.hourly_share)
        for turn in range(ROUNDS):
            for entrant in entrants:
                if turn < entrant.rounds and entrant.name not in race.unfinished:
                    race.run(entrant)
    runs = {name: runs for name, runs in race.runs.items() if runs}
    titles = {entrant.name: entrant.title for entrant in entrants}
    results = {
        "scale": arguments.scale,
        "ratios": compare_runs(runs, 0),
        "ratios_without_start": compare_runs(runs, take_median(runs["start"], "wall")),
        "titles": titles,
        "skipped": skipped,
        "unfinished": race.unfinished,
        "runs": runs,
    }
    write_results("latest", results)
    (RESULTS / "latest.svg").write_text(draw_results(json.loads((RESULTS / "latest.json").read_text())))
    _print(results, console)


def list_entrants(scale: Scale) -> list[Entrant]:
    """List everybody: what starting takes, meterveil, then the peers."""

    def peer(name: str) -> Callable[[Path, Path, Path], list[str]]:
        return lambda source, out, _: python(f"benchmarks.peers.{name}", source, out)

    def ours(source: Path, out: Path, _: Path) -> list[str]:
        return ingest(source, out, "--policy", POLICY)

    points, slow = scale.points, scale.slow_rounds
    return [
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
        Entrant("beam_rows", "Beam, row by row", ROWS, peer("beam_rows"), in_order=False, rounds=slow),
        Entrant("pyspark", "PySpark", points, peer("pyspark"), rounds=slow),
    ]


def _datasets_of_lake(lake: Path) -> tuple[Path, Path]:
    return lake / "operational" / "readings" / "data", lake / "analytics" / "readings" / "data"


def compare_runs(runs: dict[str, list[dict[str, Any]]], start: float) -> dict[str, float]:
    """Divide each peer's time for a reading by ours, from which ``start`` seconds are taken."""
    ours = (take_median(runs[OURS], "wall") - start) / runs[OURS][0]["readings"]
    return {
        name: round(take_median(of, "seconds") / of[0]["readings"] / ours, 3)
        for name, of in runs.items()
        if name not in (OURS, "start")
    }


def _print(results: dict[str, Any], console: Console) -> None:
    figures = ("readings", "runs", "seconds", "ns a reading", "CPU s", "peak MB", "MB out")
    table = start_table("the whole job, medians", "who", *figures, "time / ours", "… without start")
    for name, runs in results["runs"].items():
        seconds, cpu, peak, out = (take_median(runs, key) for key in ("seconds", "cpu", "peak_bytes", "bytes_out"))
        count = runs[0]["readings"]
        ratios = [results[kind].get(name) for kind in ("ratios", "ratios_without_start")]
        table.add_row(
            results["titles"][name],
            f"{count:,}",
            str(len(runs)),
            f"{seconds:.2f}",
            f"{seconds / count * 1e9:,.0f}",
            f"{cpu:.2f}",
            f"{peak / 1e6:,.0f}",
            f"{out / 1e6:.1f}",
            *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        )
    console.print(table)
    for name, reason in (results["skipped"] | results["unfinished"]).items():
        console.print(f"{name}: {reason}")
    console.print(f"written: {RESULTS / 'latest.json'} and latest.svg")


if __name__ == "__main__":
    main()
