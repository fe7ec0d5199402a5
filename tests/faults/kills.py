"""Runs of the real command that are killed at an instant: what they leave, and that the next run makes it good.

An instant is a moment of the run's time; or shortly after something that the lake shows: a commit takes a few
milliseconds, and random moments would hardly ever meet it.
"""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from whole_job import DATA_TABLES, ingest, make_keys, rows_of

from pipeline.begin import RunRequest
from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions
from pipeline.journal import sole_committer
from pipeline.lake import is_lake, open_lake
from pipeline.maintain import maintain
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.publish import PublishRequest, run_publish
from pipeline.rebuild import RebuildRequest, run_rebuild
from pipeline.release import Chosen, ReleaseRequest, run_release
from pipeline.verify import verify_lake
from transforms.fixes import Fix

_PROGRAM = (sys.executable, "-c", "import sys; from pipeline.cli import main; sys.exit(main())")
_BUCKETS = 2
_POINT = "643006966022791278"
#: Between the instants at which a run, and the one after it, were killed; and of one that had ended before.
THEN, TOO_LATE = ", then ", "too late"
_POLL_S = 0.0005
#: How long after an event a run is killed, at most.
_SOON_S = 0.03


@dataclass(frozen=True)
class Scenario:
    """A state of the lake, and a command that changes it.

    Attributes:
        name: what happens.
        before: brings the lake into the state; it does not exist yet.
        arguments: of the command line, without the lake.
        again: the same work in this process.
    """

    name: str
    before: Callable[[], object]
    arguments: Sequence[str]
    again: Callable[[], object]


@dataclass
class Stage:
    """A folder with a small fleet, its keys, a lake, and what the lake must hold after each scenario.

    Attributes:
        folder: where all of it is.
        scenarios: what is played.
    """

    folder: Path
    scenarios: list[Scenario] = field(default_factory=list)
    expected: dict[str, dict[str, pa.Table]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def build(cls, folder: Path) -> "Stage":
        """Make the fleet: two days with every fault, corrections of the first, another reference."""
        stage = cls(folder)
        options = FleetOptions(points=300, days=2, start=date(2026, 3, 28), format="parquet", file_points=100)
        generate_fleet(options, folder)
        keys = make_keys(folder)
        files = sorted((folder / "readings").iterdir())
        first = [path for path in files if "20260329" in path.name] or files[: len(files) // 2]
        rest = [path for path in files if path not in first]
        corrected = _correct(first[0], folder / "corrected.parquet")
        reference, moved = folder / "reference", _move_out(folder / "reference", folder / "moved")

        def take_in(readings: Sequence[Path], **options: Any) -> object:
            return ingest(stage.lake, readings, keys, **options)

        def add(name: str, before: Callable[[], object], readings: Sequence[Path], *options: str, **again: Any) -> None:
            given = ["--keyset", str(keys["keyset"]), "--kek", keys["kek"], *options]
            if readings:
                given += ["--readings", *map(str, readings)]
            stage.scenarios.append(
                Scenario(name, before, ["ingest", *given], lambda: take_in(readings, force=False, **again))
            )

        def one_day() -> object:
            return take_in(first, reference=reference, buckets=_BUCKETS)

        def both_days() -> object:
            return take_in(files, reference=reference, buckets=_BUCKETS)

        def with_old_states() -> object:
            clock = time.time
            for days_ago, work in ((50, both_days), (40, lambda: take_in([corrected]))):
                past = patch("time.time", lambda days=days_ago: clock() - days * 86_400)
                # Tables are made by another clock than snapshots, which this one does not set back.
                with past, patch("pipeline.journal._await_clock"):
                    work()
            return None

        def release() -> object:
            lake = open_lake(stage.lake)
            return run_release(
                ReleaseRequest(lake.root, RunRequest(**keys, threads=2), mangled, Fix(metering_point=_POINT))
            )

        def rebuild() -> object:
            run_rebuild(RebuildRequest(stage.lake, RunRequest(**keys, threads=2), other))
            return stage.keep_house()  # files of tables with other columns are left to those who read them

        mangled = Chosen(reason="mangled_identifier")
        given = ("--keyset", str(keys["keyset"]), "--kek", keys["kek"])
        other = change_columns(folder / "other.yaml")
        stage.scenarios += [
            Scenario("housekeeping", with_old_states, ["maintain", "--yes"], stage.keep_house),
            Scenario(
                "out of quarantine",
                both_days,
                ["quarantine", "release", "--reason", mangled.reason, *given, "--metering-point", _POINT],
                release,
            ),
            Scenario(
                "another policy",
                both_days,
                ["rebuild", "--policy", str(other), *given],
                rebuild,
            ),
            Scenario(
                "sums and months",
                both_days,
                ["publish", *given],
                lambda: run_publish(PublishRequest(stage.lake, RunRequest(**keys, threads=2))),
            ),
        ]
        new = ("--reference", str(reference), "--buckets", str(_BUCKETS))
        add("a new lake", lambda: None, files, *new, reference=reference, buckets=_BUCKETS)
        add("another day and corrections", one_day, [*rest, corrected])
        add("another reference", both_days, [], "--reference", str(moved), reference=moved)
        add("the same again by force", both_days, [*files, corrected], "--force")
        return stage

    @property
    def lake(self) -> Path:
        """The lake; always at the same place, since its paths are absolute."""
        return self.folder / "lake"

    def keep_house(self) -> object:
        """Do what ``maintain --yes`` does, in this process."""
        lake = open_lake(self.lake)
        return maintain(lake, load_policy(lake.stored_policy()))

    def prepare(self, scenario: Scenario) -> None:
        """Bring the lake into the state that a scenario begins with; the first time, see what it ends with."""
        template = self.folder / f"before {scenario.name}"
        if scenario.name not in self.expected:
            self._clear()
            scenario.before()
            if self.lake.exists():
                shutil.copytree(self.lake, template)
            started = time.monotonic()
            assert self.start(scenario).wait() in (0, 3)
            self.seconds[scenario.name] = time.monotonic() - started
            self.expected[scenario.name] = self._read_tables()
        self._clear()
        if template.exists():
            shutil.copytree(template, self.lake)

    def start(
        self, scenario: Scenario, readings: Sequence[Path] = (), said: IO[bytes] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the command; with other readings than the scenario's, if any are given, and a file for its errors."""
        arguments = [*scenario.arguments]
        if readings:
            arguments[arguments.index("--readings") :] = ["--readings", *map(str, readings)]
        command = [*_PROGRAM, *arguments, "--lake", str(self.lake)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said or subprocess.DEVNULL)

    def verify(self, *, done: bool) -> list[str]:
        """Say what is wrong with the lake: as before, or as after once the commit that was begun is finished.

        Finishing it is what every command does first that changes a lake. After a run that is done nothing may be left.
        """
        if not is_lake(self.lake):
            return ["there is no lake"] if done else []
        lake = open_lake(self.lake)
        if lake.stored_policy() is None:  # nothing was committed
            return ["there is no policy"] if done else []
        if not done:
            with sole_committer(lake):
                pass
        checks = list(verify_lake(lake, load_policy(lake.stored_policy())))
        places = [
            (f"{check.name}: {place} {problem}", breaks) for check in checks for place, problem, breaks in check.places
        ]
        return [what for what, breaks in places if breaks or done]

    def compare(self, scenario: Scenario) -> list[str]:
        """List the tables whose rows are not those of a run that nobody killed."""
        found = self._read_tables()
        return [
            f"other rows in {name}"
            for name, rows in self.expected[scenario.name].items()
            if not rows.equals(found[name])
        ]

    def _read_tables(self) -> dict[str, pa.Table]:
        return {table: rows_of(self.lake, table) for table in DATA_TABLES}

    def _clear(self) -> None:
        shutil.rmtree(self.lake, ignore_errors=True)


def kill_once(stage: Stage, scenario: Scenario, chance: random.Random) -> tuple[str, list[str]]:
    """Start a scenario's command, kill it, verify, run it again, verify and compare.

    Returns:
        When it was killed, in words, and what is wrong.
    """
    stage.prepare(scenario)
    wrong: list[str] = []
    instants = []
    for _ in range(chance.choice((1, 1, 1, 2))):  # sometimes the run that was to make it good is killed too
        instants.append(_kill(stage, scenario, chance))
        wrong += [f"killed {instants[-1]}: {what}" for what in stage.verify(done=False)]
    scenario.again()
    wrong += [
        f"killed {', '.join(instants)}, run again: {what}"
        for what in [*stage.verify(done=True), *stage.compare(scenario)]
    ]
    return THEN.join(instants), wrong


def race_once(stage: Stage, chance: random.Random) -> tuple[str, list[str]]:
    """Let two or four runs share the work of a scenario, some of it twice: cells that meet, or that none of them finds.

    Returns:
        What ran, in words, and what is wrong.
    """
    scenario = next(one for one in stage.scenarios if one.name == "another day and corrections")
    stage.prepare(scenario)
    files = [Path(name) for name in scenario.arguments[scenario.arguments.index("--readings") + 1 :]]
    shares: list[list[Path]] = [[chance.choice(files)] for _ in range(chance.choice((2, 4)))]
    for file in files:
        chance.choice(shares).append(file)
    wrong = []
    with ExitStack() as stack:
        runs = []
        for share in shares:
            said = stack.enter_context(TemporaryFile())
            runs.append((stage.start(scenario, sorted(set(share)), said), said))
            time.sleep(chance.choice((0.0, chance.uniform(0, 1))))
        for process, said in runs:
            if (code := process.wait()) not in (0, 3):
                said.seek(0)
                wrong.append(f"a run ended with {code}: {said.read().decode(errors='replace').strip()}")
    return f"{len(shares)} at once", [*wrong, *stage.verify(done=True), *stage.compare(scenario)]


def _kill(stage: Stage, scenario: Scenario, chance: random.Random) -> str:
    process = stage.start(scenario)
    name, happened = chance.choice(_list_events(stage.lake))
    if happened is None:
        delay = chance.uniform(0, stage.seconds[scenario.name])
        _wait(process, lambda: False, delay)
    else:
        _wait(process, happened, 60)
        delay = chance.choice((0.0, chance.uniform(0, _SOON_S)))
        time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    ended = process.wait() != -signal.SIGKILL
    return TOO_LATE if ended else f"{delay:.3f} s after {name}"


def _list_events(lake: Path) -> list[tuple[str, Callable[[], bool] | None]]:
    """List what a lake shows of a run: name, and whether it has happened by now; None for a moment of the run's time."""

    def count(pattern: str) -> int:
        return sum(1 for _ in lake.glob(pattern))

    def more(pattern: str, by: int) -> Callable[[], bool]:
        at_first = count(pattern)
        return lambda: count(pattern) >= at_first + by

    return [
        ("its start", None),
        ("its start", None),
        ("its start", None),
        ("its lease", more("operational/leases/*.json", 1)),
        ("the first frame", more("operational/staging/*/*", 1)),
        ("the first file of readings", more("operational/readings/data/**/*.parquet", 1)),
        ("the first file of analytics", more("analytics/*/data/**/*.parquet", 1)),
        ("the journal", more("operational/journal/*.json", 1)),
        ("the journal", more("operational/journal/*.json", 1)),
        *(
            (f"metadata file {number} of operational", more("operational/*/metadata/*.metadata.json", number))
            for number in (1, 3)
        ),
        ("metadata of analytics", more("analytics/*/metadata/*.metadata.json", 1)),
        ("a manifest list", more("operational/*/metadata/snap-*.avro", 1)),
        ("the digests", more("operational/digests/*.json", 1)),
        ("an entry of the ledger", more("operational/inputs/*/*.json", 1)),
    ]


def _wait(process: subprocess.Popen[bytes], happened: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def change_columns(path: Path) -> Path:
    """Write a policy by which a table has other columns, and another other values."""
    document = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
    del document["datasets"]["analytics.readings"]["fields"]["customer"]
    document["datasets"]["analytics.daily"]["fields"]["energy"] = {"round": 0.1}
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def _correct(path: Path, out: Path) -> Path:
    """Deliver every fifth reading of a file again, with more energy and a later registration."""
    table = pq.read_table(path)
    table = table.filter(pa.array([number % 5 == 0 for number in range(len(table))]))
    for name, add in (("energy", pa.scalar(1_000)), ("registered_at", pa.scalar(86_400_000_000, pa.duration("us")))):
        index = table.schema.get_field_index(name)
        changed = pc.add(table[name].cast(pa.int64()) if name == "energy" else table[name], add)
        table = table.set_column(index, table.schema.field(index), changed.cast(table.schema.field(index).type))
    pq.write_table(table, out)
    return out


def _move_out(reference: Path, out: Path) -> Path:
    """Make another reference: every tenth contract ends on the second day."""
    shutil.copytree(reference, out)
    path = next(out.glob("contracts.*"))
    table = pq.read_table(path)
    second = pa.scalar(date(2026, 3, 29))
    chosen = pc.and_(pa.array([number % 10 == 0 for number in range(len(table))]), pc.less(table["valid_from"], second))
    index = table.schema.get_field_index("valid_to")
    ended = pc.if_else(chosen, second, table["valid_to"])
    pq.write_table(table.set_column(index, table.schema.field(index), ended), path)
    return out
