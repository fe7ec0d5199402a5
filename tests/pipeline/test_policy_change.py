"""Another policy on a lake that has tables: what changes no row holds with the next run, anything else is refused."""

import json

import pytest
from privacy_support import make_fleet, make_policy, run, snapshots_of

from pipeline.lake import open_lake
from pipeline.policy_file import DEFAULT_POLICY

TEXT = DEFAULT_POLICY.read_text(encoding="utf-8")
#: Parts that change no row: what stands there, and instead.
OF_NO_ROW = {
    "texts": ("invoices energy and answers for invoices", "sends invoices"),
    "purposes": ("purposes: [billing, metering]", "purposes: [billing]"),
    "retention": ("retention: 36 months", "retention: 24 months"),
    "limits": ("share: 0.02, action: warn", "share: 0.5, action: stop"),
    "sources": ("customers:\n    fi: asiakas itse", "customers:\n    fi: asiakas"),
    "audience": ("audience: [metering_operations, data_steward]", "audience: [data_steward]"),
}
OF_ROWS = {
    "a rule": ("postal_prefix: 3", "postal_prefix: 2"),
    "a filter": ("where: {contracted: true, tariff: spot}", "where: {contracted: true}"),
    "a column less": ("      peak_kw: keep\n", ""),
    "an epoch": (
        "epoch: year\n    retention: 36 months\n    fields",
        "epoch: month\n    retention: 36 months\n    fields",
    ),
    "whom marketing may address": ("ban_list: 90 days", "ban_list: 91 days"),
    "a target group": ("feature: fuse_a, at_least: 25", "feature: fuse_a, at_least: 35"),
    "who is believed": ("phone: [customers, datahub_customer", "phone: [datahub_customer, customers"),
}


@pytest.fixture(scope="module")
def retailer(tmp_path_factory):
    made = make_fleet(tmp_path_factory.mktemp("change"), faults="none")
    done = made.ingest()
    assert done.code == 0, done.err
    return made


def change(folder, old: str, new: str):
    assert old in TEXT
    (folder / "other.yaml").write_text(TEXT.replace(old, new), encoding="utf-8")
    return folder / "other.yaml"


def ask(lake) -> int:
    sql = "SELECT count(*) FROM operational.customer_service"
    who = ("--role", "customer_service", "--purpose", "customer_service")
    return run("query", "--lake", lake, *who, "--format", "json", sql).code


def test_a_grant_that_is_taken_back_ends_with_the_next_run(retailer, tmp_path):
    assert retailer.ingest(policy=make_policy(tmp_path / "first.yaml", "customer_service")).code == 0
    assert ask(retailer.lake) == 0
    before = snapshots_of(retailer.lake)
    policy = make_policy(tmp_path / "second.yaml")
    assert retailer.ingest(policy=policy).code == 0
    assert open_lake(retailer.lake).stored_policy().read_text(encoding="utf-8") == policy.read_text(encoding="utf-8")
    assert ask(retailer.lake) == 1
    changed = {name for name, snapshot in snapshots_of(retailer.lake).items() if snapshot != before[name]}
    assert changed <= {"operational.runs", "operational.quarantine_readings"}


@pytest.mark.parametrize("part", OF_NO_ROW)
def test_what_changes_no_row_is_taken(retailer, tmp_path, part):
    policy = change(tmp_path, *OF_NO_ROW[part])
    told = json.loads(run("policy", "diff", DEFAULT_POLICY, policy, "--json").out)
    assert told
    done = retailer.ingest(policy=policy)
    assert done.code == 0, done.err
    assert open_lake(retailer.lake).stored_policy().read_text(encoding="utf-8") == policy.read_text(encoding="utf-8")


@pytest.mark.parametrize("part", OF_ROWS)
def test_what_changes_rows_is_refused(retailer, tmp_path, part):
    stored = open_lake(retailer.lake).stored_policy().read_text(encoding="utf-8")
    done = retailer.ingest(policy=change(tmp_path, *OF_ROWS[part]))
    assert done.code == 1
    assert "the policy is not the one that the lake's tables were made with" in done.err
    assert open_lake(retailer.lake).stored_policy().read_text(encoding="utf-8") == stored
