"""A run and a command say of every local day how much of it is missing; limits of the policy warn, or stop."""

import json
from datetime import UTC, date, datetime, timedelta
from unittest.mock import patch

import pytest
from privacy_support import make_fleet, run
from whole_job import query

from pipeline import completeness
from pipeline.errors import MeterveilError
from pipeline.lake import open_lake
from pipeline.policy_file import DEFAULT_POLICY, load_policy

COUNTED = """
    SELECT local_date::VARCHAR, count(*), count(*) FILTER (present_minutes = 0),
           sum(expected_minutes)::BIGINT, sum(expected_minutes - present_minutes)::BIGINT
    FROM t WHERE product = '8716867000030' GROUP BY 1 ORDER BY 1
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    return make_fleet(tmp_path_factory.mktemp("night"))


def ingest(fleet, policy, lake, *readings, code, **options):
    record = fleet.folder / "record.json"
    done = fleet.ingest(*readings, lake=lake, policy=policy, buckets=4, run_record=record, **options)
    assert done.code == code, done.err
    return json.loads(record.read_text()) | {"err": done.err}


def with_limits(path, **limits):
    """Write the default policy with other limits."""
    text = DEFAULT_POLICY.read_text(encoding="utf-8")
    begin, end = text.index("limits:\n"), text.index("datasets:\n")
    path.write_text(f"{text[:begin]}limits: {json.dumps(limits)}\n{text[end:]}", encoding="utf-8")
    return path


def age_of(day: str) -> int:
    return (datetime.now(UTC).date() - date.fromisoformat(day)).days


def test_days_are_counted_as_billing_has_them(fleet, tmp_path):
    lake = tmp_path / "lake"
    record = ingest(fleet, with_limits(tmp_path / "policy.yaml"), lake, code=0)
    counted = query(lake, "operational.billing_daily", COUNTED)
    assert [tuple(day.values()) for day in record["days"]] == counted
    assert any(silent for _, _, silent, _, _ in counted), "the fleet has silent points"
    whole = run("completeness", "--lake", lake, "--from", "2026-03-28", "--to", "2026-03-29", "--json")
    assert json.loads(whole.out) == {"days": record["days"][:2], "warnings": []}
    [last] = json.loads(run("completeness", "--lake", lake, "--date", "2026-03-29", "--json").out)["days"]
    assert last == record["days"][1]
    assert b"2026-03-29" in run("completeness", "--lake", lake, "--date", "2026-03-29").out


def test_a_day_of_which_nothing_came_is_missing_altogether(fleet, tmp_path):
    """In a bucket without a cell no file says so: the reference does, as it does in the others."""
    lake = tmp_path / "lake"
    record = ingest(fleet, with_limits(tmp_path / "policy.yaml"), lake, code=0)
    [day] = json.loads(run("completeness", "--lake", lake, "--date", "2027-03-28", "--json").out)["days"]
    assert day["points"] == day["silent_points"] > 0
    assert day["expected_minutes"] == day["missing_minutes"] == day["points"] * 23 * 60
    opened, plan = open_lake(lake), load_policy(DEFAULT_POLICY)
    dates = [(date.fromisoformat(day["local_date"]) - date(1970, 1, 1)).days for day in record["days"]]
    with patch.object(completeness, "label_of", return_value="no such cell"):
        bare = list(completeness.describe_days(completeness.count_lake(opened, plan, dates)))
    columns = ("local_date", "points", "expected_minutes")
    assert [[day[name] for name in columns] for day in bare] == [
        [day[name] for name in columns] for day in record["days"]
    ]


def test_a_limit_that_warns_commits_and_one_that_stops_does_not(fleet, tmp_path):
    lake = tmp_path / "lake"
    age = age_of("2026-03-28")
    until = {"after_days": age - 5, "until_days": age + 5}
    none = with_limits(tmp_path / "none.yaml")
    ingest(fleet, none, lake, fleet.readings[0], code=0)
    warns = with_limits(tmp_path / "warns.yaml", missing=[{"share": 0, "action": "warn", **until}])
    record = ingest(fleet, warns, lake, code=3)
    assert record["outcome"] == "committed"
    assert any("2026-03-28 are missing" in line for line in record["warnings"])
    assert all(f"warning: {line}" in record["err"] for line in record["warnings"])
    rows = query(lake, "operational.readings", "SELECT count(*) FROM t")
    stops = with_limits(tmp_path / "stops.yaml", quarantined={"share": 0, "action": "stop"})
    stopped = fleet.ingest(lake=lake, policy=stops, force=True)
    assert stopped.code == 1
    assert "limits: " in stopped.err
    assert len(stopped.err.splitlines()) == 1
    assert query(lake, "operational.readings", "SELECT count(*) FROM t") == rows
    # The policy of the lake is that of its last commit; its limits hold for the command too.
    shown = run("completeness", "--lake", lake, "--date", "2026-03-28", "--json")
    assert shown.code == 3
    assert len(json.loads(shown.out)["warnings"]) == 1


def test_yesterday_is_due_even_if_nothing_came_for_it(fleet, tmp_path):
    """A lake that lives is one whose newest day a limit still covers."""
    lake = tmp_path / "lake"
    limit = {"share": 0.5, "action": "warn", "after_days": 1, "until_days": age_of("2026-03-28") + 5}
    record = ingest(fleet, with_limits(tmp_path / "policy.yaml", missing=[limit]), lake, code=3)
    newest = date.fromisoformat(record["days"][-1]["local_date"])
    assert datetime.now(UTC).date() - newest <= timedelta(days=1)
    assert str(newest) in record["warnings"][-1]


def test_the_command_line_sets_the_limit_of_quarantine(fleet, tmp_path):
    allows = with_limits(tmp_path / "policy.yaml", quarantined={"share": 1, "action": "warn"})
    assert fleet.ingest(lake=tmp_path / "lake", policy=allows, max_quarantined="0%").code == 1
    forbids = with_limits(tmp_path / "policy.yaml", quarantined={"share": 0, "action": "stop"})
    assert fleet.ingest(lake=tmp_path / "lake", policy=forbids, max_quarantined="100%").code == 0


def test_a_policy_without_days_of_contracted_points_says_nothing(fleet, tmp_path):
    text = with_limits(tmp_path / "policy.yaml").read_text().replace("    where: {contracted: true}\n", "")
    (tmp_path / "policy.yaml").write_text(text)
    assert ingest(fleet, tmp_path / "policy.yaml", tmp_path / "lake", code=0)["days"] == []
    refused = run("completeness", "--lake", tmp_path / "lake")
    assert refused.code == 1
    assert "no daily dataset of contracted points" in refused.err


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"quarantined": {"share": 2, "action": "warn"}}, "limits/quarantined/share: expected a share from 0 to 1"),
        ({"quarantined": {"share": 0.1, "action": "wran"}}, "did you mean 'warn'?"),
        ({"missing": [{"share": 0.1, "action": "warn"}]}, "after_days missing"),
        ({"missing": [{"share": 0, "action": "warn", "after_days": 5, "until_days": 4}]}, "ends before it begins"),
        ({"quarantine": {}}, "did you mean 'quarantined'?"),
    ],
)
def test_a_faulty_limit_is_explained(limits, said, tmp_path):
    with pytest.raises(MeterveilError, match=said.replace("?", r"\?")):
        load_policy(with_limits(tmp_path / "policy.yaml", **limits))


def test_limits_are_no_part_of_the_digest(tmp_path):
    other = with_limits(tmp_path / "policy.yaml", quarantined={"share": 0.5, "action": "stop"})
    assert load_policy(other).digest == load_policy(DEFAULT_POLICY).digest
    assert load_policy(other).limits != load_policy(DEFAULT_POLICY).limits
