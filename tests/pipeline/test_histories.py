"""Any history of deliveries and references ends as one clean run with the last reference does, and as the rules say."""

import os
import tempfile
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from history_oracle import (
    BUCKETS,
    DAY,
    HOUR,
    QUARTER,
    Contract,
    Reading,
    Reference,
    assert_as_the_rules_say,
    deliver,
    write_readings,
    write_reference,
)
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from whole_job import assert_same_rows, ingest, make_keys

from pipeline.lake import open_lake
from pipeline.policy_file import load_policy
from pipeline.verify import verify_lake

LARGE = bool(os.environ.get("METERVEIL_TEST_LARGE"))


class Run(NamedTuple):
    """What one run brings: readings, the file of an earlier run once more (read again if forced to), a reference."""

    readings: tuple[Reading, ...]
    repeated: int | None = None
    reference: Reference | None = None
    force: bool = False


points = st.integers(0, 2)
deliveries = st.builds(
    deliver,
    points,
    st.integers(0, 2),
    st.sampled_from([QUARTER, HOUR, HOUR, QUARTER, DAY]),
    st.integers(2, 4),
    st.integers(1, 2),
    st.integers(0, 3),
    st.sampled_from(["OK", "OK", "ESTIMATED", "MISSING", "REVISED"]),
    st.integers(1, 3),
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
runs = st.builds(
    Run,
    st.lists(deliveries, min_size=1, max_size=4).map(lambda parts: tuple(chain.from_iterable(parts))),
    st.none() | st.integers(0, 2),
    st.none() | references,
    st.booleans(),
)
histories = st.lists(runs, min_size=2, max_size=5 if LARGE else 3)

known = {0: ("S-1", "consumption"), 1: ("S-1", "production"), 2: ("S-2", "consumption")}
hours, quarters, later = (
    tuple(deliver(0, 1, HOUR, 2, 2, 0, "OK", 5)),
    tuple(deliver(0, 1, QUARTER, 3, 1, 2, "ESTIMATED", 1)),
    tuple(deliver(1, 2, HOUR, 2, 2, 1, "OK", 2)),
)
moved = Reference(known, (Contract(0, -1, 2), Contract(0, 2, None, "C-2", 1, "K-2")))
moved_earlier = Reference(known, (Contract(0, -1, 1), Contract(0, 1, None, "C-2", 1, "K-2")))


@given(histories)
@example([Run(hours), Run(quarters, 0, moved, force=True), Run(later, None, moved_earlier)])
@settings(
    max_examples=150 if LARGE else 2,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
def test_a_history_ends_as_one_clean_run_does_and_as_the_rules_say(history):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys, lake, clean = make_keys(folder), folder / "lake", folder / "clean"
        files: list[Path] = []
        last: Path | None = None
        for number, run in enumerate(history):
            files.append(write_readings(folder / f"readings-{number}.parquet", run.readings))
            again = [] if run.repeated is None else files[run.repeated : run.repeated + 1]
            options = {"force": run.force} if number else {"buckets": BUCKETS}
            if run.reference:
                last = options["reference"] = write_reference(folder / f"reference-{number}", run.reference)
            ingest(lake, {files[-1], *again}, keys, **options)
        ingest(clean, files, keys, buckets=BUCKETS, **({"reference": last} if last else {}))
        assert_same_rows(lake, clean)
        delivered = [reading for run in history for reading in run.readings]
        reference = next((run.reference for run in reversed(history) if run.reference), Reference({}, ()))
        assert_as_the_rules_say(lake, delivered, reference)
        opened = open_lake(lake)
        assert verify_lake(opened, load_policy(opened.stored_policy())).violations == 0
