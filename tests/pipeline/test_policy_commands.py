"""The commands that show what a policy says."""

import json

import pytest
from privacy_support import run

from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.policy_pages import make_matrix, write_matrix_page
from transforms.grants import list_access


@pytest.fixture
def other(tmp_path):
    path = tmp_path / "other.yaml"
    text = DEFAULT_POLICY.read_text(encoding="utf-8")
    path.write_text(text.replace("      base_kw: keep\n", "", 1), encoding="utf-8")
    return path


def test_check_lists_datasets_and_findings():
    done = run("policy", "check", "--json")
    said = json.loads(done.out)
    assert done.code == 0
    assert {row["dataset"] for row in said["datasets"]} == set(load_policy(DEFAULT_POLICY).datasets)
    assert all(lint["code"] and lint["place"] and lint["remedy"] for lint in said["lints"])


def test_check_is_strict_if_asked(tmp_path):
    text = DEFAULT_POLICY.read_text(encoding="utf-8").replace("roles:\n", "roles:\n  idle: does nothing\n", 1)
    (tmp_path / "idle.yaml").write_text(text, encoding="utf-8")
    assert run("policy", "check", "--policy", tmp_path / "idle.yaml").code == 0
    done = run("policy", "check", "--strict", "--policy", tmp_path / "idle.yaml")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert b"roles/idle" in done.out


def test_the_matrix_has_every_grant_and_nothing_else():
    plan = load_policy(DEFAULT_POLICY)
    rows = {row["field"]: row for row in make_matrix(plan)}
    for row in list_access(plan):
        assert row.form in rows[row.field][row.audience]
    shown = {
        (field, who)
        for field, row in rows.items()
        for who, form in row.items()
        if who not in ("field", "class") and form
    }
    assert shown == {(row.field, row.audience) for row in list_access(plan)}


def test_the_page_stands_alone_and_marks_what_is_kept(tmp_path):
    write_matrix_page(load_policy(DEFAULT_POLICY), tmp_path / "matrix.html")
    page = (tmp_path / "matrix.html").read_text(encoding="utf-8")
    assert "://" not in page
    assert page.count('<td class="kept">') > 10
    assert run("policy", "matrix", "--html", tmp_path / "again.html").code == 0
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_explain_says_why_and_why_not():
    why = run("policy", "explain", "analyst", "metering_point_id")
    assert b"load_research" in why.out
    why_not = run("policy", "explain", "analyst", "name")
    assert b"does not see name" in why_not.out
    assert b"customer_service" in why_not.out
    wrong = run("policy", "explain", "analist", "name")
    assert (wrong.code, "did you mean 'analyst'" in wrong.err) == (1, True)
    assert json.loads(run("policy", "explain", "analyst", "name", "--json").out)["reasons"] == []


def test_diff_says_who_loses_what(other):
    lost = json.loads(run("policy", "diff", DEFAULT_POLICY, other, "--json").out)
    assert {(row["part"], row["who"], row["change"], row["what"]) for row in lost} == {
        *(("columns", who, "loses", "analytics.daily.base_kw") for who in ("analyst", "product_development")),
        ("tables", "", "changes", "rows"),
    }
    assert b"nothing changes" in run("policy", "diff", other, other).out


def test_diff_groups_what_it_says_for_people(other):
    lines = run("policy", "diff", DEFAULT_POLICY, other).out.decode().splitlines()
    assert [line for line in lines if not line.startswith(tuple("┏┃┡│└"))] == ["Who sees what", "Tables of a lake"]
    assert sum("analytics.daily.base_kw" in line and "analyst, product_development" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("document", "title"), [("notice", "Privacy notice"), ("record", "Record of processing activities")]
)
def test_documents_are_printed_or_written(document, title, tmp_path):
    printed = run("policy", document, "--language", "en")
    assert printed.out.decode().startswith(f"# {title}\n")
    page = tmp_path / "page.html"
    assert run("policy", document, "--language", "en", "--format", "html", "--out", page).code == 0
    assert f"<h1>{title}</h1>" in page.read_text(encoding="utf-8")
