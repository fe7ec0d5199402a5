"""The demo's ingest on a Flink cluster of this machine, beside the same in one process: ``make flink-demo``.

The last line says readings, seconds, and whether the rows are equal.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb
from cluster import end_on_signals, run_cluster
from jobs import Job, read_job

from pipeline.begin import read_run_record
from pipeline.errors import MeterveilError
from pipeline.lake import open_lake
from pipeline.totals import Totals

#: Tables that say in which run something happened; the rows of all others depend on what was delivered alone.
OF_RUNS = {"operational.runs", "operational.changes", "operational.releases"}
_PROGRAM = (sys.executable, "-c", "import sys; from pipeline.cli import main; sys.exit(main())")
_FLEET = ("--points", "10000", "--days", "7", "--start", "2026-03-24", "--faults", "all")
_PARALLELISM = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run both; 1 if the rows differ, or something failed."""
    end_on_signals()
    folder = Path((argv or sys.argv[1:])[0])
    try:
        make_fleet(folder)
        tell("The same in one process, to compare with")
        here, beside = folder / "lake-in-process", folder / "lake-flink"
        ingest(folder, here)
        tell("A cluster: JobManager, two TaskManagers, job service, all on loopback")
        with run_cluster() as cluster:
            print(f"ready: {cluster.rest}", flush=True)
            tell("The run on the cluster")
            started = time.monotonic()
            ingest(folder, beside, *cluster.options(_PARALLELISM))
            job = read_job(cluster)
            tell_time(job, time.monotonic() - started)
    except MeterveilError as error:
        print(f"flink-demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("flink-demo: interrupted; nothing of the cluster is left", file=sys.stderr)
        return 130
    ours, theirs = fingerprint(here), fingerprint(beside)
    tell("Rows of every table")
    for name, (rows, _) in theirs.items():
        print(f"{name:34}{rows:>12,}  {'as in one process' if ours[name] == theirs[name] else 'OTHER ROWS'}")
    print(f"{count_readings(beside):,} readings, {job.seconds:.1f} s, rows equal to the in-process run: ", end="")
    print("yes" if ours == theirs else "no")
    return int(ours != theirs)


def tell(heading: str) -> None:
    """Print a heading."""
    print(f"\n== {heading}", flush=True)


def make_fleet(folder: Path) -> None:
    """Make a fleet with every fault, and keys, unless they are there; lakes of earlier demos go."""
    for lake in ("lake-in-process", "lake-flink"):
        shutil.rmtree(folder / lake, ignore_errors=True)
    if not (folder / "truth.json").exists():
        tell("A fleet: 10,000 metering points, the week of the change to summer time, every fault of real feeds")
        meterveil("generate", *_FLEET, "--out", str(folder))
    if not (folder / "keys").exists():
        keyset, kek = folder / "keys" / "keyset.json", folder / "keys" / "kek.bin"
        meterveil("keys", "create", "--keyset", str(keyset), "--kek", str(kek))


def ingest(folder: Path, lake: Path, *options: str) -> None:
    """Ingest the fleet with the ordinary command."""
    keyset, kek = folder / "keys" / "keyset.json", folder / "keys" / "kek.bin"
    named = {"--reference": folder / "reference", "--lake": lake, "--keyset": keyset, "--kek": kek}
    readings = ("--readings", str(folder / "readings" / "*"))
    meterveil("ingest", *readings, *(str(part) for pair in named.items() for part in pair), *options)


def meterveil(*arguments: str) -> None:
    """Run a command.

    Raises:
        MeterveilError: it failed, and has said why.
    """
    if subprocess.run([*_PROGRAM, *arguments], check=False).returncode not in (0, 3):  # 3: a limit that warns
        raise MeterveilError(f"meterveil {arguments[0]} failed")


def tell_time(job: Job, wall: float) -> None:
    """Print where the time went of a run that took so many seconds in all."""
    before = {"start the command, hand the job over": wall - job.seconds}
    for what, seconds in {**before, **job.phases}.items():
        print(f"{what:40}{seconds:6.1f} s")
    print(f"{'through the shuffle':40}{job.shuffled / 1e6:6.2f} MB")


def fingerprint(lake: Path) -> dict[str, tuple[int, int]]:
    """Count the rows of every table and add up their hashes: the same if and only if the rows are, in any order."""
    opened = open_lake(lake)
    found = {}
    with duckdb.connect() as connection:
        for name in sorted(set(opened.table_names()) - OF_RUNS):
            paths = [file.path for file in opened.state(name).files()] if opened.state(name).snapshot_id else []
            if paths:
                relation = connection.from_parquet(paths, hive_partitioning=False)
                [found[name]] = relation.aggregate("count(*), sum(hash(*COLUMNS(*))::hugeint)").fetchall()
    return found


def count_readings(lake: Path) -> int:
    """Count what the lake's only run was delivered."""
    opened = open_lake(lake)
    [file] = opened.state("operational.runs").files()
    return Totals(**read_run_record(opened, file.label)["totals"]).count("delivered")


if __name__ == "__main__":
    sys.exit(main())
