"""The default policy and the JSON Schema of policies: that they say what the tables of the main job need."""

import json
from importlib.resources import files

import pyarrow as pa
import pytest
import yaml
from jsonschema import Draft202012Validator

from schemas.features import FEATURES
from schemas.legal import LANGUAGES, LEGAL_BASES, NEED_A_GROUND, RECIPIENT_KINDS
from schemas.views import FIELD_CLASSES, VIEWS
from transforms.grants import list_access
from transforms.plan import Band, Keep, Plan, PostalPrefix, Pseudonymise
from transforms.policy import STATE_FIELDS, compile_plan

SCHEMA = json.loads((files("schemas") / "policy.schema.json").read_text(encoding="utf-8"))
RETAILER = yaml.safe_load((files("schemas") / "policies" / "retailer.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def plan() -> Plan:
    Draft202012Validator(SCHEMA).validate(RETAILER)
    return compile_plan(RETAILER)


def test_the_schema_is_one_and_knows_the_field_classes():
    Draft202012Validator.check_schema(SCHEMA)
    assert tuple(SCHEMA["$defs"]["class"]["enum"]) == FIELD_CLASSES


def test_every_schema_that_can_refuse_says_what_it_expects():
    def walk(schema):
        if isinstance(schema, dict):
            if schema.keys() & {"type", "enum", "const", "pattern"} and not isinstance(schema.get("type"), dict):
                yield schema
            for key, part in schema.items():
                if key != "if":
                    yield from walk(part)

    bare = [schema for schema in walk(SCHEMA) if "description" not in schema]
    assert bare == []


def set_aside(view, *names):
    return [name for name in view if name not in names]


def test_columns_are_those_of_the_main_job(plan):
    columns = {name: " ".join(column.name for column in dataset.columns) for name, dataset in plan.datasets.items()}
    assert columns == {
        "operational.readings": " ".join(STATE_FIELDS),
        "operational.billing_daily": "metering_point_id product local_date customer_id contract_id direction energy "
        "expected_minutes present_minutes status",
        "operational.customer_service": "customer_id name phone email postal_address language site_address "
        "metering_point_id contract_id valid_from valid_to",
        "analytics.readings": "metering_point site customer product direction resolution_s local_date start energy status",
        "analytics.sites": "site valid_from valid_to building_type heating fuse_band postal_area",
        "analytics.daily": "metering_point site product direction local_date energy peak_kw base_kw night_share "
        "load_factor expected_minutes present_minutes heating fuse_band postal_area",
        "operational.quarantine_readings": " ".join(VIEWS["quarantine"]),
        "operational.billing_intervals": "metering_point_id customer_id contract_id product direction resolution_s "
        "local_date start energy status",
        "operational.collections": " ".join(set_aside(VIEWS["accounts"], "kind", "information_restriction")),
        "operational.marketing": " ".join(set_aside(VIEWS["marketing"], "kind", "marketable")),
        "operational.field_work": "metering_point_id site_address fuse_a heating valid_from valid_to",
        "operational.letters": "customer_id name postal_address",
        "analytics.grid_planning": "metering_point product direction local_date energy peak_kw postal_area",
        "analytics.area_hourly": " ".join(VIEWS["area_hours"]),
        "analytics.partner_green": "metering_point product direction month energy expected_minutes present_minutes",
        "operational.releases": " ".join(VIEWS["releases"]),
        "operational.changes": " ".join(VIEWS["changes"]),
        "operational.months": "metering_point_id site_id product direction month customer_id contract_id energy "
        "expected_minutes present_minutes peak_kw base_kw load_factor utilisation_hours night_share weekend_ratio "
        "midday_ratio",
        "operational.runs": " ".join(VIEWS["runs"]),
    }


def test_what_is_required_in_the_view_stays_required(plan):
    for dataset in plan.datasets.values():
        for column in dataset.columns:
            assert column.required == VIEWS[dataset.view][column.source].required, (dataset.name, column.name)


def test_analytics_is_pseudonymised_and_coarse(plan):
    readings, daily = plan.datasets["analytics.readings"], plan.datasets["analytics.daily"]
    assert (readings.domain, readings.epoch) == ("load-research", "year")
    assert (daily.domain, daily.epoch) == ("product-development", "")
    rules = {column.name: column.rule for column in (*readings.columns, *daily.columns) if column.rule != Keep()}
    assert rules == {
        "metering_point": Pseudonymise("metering_point"),
        "site": Pseudonymise("usage_site"),
        "customer": Pseudonymise("customer"),
        "fuse_band": Band((25, 35, 63)),
        "postal_area": PostalPrefix(3),
    }
    assert all(column.type == pa.uuid() for column in readings.columns[:3])


def test_customer_service_sees_no_identity_code_and_nobody_under_a_restriction(plan):
    dataset = plan.datasets["operational.customer_service"]
    classes = {VIEWS["customers"][column.source].field_class for column in dataset.columns}
    assert "identity_code" not in classes
    assert dataset.where == {"information_restriction": False}


def test_every_kind_of_recipient_has_its_own(plan):
    assert {one.kind for one in plan.recipients.values()} == set(RECIPIENT_KINDS)
    for name in (name for name, one in plan.recipients.items() if one.kind != "authority"):
        assert [dataset for dataset in plan.datasets.values() if dataset.audience == {name}]


def test_the_credit_register_reaches_collections_alone(plan):
    seen = {row.audience for row in list_access(plan) if row.field in ("payment_defaults", "latest_default_on")}
    assert seen == {"collections"}


def test_target_groups_go_by_features_alone(plan):
    for group in plan.target_groups.values():
        assert {one.feature for one in group.conditions} <= FEATURES.keys()


def test_everybody_has_the_pseudonymised_tables_only(plan):
    for dataset in plan.datasets.values():
        if not dataset.audience & plan.recipients.keys():
            assert bool(plan.grants["*"] & dataset.audience) == (dataset.zone == "analytics"), dataset.name


def test_every_dataset_can_be_read_and_every_name_is_used(plan):
    granted = frozenset().union(*plan.grants.values()) | plan.recipients.keys()
    assert all(dataset.audience & granted for dataset in plan.datasets.values())
    authorities = {name for name, one in plan.recipients.items() if one.kind == "authority"}
    assert {*plan.roles, *plan.recipients} - authorities == set().union(
        *(dataset.audience for dataset in plan.datasets.values())
    )
    assert set(plan.purposes) == set().union(*(dataset.purposes for dataset in plan.datasets.values()))
    assert {purpose.legal_basis for purpose in plan.purposes.values()} <= LEGAL_BASES.keys()


def test_lists_in_the_schema_are_those_of_the_law_and_of_the_fields():
    purpose = SCHEMA["properties"]["purposes"]["additionalProperties"]["properties"]
    recipient = SCHEMA["properties"]["recipients"]["additionalProperties"]["properties"]
    assert purpose["legal_basis"]["enum"] == list(LEGAL_BASES)
    assert set(NEED_A_GROUND) <= LEGAL_BASES.keys()
    assert recipient["kind"]["enum"] == list(RECIPIENT_KINDS)
    assert set(SCHEMA["$defs"]["text"]["else"]["required"]) == set(LANGUAGES)
