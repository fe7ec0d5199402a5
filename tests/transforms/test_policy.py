"""Compiling a policy: what it grants arrives in the plan, and what would protect nobody is refused."""

import pickle
from copy import deepcopy
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.legal import NEED_A_GROUND
from schemas.registers import REGISTERS
from schemas.views import OF_EACH_READING, VIEW_KINDS, VIEWS
from transforms.calendar import local_calendar
from transforms.grid import CellGrids
from transforms.plan import ENTITIES, Anonymity, Band, Column, Condition, Mask, PostalPrefix, Pseudonymise, Round, Year
from transforms.policy import ANALYTICS_VIEWS, STATE_FIELDS, compile_plan, digest_policy
from transforms.policy_errors import PolicyError, suggest_name
from transforms.rows import flatten_cell

SENSITIVE = {"direct_identifier", "identity_code", "contact", "location"}


def make_purpose(classes, basis="contract", **more):
    purpose = {"legal_basis": basis, "origin": "statement", "description": "d", "classes": ["usage", *classes]}
    return purpose | more


def make_document(**datasets):
    state = {
        "view": "readings",
        "audience": ["metering"],
        "purposes": ["metering"],
        "fields": dict.fromkeys(STATE_FIELDS, "keep"),
    }
    return {
        "version": 1,
        "roles": {"metering": "keeps meter data", "analyst": "studies", "designer": "designs"},
        "purposes": {
            "metering": make_purpose(["direct_identifier"]),
            "research": make_purpose(["quasi_identifier", "location"]),
        },
        "controller": {"name": "A company", "contact": "somebody"},
        "sources": {"readings": "meters", "customers": "they", **dict.fromkeys(REGISTERS, "it")},
        "grants": {"*": [], "@studies": ["analyst"]},
        "domains": {"study": ["analyst"]},
        "datasets": {"operational.readings": state}
        | {name.replace("__", "."): spec for name, spec in datasets.items()},
    }


def make_study(fields, **more):
    return {"view": "daily", "audience": ["analyst"], "purposes": ["research"], "fields": fields} | more


def compile_study(fields, **more):
    return compile_plan(make_document(analytics__study=make_study(fields, **more))).datasets["analytics.study"]


RULES = st.sampled_from(
    ["keep", "drop", {"generalise": "year"}, {"generalise": {"postal_prefix": 3}}, {"generalise": {"band": [25]}}]
    + [{"round": 0.5}, {"mask": {"keep_last": 2}}]
    + [{"pseudonymise": entity} for entity in ENTITIES]
)


@given(view=st.sampled_from(sorted(VIEWS)), data=st.data())
def test_no_compiled_analytics_dataset_shows_a_sensitive_field(view, data):
    names = data.draw(st.lists(st.sampled_from(sorted(VIEWS[view])), min_size=1, max_size=3, unique=True))
    fields = {name: data.draw(RULES) for name in names}
    pseudonymised = any("pseudonymise" in rule for rule in fields.values())
    study = make_study(fields, view=view) | ({"domain": "study"} if pseudonymised else {})
    if VIEW_KINDS[view] == "aggregate":
        study["disclosure"] = {"minimum": 15, "dominance": 0.15}
    try:
        dataset = compile_plan(make_document(analytics__study=study)).datasets["analytics.study"]
    except PolicyError:
        return
    assert dataset.view in ANALYTICS_VIEWS
    for column in dataset.columns:
        if VIEWS[view][column.source].field_class in SENSITIVE:
            assert isinstance(column.rule, Pseudonymise | PostalPrefix)
            assert column.source in {*ENTITIES.values(), "postal_code"}


@given(st.permutations(["product", "direction", "local_date"]))
@settings(max_examples=6)
def test_columns_have_the_order_of_the_policy_and_the_digest_knows_it(names):
    plan = compile_plan(make_document(analytics__study=make_study(dict.fromkeys(names, "keep"))))
    assert [column.name for column in plan.datasets["analytics.study"].columns] == list(names)
    straight = compile_plan(
        make_document(analytics__study=make_study(dict.fromkeys(["product", "direction", "local_date"], "keep")))
    )
    assert (plan.digest == straight.digest) == (list(names) == ["product", "direction", "local_date"])


def test_the_digest_ignores_the_order_of_sections_and_notices_every_value():
    document = make_document()
    assert digest_policy(dict(reversed(document.items()))) == digest_policy(document)
    changed = deepcopy(document)
    changed["datasets"]["operational.readings"]["fields"]["tariff"] = "keep"
    assert digest_policy(changed) != digest_policy(document)


def test_the_digest_ignores_what_changes_no_row():
    document = make_document(analytics__study=make_study({"product": "keep"}))
    changed = deepcopy(document)
    changed["grants"]["*"] = ["analyst"]
    changed["roles"]["analyst"] = {"fi": "tutkii", "en": "examines"}
    changed["purposes"]["research"]["classes"] = []
    changed["datasets"]["analytics.study"] |= {"audience": ["designer"], "retention": "1 day", "purposes": ["metering"]}
    assert digest_policy(changed) == digest_policy(document)


def test_every_rule_compiles_to_its_column():
    dataset = compile_study(
        {
            "metering_point": {"from": "metering_point_id", "pseudonymise": "metering_point"},
            "customer": {"from": "customer_id", "pseudonymise": "customer"},
            "area": {"from": "postal_code", "generalise": {"postal_prefix": 3}},
            "fuse_band": {"from": "fuse_a", "generalise": {"band": [25, 35]}},
            "year": {"from": "local_date", "generalise": "year"},
            "energy": {"round": 0.01},
            "heating": {"mask": {"keep_last": 1}},
            "municipality": "drop",
        },
        domain="study",
        epoch="quarter",
        retention="36 months",
        anonymity={"k": 5, "columns": ["area", "fuse_band", "heating"]},
    )
    assert (dataset.anonymity, dataset.disclosure) == (Anonymity(5, ("area", "fuse_band", "heating")), None)
    assert [(c.name, c.source, c.rule, c.type, c.required) for c in dataset.columns] == [
        ("metering_point", "metering_point_id", Pseudonymise("metering_point"), pa.uuid(), True),
        ("customer", "customer_id", Pseudonymise("customer"), pa.uuid(), False),
        ("area", "postal_code", PostalPrefix(3), pa.string(), False),
        ("fuse_band", "fuse_a", Band((25, 35)), pa.string(), False),
        ("year", "local_date", Year(), pa.int32(), True),
        ("energy", "energy", Round(10_000), pa.decimal64(18, 6), False),
        ("heating", "heating", Mask(1), pa.string(), False),
    ]
    assert (dataset.zone, dataset.domain, dataset.epoch, dataset.retention_days) == (
        "analytics",
        "study",
        "quarter",
        1096,
    )


@pytest.mark.parametrize(
    ("retention", "days"), [("6 years", 2192), ("1 year", 366), ("36 months", 1096), ("90 days", 90)]
)
def test_retention_in_days_is_never_short(retention, days):
    assert compile_study({"product": "keep"}, retention=retention).retention_days == days


def test_a_plan_is_frozen_and_travels_to_workers():
    plan = compile_plan(make_document())
    assert pickle.loads(pickle.dumps(plan)) == plan  # noqa: S301 - what was pickled a moment ago
    assert {name: purpose.legal_basis for name, purpose in plan.purposes.items()} == {
        "metering": "contract",
        "research": "contract",
    }
    assert plan.grants == {"*": frozenset(), "@studies": frozenset({"analyst"})}
    with pytest.raises(FrozenInstanceError):
        plan.digest = ""
    assert isinstance(plan.datasets["operational.readings"].columns[0], Column)


@pytest.mark.parametrize(
    ("fields", "more", "path", "words"),
    [
        ({"energi": "keep"}, {}, "fields/energi", "did you mean 'energy'"),
        ({"energi": "drop"}, {}, "fields/energi", "did you mean 'energy'"),
        ({"x": {"from": "energi", "round": 1}}, {}, "fields/x", "did you mean 'energy'"),
        (
            {"site_id": {"pseudonymise": "usagesite"}},
            {"domain": "study"},
            "fields/site_id",
            "did you mean 'usage_site'",
        ),
        ({"product": "keep"}, {"view": "dayly"}, "view", "did you mean 'daily'"),
        ({"product": "keep"}, {"audience": ["analysts"]}, "audience", "did you mean 'analyst'"),
        ({"product": "keep"}, {"purposes": ["reserch"]}, "purposes", "did you mean 'research'"),
        ({"site_id": {"pseudonymise": "usage_site"}}, {"domain": "stdy"}, "domain", "did you mean 'study'"),
        ({"product": "keep"}, {"where": {"directoin": "production"}}, "where/directoin", "did you mean 'direction'"),
        ({"product": "keep"}, {"where": {"direction": True}}, "where/direction", "no such values"),
        ({"product": "keep"}, {"where": {"fuse_a": "25"}}, "where/fuse_a", "no such values"),
        ({"product": "keep"}, {"where": {"customer_id": "C-1001"}}, "where/customer_id", "of every row"),
        ({"product": "keep"}, {"where": {"postal_code": "00100"}}, "where/postal_code", "of every row"),
        (
            {"product": "keep"},
            {"view": "readings", "where": {"status": "OK"}},
            "where/status",
            "readings of a day differ in status",
        ),
        ({"product": "drop"}, {}, "fields", "nothing is left"),
        ({"site_id": {"pseudonymise": "usage_site"}}, {}, "", "need a domain"),
        ({"product": "keep"}, {"epoch": "year"}, "", "need a domain"),
        ({"product": "keep"}, {"domain": "study"}, "domain", "nothing is pseudonymised"),
        (
            {"site_id": {"pseudonymise": "usage_site"}},
            {"domain": "study", "audience": ["designer"]},
            "domain",
            "another audience",
        ),
        ({"site_id": {"pseudonymise": "customer"}}, {"domain": "study"}, "fields/site_id", "does not fit"),
        ({"energy": {"generalise": {"band": [1]}}}, {}, "fields/energy", "does not fit"),
        ({"product": {"generalise": "year"}}, {}, "fields/product", "does not fit"),
        ({"night_share": {"round": 0.1}}, {}, "fields/night_share", "does not fit"),
        ({"fuse_a": {"mask": {"keep_last": 1}}}, {}, "fields/fuse_a", "does not fit"),
        ({"heating": {"generalise": {"postal_prefix": 2}}}, {}, "fields/heating", "does not fit"),
        ({"fuse_a": {"generalise": {"band": [35, 25]}}}, {}, "fields/fuse_a", "do not ascend"),
        ({"fuse_a": {"generalise": {"band": [25, 2**63]}}}, {}, "fields/fuse_a", "greater than any value"),
        ({"energy": {"round": 0.0000001}}, {}, "fields/energy", "more decimals"),
        ({"site_id": "keep"}, {}, "fields/site_id", "pseudonymise or drop"),
        ({"site_id": {"mask": {"keep_last": 2}}}, {}, "fields/site_id", "pseudonymise or drop"),
        ({"postal_code": "keep"}, {}, "fields/postal_code", "generalise it to a postal_prefix"),
        (
            {"area": {"from": "postal_code", "generalise": {"postal_prefix": 3}}},
            {"view": "months"},
            "",
            "would stand in it; leave it out",
        ),
        ({"product": "keep"}, {"restricted": "shown"}, "restricted", "has no places of persons"),
        ({"run_id": "keep"}, {"view": "runs"}, "view", "may not select from runs"),
        ({"phone": "keep"}, {"view": "customers"}, "view", "may not select from customers"),
    ],
)
def test_refuses_with_place_and_remedy(fields, more, path, words):
    with pytest.raises(PolicyError) as caught:
        compile_study(fields, **more)
    assert "/".join(caught.value.path) == f"datasets/analytics.study/{path}".rstrip("/")
    assert words in f"{caught.value.problem}; {caught.value.remedy}"


def test_pseudonyms_do_not_stand_beside_what_they_hide():
    fields = {"customer": {"from": "customer_id", "pseudonymise": "customer"}, "customer_id": "keep"}
    document = make_document(operational__study=make_study(fields, domain="study"))
    document["purposes"]["research"]["classes"].append("direct_identifier")
    with pytest.raises(PolicyError, match="customer_id tells whose the pseudonym is") as caught:
        compile_plan(document)
    assert caught.value.path == ("datasets", "operational.study", "fields", "customer_id")
    del fields["customer_id"]
    assert compile_plan(document)


def test_what_a_filter_tells_of_a_site_counts_as_a_column_does():
    assert compile_study({"heating": "keep"})
    assert compile_study({"energy": "keep"}, where={"building_type": "detached"})
    assert compile_study({"heating": "keep"}, where={"heating": "electric"})
    with pytest.raises(PolicyError, match="heating, building_type together may single people out"):
        compile_study({"heating": "keep"}, where={"building_type": "detached"})


def test_a_domain_is_on_one_side_only():
    fields = {"customer": {"from": "customer_id", "pseudonymise": "customer"}}
    study = make_study(fields, domain="study")
    document = make_document(operational__study=study, operational__more=study)
    assert compile_plan(document)
    document["datasets"]["analytics.study"] = study
    with pytest.raises(PolicyError, match="analytics has pseudonyms of study too") as caught:
        compile_plan(document)
    assert caught.value.path == ("datasets", "operational.study", "domain")


def test_fields_that_differ_between_readings_are_those_that_the_rows_have_flat():
    calendar = local_calendar("Europe/Helsinki")
    points = {("8716867000030", 3600): np.array([0])}
    cell = CellGrids.empty(20_000, pa.array(["P"]), points, np.array([0]), calendar)
    _, rows = flatten_cell(cell, {}, calendar)
    assert set(rows.flat) == set(OF_EACH_READING)


@pytest.mark.parametrize(
    "limits",
    [
        {"quarantined": {"share": float("nan"), "action": "warn"}},
        {"missing": [{"share": float("nan"), "action": "warn", "after_days": 1}]},
    ],
)
def test_a_share_that_is_no_number_is_refused(limits):
    with pytest.raises(PolicyError, match="a share is no number"):
        compile_plan(make_document() | {"limits": limits})


@pytest.mark.parametrize("section", ["grants", "domains"])
def test_unknown_roles_are_refused_everywhere(section):
    document = make_document()
    document[section]["study"] = ["analist"]
    with pytest.raises(PolicyError, match=r"no role (or recipient )?'analist'") as caught:
        compile_plan(document)
    assert caught.value.path == (section, "study")
    assert caught.value.remedy == "did you mean 'analyst'?"


def test_a_class_can_be_tightened_but_not_loosened():
    study = make_study({"heating": "keep"})
    document = make_document(analytics__study=study) | {"classes": {"heating": "quasi_identifier"}}
    compile_plan(document)
    with pytest.raises(PolicyError, match="may not hold heating"):
        compile_plan(document | {"classes": {"heating": "location"}})
    with pytest.raises(PolicyError, match="loosens the class of heating"):
        compile_plan(document | {"classes": {"heating": "technical"}})
    with pytest.raises(PolicyError, match="no field 'heatin'"):
        compile_plan(document | {"classes": {"heatin": "location"}})


@pytest.mark.parametrize("field_class", ["identity_code", "contact"])
@pytest.mark.parametrize("rule", ["keep", {"mask": {"keep_last": 0}}])
def test_identity_codes_and_contacts_reach_analytics_in_no_form(field_class, rule):
    document = make_document(analytics__study=make_study({"product": "keep", "heating": rule}))
    with pytest.raises(PolicyError, match="may not hold heating") as caught:
        compile_plan(document | {"classes": {"heating": field_class}})
    assert caught.value.remedy == "drop it"


def test_a_postal_prefix_may_be_null_where_the_code_is_not(monkeypatch):
    monkeypatch.setitem(VIEWS["daily"], "postal_code", replace(VIEWS["daily"]["postal_code"], required=True))
    (column,) = compile_study({"postal_code": {"generalise": {"postal_prefix": 3}}}).columns
    assert not column.required


@pytest.mark.parametrize("field", STATE_FIELDS)
def test_the_state_of_the_merge_must_stay_whole(field):
    document = make_document()
    document["datasets"]["operational.readings"]["fields"][field] = "drop"
    with pytest.raises(PolicyError, match=f"the merge needs {field}"):
        compile_plan(document)


@pytest.mark.parametrize("change", [{"view": "daily"}, {"where": {"direction": "consumption"}}])
def test_the_state_table_holds_every_reading(change):
    document = make_document()
    fields = {"product": "keep"} if "view" in change else document["datasets"]["operational.readings"]["fields"]
    document["datasets"]["operational.readings"] |= change | {"fields": fields}
    with pytest.raises(PolicyError, match="every reading is merged"):
        compile_plan(document)


def test_a_policy_without_the_state_table_is_refused():
    document = make_document(analytics__study=make_study({"product": "keep"}))
    del document["datasets"]["operational.readings"]
    with pytest.raises(PolicyError, match=r"operational\.readings is missing"):
        compile_plan(document)


def test_a_name_like_no_other_is_answered_with_what_there_is():
    assert suggest_name("zzz", ["b", "a"]) == "there are: a, b"
    assert suggest_name("zzz", []) == "there are: none"


def test_a_column_that_a_purpose_does_not_need_is_refused():
    document = make_document(operational__study=make_study({"product": "keep", "fuse_a": "keep"}))
    assert compile_plan(document).datasets["operational.study"]
    document["datasets"]["operational.study"]["purposes"] = ["research", "metering"]
    with pytest.raises(PolicyError, match="the purpose metering needs no quasi_identifier") as caught:
        compile_plan(document)
    assert "/".join(caught.value.path) == "datasets/operational.study/fields/fuse_a"


def test_a_pseudonym_needs_no_purpose_and_what_is_generalised_needs_one_for_that():
    fields = {"customer": {"from": "customer_id", "pseudonymise": "customer"}}
    document = make_document(analytics__study=make_study(fields, domain="study"))
    document["purposes"]["research"]["classes"] = []
    assert compile_plan(document)
    document["datasets"]["analytics.study"]["fields"]["area"] = {
        "from": "postal_code",
        "generalise": {"postal_prefix": 1},
    }
    with pytest.raises(PolicyError, match="needs no quasi_identifier"):
        compile_plan(document)


@pytest.mark.parametrize("basis", NEED_A_GROUND)
def test_a_basis_that_says_nothing_alone_needs_its_ground(basis):
    document = make_document()
    document["purposes"]["research"] = make_purpose([], basis)
    with pytest.raises(PolicyError, match="without a ground"):
        compile_plan(document)
    document["purposes"]["research"]["ground"] = {"fi": "laki", "en": "the law"}
    assert compile_plan(document).purposes["research"].ground == {"fi": "laki", "en": "the law"}


def test_a_recipient_shares_neither_dataset_nor_domain():
    document = make_document(operational__study=make_study({"product": "keep"}, audience=["builder"]))
    document["recipients"] = {"builder": {"kind": "subcontractor", "description": "builds"}}
    assert compile_plan(document).recipients["builder"].kind == "subcontractor"
    shared = deepcopy(document)
    shared["datasets"]["operational.study"]["audience"] = ["builder", "analyst"]
    with pytest.raises(PolicyError, match="shares this"):
        compile_plan(shared)
    document["domains"]["study"] = ["builder", "analyst"]
    with pytest.raises(PolicyError, match="shares this"):
        compile_plan(document)


def test_a_recipient_is_no_role():
    document = make_document()
    document["recipients"] = {"analyst": {"kind": "partner", "description": "d"}}
    with pytest.raises(PolicyError, match="analyst is a role"):
        compile_plan(document)


@pytest.mark.parametrize(
    ("sources", "words"),
    [({"readings": "m", "gossip": "g"}, "no feed 'gossip'"), ({"sites": "s"}, "readings is missing")],
)
def test_sources_are_feeds_and_meters_among_them(sources, words):
    document = make_document()
    document["sources"] = sources
    with pytest.raises(PolicyError, match=words):
        compile_plan(document)


def test_a_feed_that_is_no_source_is_not_heard():
    document = make_document()
    document["resolution"] = {"phone": ["customers", "campaign"]}
    assert compile_plan(document)
    del document["sources"]["campaign"]
    with pytest.raises(PolicyError, match="campaign is not among the sources"):
        compile_plan(document)


def test_who_may_not_be_disclosed_is_left_out_or_shown_on_purpose():
    spec = {"view": "customers", "audience": ["metering"], "purposes": ["metering"], "fields": {"name": "keep"}}
    for more in ({"where": {"information_restriction": False}}, {"restricted": "shown"}):
        assert compile_plan(make_document(operational__people=spec | more))
    for more in ({}, {"where": {"information_restriction": True}}, {"where": {"kind": "person"}}):
        with pytest.raises(PolicyError, match="shows name of persons under an information restriction"):
            compile_plan(make_document(operational__people=spec | more))
    assert compile_plan(make_document(operational__people=spec | {"fields": {"valid_from": "keep"}}))


def make_groups(*conditions):
    return make_document() | {"target_groups": {"group": {"description": "d", "when": list(conditions)}}}


def test_a_target_group_compiles_to_its_conditions_and_counts_for_rows():
    document = make_groups({"feature": "heating", "is": "electric"}, {"feature": "fuse_a", "at_least": 25})
    [group] = compile_plan(document).target_groups.values()
    assert group.conditions == (Condition("heating", "is", "electric"), Condition("fuse_a", "at_least", 25))
    other = make_groups({"feature": "heating", "is": "oil"})
    assert digest_policy(other) != digest_policy(document)
    other["target_groups"]["group"]["description"] = "another text"
    assert digest_policy(other) == digest_policy(make_groups({"feature": "heating", "is": "oil"}))


MONTHS = {
    "view": "months", "audience": ["metering"], "purposes": ["metering"],
    "fields": dict.fromkeys(
        ("metering_point_id", "customer_id", "contract_id", "product", "direction", "month", "present_minutes", "night_share"),
        "keep",
    ),
}  # fmt: skip


def test_a_rule_by_load_needs_a_table_that_keeps_what_it_goes_by():
    groups = make_groups({"feature": "night_share", "at_least": 0.4})
    with_months = {"datasets": groups["datasets"] | {"operational.months": MONTHS}}
    [group] = compile_plan(groups | with_months).target_groups.values()
    assert group.conditions == (Condition("night_share", "at_least", 0.4),)
    less = [{**MONTHS, "where": {"tariff": "spot"}}]
    less += [MONTHS | {"fields": MONTHS["fields"] | {name: "drop"}} for name in MONTHS["fields"]]
    less += [MONTHS | {"fields": MONTHS["fields"] | {"metering_point_id": {"mask": {"keep_last": 2}}}}]
    for spec in less:
        with pytest.raises(PolicyError, match="no operational dataset of the view months keeps") as caught:
            compile_plan(groups | {"datasets": groups["datasets"] | {"operational.months": spec}})
        assert caught.value.path == ("target_groups", "group", "when")
    winter = make_groups({"feature": "winter_ratio", "at_least": 2}) | with_months
    with pytest.raises(PolicyError, match="winter_ratio") as caught:
        compile_plan(winter)
    assert "energy" in caught.value.remedy


@pytest.mark.parametrize("feature", ["age", "sex", "language", "identity_code", "payment_defaults"])
def test_a_rule_that_would_discriminate_is_refused(feature):
    with pytest.raises(PolicyError, match=f"goes by {feature}"):
        compile_plan(make_groups({"feature": feature, "is": "x"}))


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"feature": "heatting", "is": "oil"}, "no feature 'heatting'"),
        ({"feature": "heating", "at_least": 3}, "heating is a word"),
        ({"feature": "fuse_a", "is": "large"}, "fuse_a is a number"),
    ],
)
def test_a_condition_that_does_not_fit_is_refused(condition, words):
    with pytest.raises(PolicyError, match=words) as caught:
        compile_plan(make_groups(condition))
    assert caught.value.path == ("target_groups", "group", "when")
