"""Handing data out: to whom the policy lets, by whom it lets, what is theirs, and never without a line that says why."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from privacy_support import make_fleet, run
from whole_job import rows_of

from pipeline.access import User, current_user
from pipeline.disclose import disclose_datasets
from pipeline.errors import MeterveilError
from pipeline.lake import open_lake
from pipeline.policy_file import DEFAULT_POLICY, load_policy

BASIS = "framework contract 2026/7"


@pytest.fixture(scope="module")
def retailer(tmp_path_factory):
    """A lake whose policy lets this user be an operator, and serve customers."""
    made = make_fleet(tmp_path_factory.mktemp("disclose"))
    text = DEFAULT_POLICY.read_text(encoding="utf-8")
    name = current_user().name
    text = text.replace("grants:\n", f"grants:\n  {name}: [operator, customer_service]\n", 1)
    (made.folder / "policy.yaml").write_text(text, encoding="utf-8")
    done = made.ingest(policy=made.folder / "policy.yaml")
    assert done.code in (0, 3), done.err
    return made


def log_of(retailer) -> list[dict]:
    lines = (retailer.lake / "operational" / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for line in lines if (entry := json.loads(line)).get("command") == "disclose"]


def disclose(retailer, out, *more, recipient="field_subcontractor", basis=BASIS):
    return run("disclose", "--lake", retailer.lake, "--recipient", recipient, "--basis", basis, "--out", out, *more)


def test_a_recipient_is_given_its_own_datasets_whole_and_nothing_else(retailer, tmp_path):
    done = disclose(retailer, tmp_path / "out")
    assert done.code == 0, done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["operational.field_work.parquet"]
    path = tmp_path / "out" / "operational.field_work.parquet"
    wanted = rows_of(retailer.lake, "operational.field_work")
    given = pq.read_table(path)
    assert given.num_rows == wanted.num_rows > 10
    keys = [(name, "ascending") for name in ("metering_point_id", "valid_from")]
    assert given.sort_by(keys).to_pylist() == wanted.sort_by(keys).to_pylist()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    entry = log_of(retailer)[-1]
    assert (entry["outcome"], entry["details"]["recipient"], entry["details"]["basis"]) == (
        "done",
        "field_subcontractor",
        BASIS,
    )
    assert entry["details"]["rows"] == given.num_rows
    assert entry["tables"] == ["operational.field_work"]


def test_pseudonyms_of_a_recipient_are_given_as_they_are(retailer, tmp_path):
    assert disclose(retailer, tmp_path / "out", recipient="grid_subsidiary").code == 0
    given = pq.read_table(tmp_path / "out" / "analytics.grid_planning.parquet")
    wanted = rows_of(retailer.lake, "analytics.grid_planning")
    assert set(map(str, given["metering_point"].to_pylist())) == set(map(str, wanted["metering_point"].to_pylist()))


def test_an_authority_is_given_an_answer(retailer, tmp_path):
    sql = "SELECT name, postal_address FROM operational.customer_service LIMIT 3"
    asked = ("--sql", sql, "--role", "customer_service", "--purpose", "customer_service")
    done = disclose(
        retailer, tmp_path / "answer.parquet", *asked, recipient="public_authority", basis="Police Act 4:3, request 17"
    )
    assert done.code == 0, done.err
    assert pq.read_table(tmp_path / "answer.parquet").shape == (3, 2)
    assert log_of(retailer)[-1]["details"]["kind"] == "authority"
    again = disclose(retailer, tmp_path / "answer.parquet", *asked, recipient="public_authority")
    assert "is there already" in again.err


def test_an_authority_has_no_dataset_and_an_answer_is_by_ones_own_role(retailer, tmp_path):
    assert "--sql" in disclose(retailer, tmp_path / "out", recipient="public_authority").err
    asked = ("--sql", "SELECT 1 FROM operational.collections", "--role", "collections", "--purpose", "collection")
    done = disclose(retailer, tmp_path / "answer.parquet", *asked, recipient="public_authority")
    assert "not granted the role" in done.err
    assert not (tmp_path / "answer.parquet").exists()


@pytest.mark.parametrize(
    ("recipient", "basis", "words"),
    [
        ("field_subcontracter", BASIS, "did you mean 'field_subcontractor'"),
        ("print_house", "   ", "the basis is empty"),
        ("print_house", "for 643006966022791278", "holds an identifier"),
        ("print_house", "about 010190-901X", "holds an identifier"),
        ("print_house", "x" * 301, "too long"),
    ],
)
def test_what_is_refused_gives_nothing_and_is_logged(retailer, tmp_path, recipient, basis, words):
    before = len(log_of(retailer))
    done = disclose(retailer, tmp_path / "out", recipient=recipient, basis=basis)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert words in done.err
    assert not (tmp_path / "out").exists()
    [entry] = log_of(retailer)[before:]
    assert (entry["outcome"], entry["details"]["basis"], entry["details"]["rows"]) == ("refused", "", 0)


def test_who_may_not_disclose_does_not(retailer, tmp_path):
    lake, plan = open_lake(retailer.lake), load_policy(open_lake(retailer.lake).stored_policy())
    with pytest.raises(MeterveilError, match="may not disclose to print_house; the policy lets: operator"):
        disclose_datasets(lake, plan, "print_house", BASIS, tmp_path / "out", User("eve", frozenset()))
    silent = replace(
        plan,
        recipients={
            **plan.recipients,
            "print_house": replace(plan.recipients["print_house"], disclosed_by=frozenset()),
        },
    )
    with pytest.raises(MeterveilError, match="the policy lets: nobody"):
        disclose_datasets(lake, silent, "print_house", BASIS, tmp_path / "out", current_user())
    assert not (tmp_path / "out").exists()
