import os
import sys
from pathlib import Path

import pytest

# What runs of the whole job share, and the cluster, stand beside their own.
for folder in ("tests/pipeline", "tests/faults", "deploy/flink", "deploy/store"):
    sys.path.append(str(Path(__file__).parents[2] / folder))

import servers
from cluster import find_missing, resolve_jars
from small_runs import Fleet

from pipeline.errors import MeterveilError


@pytest.fixture(scope="session", autouse=True)
def asked_for() -> None:
    """Skip where clusters are not asked for."""
    if not os.environ.get("METERVEIL_TEST_CLUSTER"):
        pytest.skip("takes minutes: make test-cluster")


@pytest.fixture(scope="session")
def flink() -> None:
    """Skip where a Flink cluster can't be had."""
    if missing := find_missing():
        pytest.skip(missing)
    try:
        resolve_jars()
    except MeterveilError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def served():
    """Run an object store and a catalog server, which this process and all that it starts can use."""
    if missing := servers.find_missing():
        pytest.skip(missing)
    with servers.run_servers() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    return Fleet.make(tmp_path_factory.mktemp("fleet"))
