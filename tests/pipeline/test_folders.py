"""A folder is a dataset is an audience: what is written of a dataset lies in its folder, and a folder keeps its permission."""

from datetime import date
from pathlib import Path
from unittest.mock import patch

import pytest
from whole_job import ingest, make_keys, paths_of

from pipeline.begin import RunRequest
from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions
from pipeline.lake import CATALOG, open_lake
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.publish import PublishRequest, run_publish

PLAN = load_policy(DEFAULT_POLICY)
PARTNER = "analytics/partner_green"
#: For its owner and its group.
RESTRICTED = 0o750


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    """A lake of two runs and two publications, in which the partner's folder was restricted after the first."""
    folder = tmp_path_factory.mktemp("folders")
    options = FleetOptions(points=120, days=2, start=date(2026, 3, 31), format="parquet", file_points=120)
    generate_fleet(options, folder)
    readings, keys, lake = sorted((folder / "readings").iterdir()), make_keys(folder), folder / "lake"
    for number, files in enumerate((readings[:1], readings[1:])):
        ingest(lake, files, keys, reference=folder / "reference", buckets=2)
        with patch("os.fsync"):
            run_publish(PublishRequest(lake, RunRequest(**keys, threads=2), again=bool(number)))
        if not number:
            (lake / PARTNER).chmod(RESTRICTED)
    return lake


def folder_of(lake: Path, name: str) -> Path:
    return lake / name.replace(".", "/")


def test_what_is_written_of_a_dataset_lies_in_its_folder_alone(lake):
    opened = open_lake(lake)
    for name in PLAN.datasets:
        table, folder = opened.table(name), folder_of(lake, name)
        written = [table.metadata_location.removeprefix("file://"), *paths_of(lake, name)]
        for snapshot in table.snapshots():
            written.append(snapshot.manifest_list.removeprefix("file://"))
            written += (one.manifest_path.removeprefix("file://") for one in snapshot.manifests(table.io))
        assert {path for path in map(Path, written) if not path.is_relative_to(folder)} == set(), name
    assert paths_of(lake, "analytics.partner_green")


def test_audiences_share_the_catalog_the_settings_and_the_policy_alone(lake):
    own = [folder_of(lake, name) for name, dataset in PLAN.datasets.items() if dataset.zone == "analytics"]
    files = [path for path in (lake / "analytics").rglob("*") if path.is_file()]
    shared = {path.name for path in files if sum(path.is_relative_to(folder) for folder in own) != 1}
    assert shared == {CATALOG, "meterveil.json", "policy.yaml"}


def test_a_folder_is_of_one_dataset_and_so_of_one_audience():
    """Also by the letter case that a file system may not tell apart, and none inside another one's."""
    folders = [Path(name.replace(".", "/").lower()) for name in PLAN.datasets]
    assert len(set(folders)) == len(folders)
    assert {len(folder.parts) for folder in folders} == {2}


def test_a_permission_that_is_given_to_a_folder_outlives_the_runs_after_it(lake):
    assert (lake / PARTNER).stat().st_mode & 0o777 == RESTRICTED
    others = [folder_of(lake, name).stat().st_mode & 0o777 for name in PLAN.datasets if name.startswith("operational.")]
    assert set(others) == {0o700}
