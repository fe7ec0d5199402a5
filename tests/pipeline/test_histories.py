"""Any history of deliveries, references and releases is at every step as the rules say, and ends as one clean run."""

import os
import shutil
import tempfile
from datetime import datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
from history_oracle import (
    BUCKETS,
    DAY,
    HOUR,
    POINTS,
    QUARTER,
    WORD,
    Contract,
    Mend,
    Reading,
    Reference,
    Told,
    assert_as_the_rules_say,
    assert_changes,
    change_over,
    deliver,
    merge,
    registered_in,
    spoil,
    write_readings,
    write_reference,
)
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from whole_job import DATA_TABLES, assert_same_rows, ingest, make_keys, query

from pipeline.begin import RunRequest
from pipeline.lake import open_lake
from pipeline.policy_file import load_policy
from pipeline.release import Chosen, ReleaseRequest, run_release
from pipeline.verify import verify_lake
from transforms.fixes import CORRECTION_SCHEMA, Fix

LARGE = bool(os.environ.get("METERVEIL_TEST_LARGE"))
#: A clean run is delivered what was mended, and sets nothing aside.
MERGED = [name for name in DATA_TABLES if name != "operational.quarantine_readings"]

points = st.integers(0, 2)
hours = st.integers(0, 3)
good = st.one_of(
    st.builds(
        deliver,
        points,
        st.integers(0, 2),
        st.sampled_from([QUARTER, HOUR, HOUR, QUARTER, DAY]),
        st.integers(2, 4),
        st.integers(1, 2),
        hours,
        st.sampled_from(["OK", "OK", "ESTIMATED", "MISSING", "REVISED"]),
        st.integers(1, 3),
    ),
    st.builds(change_over, points, st.integers(0, 2), st.integers(3, 4), hours, st.integers(1, 3)),
)
faults = st.sampled_from(
    [(), (), (), ("id",), ("word",), ("future",), ("absent",), ("huge",), ("off",), ("id", "word")]
)
deliveries = st.lists(st.builds(spoil, good, faults), min_size=1, max_size=4).map(
    lambda parts: tuple(chain.from_iterable(parts))
)
references = st.builds(
    Reference,
    st.dictionaries(points, st.tuples(st.sampled_from(["S-1", "S-2"]), st.sampled_from(["consumption", "production"]))),
    st.lists(
        st.builds(
            lambda point, first, days, *rest: Contract(point, first, None if days is None else first + days, *rest),
            points,
            st.integers(-1, 2),
            st.none() | st.integers(1, 3),
            st.sampled_from(["C-1", "C-2"]),
            st.integers(0, 2),
            st.sampled_from(["K-1", "K-2"]),
        ),
        max_size=4,
        unique_by=lambda contract: (contract.point, contract.signed, contract.name),
    ).map(tuple),
)
mends = st.one_of(
    st.builds(
        Mend,
        st.sampled_from(["", "mangled_identifier", "unknown_status"]),
        st.sampled_from(["", *POINTS]),
        st.sampled_from(["", "OK", "MISSING"]),
    ),
    st.builds(lambda energy: Mend("bad_energy", said={"energy": energy}), st.integers(1, 3)),
    st.builds(lambda hour: Mend("future", said={"registered": registered_in(hour)}), hours),
    st.builds(
        lambda of: Mend("off_grid", said={"start": of[0].start}),
        st.builds(deliver, points, st.integers(0, 2), st.just(HOUR), st.integers(2, 4), st.just(1), *[st.just(0)] * 3),
    ),
)


#: How a correction writes the fields that it says something of.
WRITTEN = {
    "energy": ("energy", lambda value: f"{Decimal(value) / 1_000_000:.6f}"),
    "registered": ("registered_at", datetime.isoformat),
    "start": ("start", datetime.isoformat),
}


def fix_of(mend: Mend, lake: Path, told: Told) -> Fix:
    """Say a mend as a user does: what is said of single readings by their places, as they are listed."""
    written = {WRITTEN[name][0]: WRITTEN[name][1](value) for name, value in mend.said.items()}
    listed = query(lake, "operational.quarantine_readings", "SELECT file_digest, row, position FROM t")
    tried = [] if not written else [place for place in listed if (place[0], place[1] + place[2]) in told.choose(mend)]
    rows = [dict(zip(("file_digest", "row", "position"), place, strict=True)) | written for place in tried]
    return Fix(mend.point, {WORD: mend.word} if mend.word else {}, pa.Table.from_pylist(rows, CORRECTION_SCHEMA))


class Histories(RuleBasedStateMachine):
    """A lake, what runs bring to it, and what it must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.keys, self.lake, self.told = make_keys(self.folder), self.folder / "lake", Told()
        self.files: list[tuple[Path, tuple[Reading, ...]]] = []
        self.feeds: Path | None = None
        self.whole = True

    def run(self, files=(), reference: Reference | None = None, **options) -> None:
        """Ingest files, with a reference if there is one, and look at the lake."""
        if reference:
            self.told.reference = reference
            self.feeds = write_reference(self.folder / f"reference-{len(list(self.folder.iterdir()))}", reference)
            options["reference"] = self.feeds
        before = merge(self.told.taken)
        record = ingest(self.lake, sorted({path for path, _ in files}), self.keys, **options)
        for file in files:
            self.told.deliver(*file)
        self.look(record, before)

    def look(self, record, before) -> None:
        self.whole = False
        assert_as_the_rules_say(self.lake, self.told)
        assert_changes(self.lake, record["run_id"], before, merge(self.told.taken))
        self.whole = True

    def write(self, readings: tuple[Reading, ...]) -> tuple[Path, tuple[Reading, ...]]:
        self.files.append((write_readings(self.folder / f"readings-{len(self.files)}.parquet", readings), readings))
        return self.files[-1]

    @initialize(readings=deliveries, reference=st.none() | references)
    def begin(self, readings, reference) -> None:
        self.run([self.write(readings)], reference, buckets=BUCKETS)

    @rule(readings=deliveries, number=st.integers(0, 9), reference=st.none() | references, force=st.booleans())
    def bring(self, readings, number, reference, force) -> None:
        """Bring a file, and one that came before; that is read again if forced to."""
        again = self.files[number : number + 1]
        self.run([self.write(readings), *again], reference, force=force)

    @rule(number=st.integers(0, 9))
    def read_again(self, number) -> None:
        self.run([self.files[number % len(self.files)]], force=True)

    @rule(reference=references)
    def correct_reference(self, reference) -> None:
        self.run(reference=reference)

    @precondition(lambda self: self.told.aside)
    @rule(mend=mends)
    def release(self, mend) -> None:
        before, fix = merge(self.told.taken), fix_of(mend, self.lake, self.told)
        with patch("os.fsync"):
            record = run_release(
                ReleaseRequest(self.lake, RunRequest(**self.keys, threads=2), Chosen(reason=mend.reason), fix)
            )
        assert self.told.release(mend) == (record is not None), "what nothing passes of is no run"
        if record:
            self.look(record, before)

    def finish(self) -> None:
        """Compare with one clean run of all that was taken in, as it was mended."""
        clean, reference = self.folder / "clean", {"reference": self.feeds} if self.feeds else {}
        right = write_readings(self.folder / "right.parquet", self.told.taken)
        ingest(clean, [right], self.keys, buckets=BUCKETS, **reference)
        assert_same_rows(self.lake, clean, MERGED)
        opened = open_lake(self.lake)
        assert verify_lake(opened, load_policy(opened.stored_policy())).violations == 0

    def teardown(self) -> None:
        try:
            if self.files and self.whole:
                self.finish()
        finally:
            shutil.rmtree(self.folder)


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=150 if LARGE else 2,
    stateful_step_count=8 if LARGE else 4,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
)

known = {0: ("S-1", "consumption"), 1: ("S-1", "production"), 2: ("S-2", "consumption")}
moved = Reference(known, (Contract(0, -1, 2), Contract(0, 2, None, "C-2", 1, "K-2")))
moved_earlier = Reference(known, (Contract(0, -1, 1), Contract(0, 1, None, "C-2", 1, "K-2")))


def test_a_history_of_everything() -> None:
    """Late, repeated, corrected, set aside and released, with a reference that comes late and is corrected backwards."""
    play = Histories()
    try:
        play.begin(tuple(deliver(0, 1, HOUR, 2, 2, 0, "OK", 5)), None)
        play.bring(tuple(change_over(0, 1, 3, 2, 1)), 0, moved, force=True)
        wrong = spoil(deliver(1, 2, HOUR, 2, 2, 1, "OK", 2), ["id"]) + spoil(
            deliver(0, 1, HOUR, 2, 1, 3, "OK", 9), ["word"]
        )
        play.bring(tuple(wrong + deliver(1, 2, QUARTER, 3, 1, 0, "ESTIMATED", 1)), 9, None, force=False)
        play.release(Mend(point=POINTS[1]))
        play.correct_reference(moved_earlier)
        play.read_again(2)
        play.release(Mend("unknown_status", word="REVISED"))
        assert not play.told.aside
        play.read_again(2)
    finally:
        play.teardown()
