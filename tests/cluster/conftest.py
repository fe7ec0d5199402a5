import os
import sys
from pathlib import Path

import pytest

# What runs of the whole job share, and the cluster, stand beside their own.
for folder in ("tests/pipeline", "tests/faults", "deploy/flink"):
    sys.path.append(str(Path(__file__).parents[2] / folder))

from cluster import find_missing, resolve_jars
from small_runs import Fleet

from pipeline.errors import MeterveilError


@pytest.fixture(scope="session", autouse=True)
def whole_cluster() -> None:
    """Skip where a cluster is not asked for, or can't be had."""
    if not os.environ.get("METERVEIL_TEST_CLUSTER"):
        pytest.skip("takes minutes: make test-cluster")
    if missing := find_missing():
        pytest.skip(missing)
    try:
        resolve_jars()
    except MeterveilError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    return Fleet.make(tmp_path_factory.mktemp("fleet"))
