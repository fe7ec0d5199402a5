"""k of what is written, counted by a query that knows nothing of how it came about."""

import pytest
import yaml
from privacy_support import make_fleet
from whole_job import ingest, make_keys, query

from pipeline.policy_file import DEFAULT_POLICY

TOLD = ("heating", "fuse_band", "postal_area")
#: Of each day, what is told of whom, and by how many sites.
SHARED = f"""
    SELECT local_date, {", ".join(TOLD)}, count(DISTINCT site) AS sites FROM t
    WHERE coalesce({", ".join(TOLD)}) IS NOT NULL GROUP BY ALL
"""


def make_policy(path, k):
    """The default policy with another k."""
    document = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
    document["datasets"]["analytics.daily"]["anonymity"]["k"] = k
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    return make_fleet(tmp_path_factory.mktemp("fleet"), points=400, days=2)


@pytest.fixture(scope="module", params=[5, 12])
def lake(request, fleet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    options = {"reference": fleet.folder / "fleet" / "reference", "buckets": 4}
    policy = make_policy(folder / "policy.yaml", request.param)
    ingest(folder / "lake", fleet.readings, make_keys(folder), policy=policy, **options)
    return folder / "lake", request.param


def test_k_sites_share_whatever_is_told_of_a_day(lake):
    lake, k = lake
    shared = query(lake, "analytics.daily", SHARED)
    assert shared
    assert min(sites for *_, sites in shared) >= k
    # Some are told exactly, some coarser.
    assert {len(area) if area else 0 for _, _, _, area, _ in shared} > {3}


def test_without_that_fewer_would_share_it(fleet, tmp_path):
    """The fleet is one in which people can be singled out: else the test above would show nothing."""
    options = {"reference": fleet.folder / "fleet" / "reference", "buckets": 4}
    ingest(
        tmp_path / "lake", fleet.readings, make_keys(tmp_path), policy=make_policy(tmp_path / "p.yaml", 2), **options
    )
    assert min(sites for *_, sites in query(tmp_path / "lake", "analytics.daily", SHARED)) < 5
