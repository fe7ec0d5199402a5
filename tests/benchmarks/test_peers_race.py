import io
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks.measure import UnfinishedError
from benchmarks.run import OURS, POLICY, SCALES, Entrant, Race, compare_runs, list_entrants
from pipeline.policy_file import DEFAULT_POLICY, load_policy

PRINTS = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(); print('{}')"


@pytest.fixture
def race(tmp_path):
    return Race(tmp_path, 60, Console(file=io.StringIO()), readings={10: 960})


def enter(name, text):
    return Entrant(name, name, 10, lambda _source, out, _lake: [sys.executable, "-c", text, str(out)])


def test_a_peer_that_does_not_end_is_said_and_stops_nobody(race):
    replace(race, timeout=0.5).run(enter("slow", "import time; time.sleep(60)"))
    race.run(enter("broken", "raise MemoryError('none left')"))
    assert race.unfinished == {"slow": "no end within 0.5 s", "broken": "failed: MemoryError: none left"}
    assert not any(race.runs.values())
    race.runs["quick"].append({"seconds": 1.0})  # what it makes was compared the first time
    race.run(enter("quick", PRINTS))
    assert [run["readings"] for run in race.runs["quick"][1:]] == [960]
    assert "quick" not in race.unfinished


def test_our_own_failure_ends_the_race(race):
    with pytest.raises(UnfinishedError):
        race.run(enter(OURS, "raise ValueError"))


def test_peers_are_compared_by_the_reading():
    ours = [{"wall": wall, "seconds": wall, "readings": 1000} for wall in (2.0, 9.0, 3.0)]
    runs = {OURS: ours, "start": ours, "peer": [{"seconds": 1.0, "readings": 100}]}
    assert compare_runs(runs, 0) == {"peer": round(1.0 / 100 / (3.0 / 1000), 3)}
    assert compare_runs(runs, 1.0) == {"peer": 5.0}


def test_the_largest_scale_has_a_hundred_million_readings_and_three_rounds_of_all_but_the_slow():
    large = SCALES["large"]
    assert large.points * 96 >= 100_000_000
    assert large.hourly_share == 0
    rounds = {entrant.name: entrant.rounds for entrant in list_entrants(large)}
    assert rounds.pop("pyspark") == rounds.pop("beam_rows") == 1
    assert set(rounds.values()) == {3}


def test_the_policy_of_two_datasets_follows_the_default_policy():
    small, whole = load_policy(POLICY), load_policy(DEFAULT_POLICY)
    assert {"operational.readings", "analytics.readings"} <= set(small.datasets)
    for name, dataset in small.datasets.items():
        assert dataset == whole.datasets[name], name
    for part in ("roles", "purposes", "grants"):
        assert getattr(small, part).items() <= getattr(whole, part).items(), part
