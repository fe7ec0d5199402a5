"""Rebuilding by another policy, key or reference: as if the lake had been made by it, and never a mix for a reader."""

import copy
import itertools
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from privacy_support import make_fleet, run
from whole_job import ingest, make_keys, rows_of

from pipeline import rebuild as rebuild_module
from pipeline import shadow
from pipeline.begin import RunRequest
from pipeline.errors import MeterveilError
from pipeline.lake import open_lake
from pipeline.maintain import maintain
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.rebuild import RebuildRequest, run_rebuild
from pipeline.resume import interrupted_run
from pipeline.verify import verify_lake
from schemas.views import VIEW_KINDS

BUCKETS = 4


def rebuild(lake: Path, keys, policy: Path | None = None, **options):
    with patch("os.fsync"):
        return run_rebuild(RebuildRequest(lake, RunRequest(**keys, threads=2, **options), policy))


def change_policy(path: Path) -> Path:
    """Write the default policy with a dataset more, one less, and one with other columns."""
    document = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
    datasets = document["datasets"]
    datasets["analytics.hours"] = copy.deepcopy(datasets["analytics.readings"])
    datasets["operational.readings"]["fields"]["tariff"] = "keep"
    document["purposes"]["metering"]["classes"].append("financial")
    del datasets["analytics.readings"]["fields"]["customer"]
    datasets["analytics.daily"]["fields"]["energy"] = {"round": 0.1}
    del datasets["operational.billing_daily"]
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    return make_fleet(tmp_path_factory.mktemp("fleet"), points=60, days=2)


@pytest.fixture(scope="module")
def first(fleet, tmp_path_factory):
    """A lake of the default policy, its keys, another policy, and a lake that was made by that one; kept as they are."""
    folder = tmp_path_factory.mktemp("first")
    keys = make_keys(folder)
    reference = {"reference": fleet.folder / "fleet" / "reference", "buckets": BUCKETS}
    policy = change_policy(folder / "policy.yaml")
    for name, of in (("lake", None), ("wanted", policy)):
        ingest(folder / name, fleet.readings, keys, policy=of, **reference)
        shutil.copytree(folder / name, folder / f"{name} as it was")
    return folder / "lake", keys, policy, folder / "wanted"


@pytest.fixture
def made(first):
    """The same for one test, always at the same place, since paths of a lake are absolute."""
    lake, keys, policy, wanted = first
    for place in (lake, wanted):
        shutil.rmtree(place)
        shutil.copytree(place.with_name(f"{place.name} as it was"), place)
    return lake, keys, policy, wanted


def rows(lake: Path) -> dict:
    return {name: rows_of(lake, name) for name in open_lake(lake).table_names() if name in tables_of(lake)}


def tables_of(lake: Path) -> set[str]:
    of_runs = {"operational.runs", "operational.changes", "operational.releases"}
    return set(load_policy(open_lake(lake).stored_policy()).datasets) - of_runs


def assert_clean(lake: Path) -> None:
    found = verify_lake(open_lake(lake), load_policy(open_lake(lake).stored_policy()))
    assert not found.violations, [one for one in found.describe()["checks"] if one["violations"]]


def test_another_policy_as_if_the_lake_had_been_made_by_it(made):
    lake, keys, policy, wanted = made
    rebuild(lake, keys, policy)
    assert rows(lake) == rows(wanted)
    assert "operational.billing_daily" not in open_lake(lake).table_names()
    assert_clean(lake)


def test_what_the_new_policy_has_not_is_gone_after_housekeeping(made):
    lake, keys, policy, _ = made
    before = set((lake / "operational" / "billing_daily").rglob("*.parquet"))
    rebuild(lake, keys, policy)
    assert before
    with patch("os.fsync"):
        maintain(open_lake(lake), load_policy(policy))
    assert not list((lake / "operational" / "billing_daily").rglob("*.parquet"))
    assert_clean(lake)


def test_the_same_again_changes_no_table_of_readings(made):
    lake, keys, policy, _ = made
    rebuild(lake, keys, policy)
    record = rebuild(lake, keys, policy)
    assert {name for name, table in record["tables"].items() if table["files"]} <= {
        name for name, dataset in load_policy(policy).datasets.items() if VIEW_KINDS[dataset.view] == "entity"
    }


def test_another_key_gives_its_pseudonyms(made, fleet, tmp_path):
    lake, keys, _, _ = made
    before = rows(lake)
    (tmp_path / "others").mkdir()
    keys = make_keys(tmp_path / "others")
    with pytest.raises(MeterveilError, match="meterveil rebuild"):
        ingest(lake, fleet.readings, keys)
    rebuild(lake, keys)
    ingest(tmp_path / "fresh", fleet.readings, keys, reference=fleet.folder / "fleet" / "reference", buckets=BUCKETS)
    assert rows(lake) == rows(tmp_path / "fresh")
    assert rows(lake)["analytics.daily"] != before["analytics.daily"]
    assert_clean(lake)


def test_interrupted_it_goes_on_and_nobody_sees_a_part(made):
    lake, keys, policy, wanted = made
    before = rows(lake)
    done = []
    real = rebuild_module.rewrite_cell

    def dies(run, cell, refs):
        if len(done) >= 3:
            raise MeterveilError("the disk is full")
        done.append(cell)
        return real(run, cell, refs)

    with patch.object(rebuild_module, "rewrite_cell", dies), pytest.raises(MeterveilError, match="disk is full"):
        rebuild(lake, keys, policy)
    assert interrupted_run(open_lake(lake))
    assert rows(lake) == before
    assert_clean(lake)
    with patch("os.fsync"):
        maintain(open_lake(lake), load_policy(open_lake(lake).stored_policy()))
    again = []
    with patch.object(
        rebuild_module, "rewrite_cell", lambda run, cell, refs: again.append(cell) or real(run, cell, refs)
    ):
        rebuild(lake, keys, policy)
    assert len(done) == 3
    assert not set(done) & set(again)
    assert rows(lake) == rows(wanted)
    assert not interrupted_run(open_lake(lake))
    assert_clean(lake)


def test_what_was_ingested_meanwhile_is_rebuilt_too(made):
    lake, keys, policy, wanted = made
    fresh = make_fleet(lake.parent / "more", points=60, days=3)
    real = rebuild_module.commit_run

    def ingests(run, outcome, rules):
        if not (lake / "operational" / "once").exists():
            (lake / "operational" / "once").touch()
            ingest(lake, fresh.readings, keys)
        real(run, outcome, rules)

    with patch.object(rebuild_module, "commit_run", ingests):
        rebuild(lake, keys, policy)
    ingest(wanted, fresh.readings, keys)
    assert rows(lake) == rows(wanted)


@pytest.mark.parametrize("dies_after", range(6))
def test_killed_in_its_commit_the_next_one_finishes_it(made, dies_after):
    lake, keys, policy, wanted = made
    before, calls = rows(lake), itertools.count()

    def dies(real):
        def call(*arguments):
            if next(calls) == dies_after:
                raise OSError("killed")
            return real(*arguments)

        return call

    with (
        patch.object(shadow, "ensure_table", dies(shadow.ensure_table)),
        patch.object(shadow.Shadow, "table", dies(shadow.Shadow.table)),
        patch.object(shadow.Shadow, "take_place", dies(shadow.Shadow.take_place)),
        pytest.raises((MeterveilError, OSError)),
    ):
        rebuild(lake, keys, policy)
    assert rows(lake) == before
    rebuild(lake, keys, policy)
    assert rows(lake) == rows(wanted)
    assert_clean(lake)


def test_columns_that_nothing_can_say_again_stay(made, tmp_path):
    lake, keys, _, _ = made
    document = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
    del document["datasets"]["operational.quarantine_readings"]["fields"]["status"]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    with pytest.raises(MeterveilError, match="quarantine_readings"):
        rebuild(lake, keys, tmp_path / "other.yaml")
    assert_clean(lake)


def test_an_abandoned_one_is_forgotten_by_housekeeping(made):
    lake, keys, policy, _ = made
    with patch.object(rebuild_module, "commit_run", side_effect=MeterveilError("no")), pytest.raises(MeterveilError):
        rebuild(lake, keys, policy)
    opened = open_lake(lake)
    with patch("os.fsync"):
        maintain(opened, load_policy(opened.stored_policy()), now=datetime.now(UTC) + timedelta(days=31))
    assert not interrupted_run(opened)
    assert "analytics.hours" not in opened.folder_names() or not list(
        opened.table_folder("analytics.hours").rglob("*.parquet")
    )
    assert_clean(lake)


def test_the_command_tells_what_it_did(made):
    lake, keys, policy, _ = made
    done = run("rebuild", "--lake", lake, "--policy", policy, "--keyset", keys["keyset"], "--kek", keys["kek"])
    assert done.code == 0, done.err
    assert b"8 cells" in done.out
