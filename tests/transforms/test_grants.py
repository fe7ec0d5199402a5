"""What a policy grants, said in rows; why; what another policy changes; and what is probably not meant."""

from copy import deepcopy
from importlib.resources import files

import pytest
import yaml

from schemas.views import VIEWS
from transforms.grants import audiences_of, list_access
from transforms.plan import Keep
from transforms.policy import compile_plan
from transforms.policy_diff import compare_policies
from transforms.policy_errors import PolicyError
from transforms.policy_explain import explain_field
from transforms.policy_lints import find_lints

RETAILER = yaml.safe_load((files("schemas") / "policies" / "retailer.yaml").read_text(encoding="utf-8"))
PLAN = compile_plan(RETAILER)


@pytest.fixture
def document():
    return deepcopy(RETAILER)


def lints(document) -> set[tuple[str, str]]:
    return {(lint.code, lint.place) for lint in find_lints(compile_plan(document))}


def changes(document) -> set[tuple[str, str, str]]:
    return {(change.who, change.change, change.what) for change in compare_policies(PLAN, compile_plan(document))}


def test_rows_are_the_datasets_of_each_audience_and_no_others():
    said = {(row.audience, row.dataset, row.column, row.field) for row in list_access(PLAN)}
    written = set()
    for name, spec in RETAILER["datasets"].items():
        for audience in spec["audience"]:
            for column, rule in spec["fields"].items():
                if rule != "drop":
                    field = rule.get("from", column) if isinstance(rule, dict) else column
                    written.add((audience, name, column, field))
    assert said == written


def test_what_is_kept_is_told_from_what_is_protected():
    for row in list_access(PLAN):
        rule = next(column.rule for column in PLAN.datasets[row.dataset].columns if column.name == row.column)
        assert (row.form == "kept") == isinstance(rule, Keep)
        assert row.shown == row.field_class or row.form != "kept"


@pytest.mark.parametrize("audience", sorted(audiences_of(PLAN)))
def test_a_field_is_explained_for_everybody_seen_or_not(audience):
    access = {row.field for row in list_access(PLAN) if row.audience == audience}
    for field in {name for view in VIEWS.values() for name in view}:
        found = explain_field(PLAN, audience, field)
        assert bool(found.reasons) == (field in access)
        assert bool(found.needed) == (field not in access)
        assert audience not in found.others


def test_the_reason_names_dataset_form_purpose_basis_and_users():
    [reason] = explain_field(PLAN, "analyst", "site_id").reasons[:1]
    assert (reason.access.dataset, reason.access.form) == ("analytics.readings", "pseudonym of the usage site")
    assert (reason.purpose, reason.legal_basis) == ("load_research", "legitimate_interests, Art. 6(1)(f)")
    assert reason.granted_to == ("*",)


def test_what_would_grant_a_field_does(document):
    needed = explain_field(PLAN, "billing", "language").needed
    assert "customers" in needed[0]
    assert "quasi_identifier" in needed[1]
    assert "customer_service" in needed[1]
    document["datasets"]["operational.letters"] = {
        "view": "customers", "audience": ["billing"], "purposes": ["customer_service"], "fields": {"language": "keep"},
    }  # fmt: skip
    assert explain_field(compile_plan(document), "billing", "language").reasons


@pytest.mark.parametrize(("audience", "field"), [("nobody", "energy"), ("billing", "energie")])
def test_a_name_that_is_not_there_is_refused_with_what_was_meant(audience, field):
    with pytest.raises(PolicyError) as caught:
        explain_field(PLAN, audience, field)
    assert caught.value.remedy


def test_the_same_policy_changes_nothing(document):
    document["roles"]["billing"] = "another text"
    assert changes(document) == set()


def test_who_gains_loses_and_gets_another_form_is_told(document):
    daily = document["datasets"]["analytics.daily"]["fields"]
    daily["energy"] = {"round": 0.5}
    daily["status"] = "keep"
    del daily["peak_kw"]
    document["grants"]["anna"] = ["billing"]
    told = {
        ("analyst", "changes", "analytics.daily.energy"),
        ("product_development", "changes", "analytics.daily.energy"),
    }
    told |= {(who, "gains", "analytics.daily.status") for who in ("analyst", "product_development")}
    told |= {(who, "loses", "analytics.daily.peak_kw") for who in ("analyst", "product_development")}
    assert changes(document) == told | {("anna", "gains", "role billing")}


def test_another_purpose_domain_or_retention_is_told(document):
    document["datasets"]["analytics.readings"]["retention"] = "24 months"
    told = changes(document)
    assert {what for _, _, what in told} == {
        f"analytics.readings.{column.name}" for column in PLAN.datasets["analytics.readings"].columns
    }
    assert {change for _, change, _ in told} == {"changes"}


def test_other_rows_are_told(document):
    document["datasets"]["operational.customer_service"] |= {"where": {}, "restricted": "shown"}
    told = compare_policies(PLAN, compile_plan(document))
    assert {change.change for change in told} == {"changes"}
    assert len(told) == len(PLAN.datasets["operational.customer_service"].columns)
    for change in told:
        assert ", where information_restriction is false" in change.before
        assert "where" not in change.after


def test_who_may_hand_out_what_is_told(document):
    document["recipients"]["print_house"]["disclosed_by"] = ["billing"]
    told = {("billing", "gains", "disclosure to print_house"), ("operator", "loses", "disclosure to print_house")}
    assert changes(document) == told


def test_the_default_policy_says_what_it_means():
    assert lints(RETAILER) == set()


@pytest.mark.parametrize(
    ("code", "place", "break_it"),
    [
        ("unread", "datasets/operational.runs", lambda d: d["grants"]["@meterveil-operations"].remove("operator")),
        ("unused", "roles/nobody", lambda d: d["roles"].update(nobody="does nothing")),
        ("unused", "recipients/builder", lambda d: d["recipients"].update(builder={"kind": "partner", "description": "b"})),
        ("unused", "purposes/play", lambda d: d["purposes"].update(play=d["purposes"]["billing"])),
        ("unused", "purposes/billing/classes", lambda d: d["purposes"]["billing"]["classes"].append("identity_code")),
        ("unused", "domains/spare", lambda d: d["domains"].update(spare=["analyst"])),
        ("retention", "datasets/analytics.readings", lambda d: d["datasets"]["analytics.readings"].pop("retention")),
    ],
)  # fmt: skip
def test_what_is_probably_not_meant_is_found(document, code, place, break_it):
    before = lints(document)
    break_it(document)
    assert lints(document) - before == {(code, place)}
