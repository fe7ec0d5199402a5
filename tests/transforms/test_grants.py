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
    """List what changes but that tables are to be made again."""
    told = compare_policies(PLAN, compile_plan(document))
    return {(change.who, change.change, change.what) for change in told if change.part != "tables"}


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
    document["roles"] = dict(reversed(document["roles"].items()))
    assert compare_policies(PLAN, compile_plan(document)) == []


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


def test_what_holds_of_a_dataset_is_told_once(document):
    readings, daily = (document["datasets"][f"analytics.{name}"] for name in ("readings", "daily"))
    readings["retention"] = "24 months"
    daily["purposes"].remove("load_research")
    daily["anonymity"]["k"] = 6
    daily["fields"] = dict(reversed(daily["fields"].items()))
    document["datasets"]["analytics.area_hourly"]["disclosure"]["dominance"] = 0.151
    document["datasets"]["operational.customer_service"] |= {"where": {}, "restricted": "shown"}
    told = compare_policies(PLAN, compile_plan(document))
    assert [(change.part, change.who, change.what, change.before, change.after) for change in told] == [
        ("datasets", "customer_service", "operational.customer_service: rows", "information_restriction is false", "all"),
        ("datasets", "analyst", "analytics.readings: retention", "1096 days", "731 days"),
        *(
            ("datasets", "analyst, product_development", f"analytics.daily: {what}", before, after)
            for what, before, after in (
                ("shared", *(f"coarser until {k} sites share heating, fuse_band, postal_area" for k in (5, 6))),
                ("purposes", "load_research, product_development", "product_development"),
                ("order of columns", ", ".join(reversed(daily["fields"])), ", ".join(daily["fields"])),
            )
        ),
        ("datasets", "analyst, product_development", "analytics.area_hourly: shared",
            *(f"of 15 sites or more, none with more than {share} %" for share in ("15", "15.1"))),
        ("tables", "", "rows", "as they are", "made again by meterveil rebuild"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "what", "before", "after", "change"),
    [
        ("purposes", "billing: legal basis", "contract", "legal_obligation",
            lambda d: d["purposes"]["billing"].update(legal_basis="legal_obligation", ground="a law")),
        ("purposes", "billing: origin", "statement", "company", lambda d: d["purposes"]["billing"].update(origin="company")),
        ("purposes", "billing: classes", None, None, lambda d: d["purposes"]["billing"]["classes"].append("profile")),
        ("roles", "billing (en)", None, "another", lambda d: d["roles"].update(billing="another")),
        ("recipients", "green_partner: kind", "partner", "subsidiary",
            lambda d: d["recipients"]["green_partner"].update(kind="subsidiary")),
        ("domains", "spare", "", "analyst", lambda d: d["domains"].update(spare=["analyst"])),
        ("classes", "tariff", "financial", "contact", lambda d: d["classes"].update(tariff="contact")),
        ("sources", "company (fi)", None, "", lambda d: drop_source(d, "company")),
        ("resolution", "deceased_on", "population_register, authority", "authority, population_register",
            lambda d: d["resolution"]["deceased_on"].reverse()),
        ("marketing", "age of the ban list", "at most 90 days", "at most 91 days",
            lambda d: d["marketing"].update(ban_list="91 days")),
        ("target_groups", "heat_pump: when", "heating is electric", "heating is wood",
            lambda d: d["target_groups"]["heat_pump"]["when"][0].update({"is": "wood"})),
        ("target_groups", "order", "solar, heat_pump, spot_price, night_tariff", "night_tariff, spot_price, heat_pump, solar",
            lambda d: d.update(target_groups=dict(reversed(d["target_groups"].items())))),
        ("limits", "quarantined", "warn above a share of 0.02", "stop above a share of 0.02",
            lambda d: d["limits"]["quarantined"].update(action="stop")),
        ("limits", "missing", None, "", lambda d: d["limits"].pop("missing")),
        ("publish_after", "age of a day", "14 days", "15 days", lambda d: d.update(publish_after="15 days")),
        ("controller", "contact", None, "elsewhere", lambda d: d["controller"].update(contact="elsewhere")),
        ("tables", "rows", None, None, lambda d: d["datasets"]["analytics.readings"]["fields"].update(tariff="drop")),
    ],
)  # fmt: skip
def test_whatever_else_a_policy_says_is_told_when_it_changes(document, part, what, before, after, change):
    change(document)
    told = {(one.part, one.what): one for one in compare_policies(PLAN, compile_plan(document))}
    one = told[part, what]
    assert before in (None, one.before)
    assert after in (None, one.after)


def drop_source(document, name):
    del document["sources"][name]
    for order in document["resolution"].values():
        if name in order:
            order.remove(name)


def test_who_may_hand_out_what_is_told(document):
    document["recipients"]["print_house"]["disclosed_by"] = ["billing"]
    told = {("billing", "gains", "disclosure to print_house"), ("operator", "loses", "disclosure to print_house")}
    assert changes(document) == told


def test_the_default_policy_says_what_it_means(document):
    """All but one thing: whoever tries it out is an analyst, and so is everybody else."""
    groups = {f"grants/{who}" for who in RETAILER["grants"] if who != "*"}
    assert lints(RETAILER) == {("linkable", place) for place in groups}
    document["grants"]["@analysts"] = document["grants"].pop("*")
    assert lints(document) == set()


@pytest.mark.parametrize(
    ("place", "told", "change"),
    [
        ("grants/anna", "operational.collections", lambda d: d["grants"].update(anna=["collections", "analyst"])),
        ("grants/anna", "operational.collections", lambda d: d["grants"].update({"*": ["analyst"], "anna": ["collections"]})),
        ("grants/@analysts", "operational.changes",
            lambda d: d["datasets"]["operational.changes"]["audience"].append("product_development")),
        ("recipients/grid_subsidiary", "operational.field_work",
            lambda d: d["datasets"]["operational.field_work"].update(audience=["grid_subsidiary"])),
    ],
)  # fmt: skip
def test_who_reads_the_same_by_id_and_under_pseudonyms_is_found(document, place, told, change):
    document["grants"]["@analysts"] = document["grants"].pop("*")
    change(document)
    found = [one for one in find_lints(compile_plan(document)) if (one.code, one.place) == ("linkable", place)]
    assert len(found) == 1
    assert f" is told in {told} and stands under pseudonyms in analytics." in found[0].problem


def test_who_reads_sums_over_areas_by_two_rules_is_found(document):
    """``test_published_attack.py`` does what such a one could."""
    document["grants"]["@analysts"] = document["grants"].pop("*")
    sums = document["datasets"]["analytics.area_hourly"]
    document["datasets"]["analytics.for_planners"] = {**sums, "audience": ["analyst"]}
    assert lints(document) == set()  # the same rule hides the same
    document["datasets"]["analytics.for_planners"]["disclosure"] = {"minimum": 10, "dominance": 0.25}
    document["grants"]["@others"] = ["product_development"]
    assert lints(document) == {("differenced", "grants/@analysts")}


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
