"""Parts of a cluster die at an instant of a run; the campaign (``make faults-cluster``) has many more rounds."""

import random

import pytest
from cluster import run_cluster
from cluster_kills import kill_once

pytestmark = pytest.mark.usefixtures("flink")


@pytest.mark.long
def test_a_run_outlives_what_is_killed_or_the_next_one_completes_it(fleet, tmp_path):
    with run_cluster() as cluster:
        for number in range(4):
            what, wrong = kill_once(cluster, fleet, tmp_path, random.Random(number))
            assert wrong == [], what
