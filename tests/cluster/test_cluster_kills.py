"""Parts of a cluster die at an instant of a run; the campaign (``make faults-cluster``) has many more rounds."""

import os
import random

import pytest
from cluster import find_missing, run_cluster
from cluster_kills import kill_once
from small_runs import Fleet


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    return Fleet.make(tmp_path_factory.mktemp("fleet"))


@pytest.mark.long
def test_a_run_outlives_what_is_killed_or_the_next_one_completes_it(fleet, tmp_path):
    with run_cluster() as cluster:
        for number in range(4):
            what, wrong = kill_once(cluster, fleet, tmp_path, random.Random(number))
            assert wrong == [], what


pytestmark = [
    pytest.mark.skipif(not os.environ.get("METERVEIL_TEST_CLUSTER"), reason="takes minutes: make test-cluster"),
    pytest.mark.skipif(bool(missing := find_missing()), reason=missing or "nothing is missing"),
]
