"""Mutated policies: each is refused at a line of its file, or grants no more than it says, on the plan and in rows."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from policy_mutations import damage, dump, enrich, mutate
from policy_oracle import columns_of, find_breaches, find_overreach, list_access, list_statements, make_rows, readable

from pipeline.access import User, authorise
from pipeline.errors import MeterveilError
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.policy_pages import make_matrix
from schemas.legal import LANGUAGES
from schemas.views import OF_EACH_READING, VIEWS
from transforms.derive import derive
from transforms.grants import list_access as list_rows
from transforms.notice import make_notice, make_record
from transforms.plan import Anonymity, Column, Keep, Plan, PostalPrefix
from transforms.policy import compile_plan
from transforms.policy_diff import compare_policies
from transforms.rows import Groups, Order, Rows

MUTANTS = 10_000 if os.environ.get("METERVEIL_TEST_LARGE") else 40
BASE = enrich(yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8")))
DAY, HOUR = date(2026, 3, 29), datetime(2026, 1, 1, tzinfo=UTC)
PLAN = compile_plan(BASE)
NAME = Column("name", "name", Keep(), pa.string(), False, "")
#: Values of each type, as they are and as nobody expects them.
VALUES: dict[Any, list[Any]] = {
    pa.string(): ["00100", "0a100", "", "some", "C-1001"],
    pa.bool_(): [True, False],
    pa.int32(): [-1, 0, 25, 36, 2**31 - 1],
    pa.int64(): [-1, 0, 25, 36, 2**40],
    pa.float64(): [0.0, 0.25],
    pa.date32(): [DAY, date(1969, 12, 31)],
    pa.timestamp("us", tz="UTC"): [HOUR, datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)],
    pa.decimal64(14, 6): [Decimal("1.005"), Decimal(0), Decimal("99999999.999999")],
    pa.decimal64(18, 6): [Decimal("-0.25"), Decimal("0.75"), Decimal(10**9)],
}


def draw_row(view: str, random: Random) -> dict[str, Any]:
    fields = VIEWS[view].values()
    return {
        field.name: None if not field.required and random.random() < 0.2 else random.choice(VALUES[field.type])
        for field in fields
    }


SCHEMAS = {name: pa.schema([(field.name, field.type) for field in view.values()]) for name, view in VIEWS.items()}
ROWS = {view: [draw_row(view, random) for _ in range(12)] for view, random in ((name, Random(name)) for name in VIEWS)}
COLUMNS = {name: pa.RecordBatch.from_pylist(rows, SCHEMAS[name]) for name, rows in ROWS.items()}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return tmp_path_factory.mktemp("mutants") / "policy.yaml"


def load(path, text: str) -> Plan:
    path.write_text(text, encoding="utf-8")
    return load_policy(path)


def subkey(entity: str) -> bytes:
    return hashlib.sha256(entity.encode()).digest()


def view_rows(view: str) -> Rows:
    """Give the rows of a view as runs make them: of readings, what each has a value of its own for is flat."""
    columns = dict(zip(VIEWS[view], COLUMNS[view].columns, strict=True))
    if view != "readings":
        return Rows(columns)
    columns["status"] = columns["status"].dictionary_encode()
    flat = {name: partial(take, columns.pop(name)) for name in OF_EACH_READING}
    one, nth = np.ones(len(ROWS[view]), np.int64), np.arange(len(ROWS[view]))
    return Rows(columns, Groups(one, nth, nth, one), flat)


class AsItIs:
    """Tells everything exactly: as if enough sites shared it."""

    def tell(self, columns: list[pa.Array]) -> list[pa.Array]:
        return columns


def take(column: pa.Array, order: Order) -> pa.Array:
    return column.take(pa.array(order.take(np.arange(len(column)))))


def check_refusal(text: str, path, message: str) -> re.Match[str]:
    """A refusal is one line, and names a line of the file."""
    match = re.match(rf"{re.escape(str(path))}:(\d+): (.*?): ", f"{message}: ")
    assert match, message
    assert "\n" not in message
    assert 1 <= int(match[1]) <= text.count("\n") + 1
    return match


def check_location(text: str, path, message: str) -> None:
    """The line that is named has the last key of the place that there is."""
    match = check_refusal(text, path, message)
    number, place = int(match[1]), match[2].split("/")
    key = text.split("\n")[number - 1].strip().removeprefix("- ").partition(":")[0].strip("'\"")
    assert number == 1 or " ".join(key.split()) in place, (number, message)


def count_rows(rows: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Count rows, which stand in another order where their pseudonyms sort them; equal values of a type are the same."""
    return Counter(tuple((name, type(value), value) for name, value in row.items()) for row in rows)


def check_plan(document: dict[str, Any], plan: Plan) -> None:
    assert find_breaches(document) == []
    assert find_overreach(document, plan) == []
    assert {(row.audience, f"{row.dataset}.{row.column}") for row in list_rows(plan)} <= list_access(document).keys()
    for who in (*document["grants"], "somebody"):
        user = User("nobody", frozenset({who[1:]})) if who.startswith("@") else User(who, frozenset())
        for role in document["roles"]:
            for purpose in document["purposes"]:
                try:
                    granted = set(authorise(plan, user, role, purpose))
                except MeterveilError:
                    granted = set()
                assert granted <= readable(document, {who, "*"}, role, purpose)


def check_diff(document: dict[str, Any], plan: Plan) -> None:
    """What another policy changes is told, whatever it is, and nothing else."""
    before, after = list_access(BASE), list_access(document)
    changed = {key for key in {**before, **after} if before.get(key) != after.get(key)}
    told = compare_policies(PLAN, plan)
    assert bool(told) == (plan != PLAN or list(plan.target_groups) != list(PLAN.target_groups))
    given = [change for change in told if change.part in ("columns", "disclosure", "grants")]
    assert {(change.who, change.what) for change in given} == changed
    for change in given:
        had, has = ((change.who, change.what) in access for access in (before, after))
        assert change.change == ("changes" if had and has else "gains" if has else "loses")
    before, after = list_statements(BASE), list_statements(document)
    changed = {key for key in {**before, **after} if before.get(key) != after.get(key)}
    # Of a dataset that one of them has alone, its columns tell everything.
    changed -= {("datasets", name) for name in BASE["datasets"].keys() ^ document["datasets"].keys()}
    assert changed <= {(change.part, change.what.partition(":")[0].partition(" (")[0]) for change in told}


def check_matrix(document: dict[str, Any], plan: Plan) -> None:
    """Who sees which field is what the document says; and it can be told in every language."""
    seen = {
        (who, source)
        for spec in document["datasets"].values()
        for source, _ in columns_of(spec).values()
        for who in spec["audience"]
    }
    audiences = [*document["roles"], *document.get("recipients", {})]
    assert {(who, row["field"]) for row in make_matrix(plan) for who in audiences if row[who]} == seen
    for language in LANGUAGES:
        assert make_notice(plan, language).sections
        assert make_record(plan, language).sections


def check_rows(document: dict[str, Any], plan: Plan) -> None:
    """Make the datasets that differ from those of the default policy, and compare each value."""
    for name, dataset in plan.datasets.items():
        spec = document["datasets"][name]
        if spec == BASE["datasets"].get(name) and document is not BASE:
            continue
        [block] = derive(dataset, view_rows(spec["view"]), subkey, AsItIs())  # test_anonymity looks at groups
        assert count_rows(block.to_pylist()) == count_rows(make_rows(spec, ROWS[spec["view"]], subkey)), name


def test_the_policy_that_is_mutated_grants_what_it_says(policy):
    plan = load(policy, dump(BASE))
    check_plan(BASE, plan)
    check_rows(BASE, plan)


def test_a_mutated_policy_is_refused_at_its_line_or_grants_no_more_than_it_says(policy):
    outcomes: Counter[str] = Counter()
    for number in range(MUTANTS):
        random = Random(number)
        if number % 4:
            text, check = dump(mutate(BASE, random)), check_location
        else:
            text, check = damage(dump(BASE), random), check_refusal
        try:
            outcomes[try_mutant(policy, text, check)] += 1
        except Exception as error:
            raise AssertionError(f"mutant {number}: {error!r}") from error
    assert min(outcomes["refused"], outcomes["compiled"]) > MUTANTS / 10, outcomes


def try_mutant(path, text: str, check: Callable[[str, Any, str], None]) -> str:
    try:
        plan = load(path, text)
    except MeterveilError as error:
        check(text, path, str(error))
        return "refused"
    document = yaml.safe_load(text)
    check_plan(document, plan)
    check_rows(document, plan)
    check_diff(document, plan)
    check_matrix(document, plan)
    return "compiled"


def plant(plan: Plan, name: str, **changes: Any) -> Plan:
    return replace(plan, datasets={**plan.datasets, name: replace(plan.datasets[name], **changes)})


def with_rule(plan: Plan, name: str, column: str, **changes: Any) -> Plan:
    columns = plan.datasets[name].columns
    return plant(plan, name, columns=tuple(replace(c, **changes) if c.name == column else c for c in columns))


@pytest.mark.parametrize(
    "planted",
    [
        lambda plan: plant(plan, "analytics.daily", audience=frozenset({"analyst", "billing", "product_development"})),
        lambda plan: plant(plan, "analytics.daily", purposes=frozenset({"billing"})),
        lambda plan: plant(plan, "analytics.daily", domain="load-research"),
        lambda plan: plant(plan, "analytics.daily", retention_days=1200),
        lambda plan: plant(plan, "analytics.daily", retention_days=None),
        lambda plan: plant(plan, "analytics.readings", epoch=""),
        lambda plan: plant(plan, "operational.customer_service", where={}),
        lambda plan: plant(plan, "operational.runs", columns=(*plan.datasets["operational.runs"].columns, NAME)),
        lambda plan: with_rule(plan, "analytics.readings", "site", rule=Keep()),
        lambda plan: with_rule(plan, "analytics.daily", "postal_area", rule=PostalPrefix(4)),
        lambda plan: with_rule(plan, "analytics.daily", "heating", source="building_type"),
        lambda plan: replace(plan, grants={**plan.grants, "*": frozenset({"billing"})}),
        lambda plan: replace(plan, grants={**plan.grants, "eve": frozenset({"billing"})}),
        lambda plan: replace(plan, domains={**plan.domains, "load-research": frozenset({"billing"})}),
        lambda plan: replace(plan, datasets={**plan.datasets, "analytics.eve": plan.datasets["operational.runs"]}),
        lambda plan: replace(plan, resolution={}),
        lambda plan: replace(plan, classes={}),
        lambda plan: plant(plan, "analytics.daily", anonymity=None),
        lambda plan: plant(
            plan, "analytics.daily", anonymity=Anonymity(2, plan.datasets["analytics.daily"].anonymity.columns)
        ),
        lambda plan: replace(plan, target_groups={}),
        lambda plan: replace(plan, ban_list_days=99),
        lambda plan: replace(
            plan, recipients={name: replace(one, disclosed_by={"billing"}) for name, one in plan.recipients.items()}
        ),
        lambda plan: replace(plan, sources={**plan.sources, "feed": {}}),
    ],
)
def test_the_oracle_sees_what_a_plan_grants_beyond_the_policy(policy, planted):
    plan = load(policy, dump(BASE))
    assert find_overreach(BASE, plan) == []
    assert find_overreach(BASE, planted(plan)) != []


def edit(place: str, value: Any, **more: Any) -> dict[str, Any]:
    document = deepcopy(BASE)
    for keys, new in ((place, value), *more.items()):
        node, *path = document, *keys.split("/")
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = new
    return document


DAILY = "datasets/analytics.daily/"


@pytest.mark.parametrize(
    "document",
    [
        edit(f"{DAILY}fields/metering_point_id", "keep"),
        edit(f"{DAILY}fields/municipality", "keep"),
        edit(f"{DAILY}fields/contract_id", {"mask": {"keep_last": 2}}),
        edit(f"{DAILY}fields/tariff", "keep"),
        edit(f"{DAILY}fields/site", {"from": "site_id", "pseudonymise": "customer"}),
        edit(f"{DAILY}audience", ["analyst"]),
        edit(f"{DAILY}audience", ["analyst", "mutant_partner"]),
        edit(f"{DAILY}audience", ["customers"]),
        edit(f"{DAILY}where", {"customer_id": "C-1001"}),
        edit(f"{DAILY}where", {"postal_code": "00100"}),
        edit(f"{DAILY}purposes", ["product_development", "accountability"]),
        edit("purposes/load_research/classes", []),
        edit("datasets/operational.billing_daily/fields/heating", "keep"),
        edit("datasets/operational.readings/where", {"contracted": True}),
        edit("datasets/operational.readings/fields/flags", "drop"),
        edit("datasets/operational.links", BASE["datasets"]["analytics.daily"]),
        edit("datasets/operational.mutant", {
            "view": "daily", "audience": ["mutant_partner"], "purposes": ["billing"], "domain": "mutants",
            "fields": {
                "point": {"from": "metering_point_id", "pseudonymise": "metering_point"}, "metering_point_id": "keep",
            },
        }, domains=BASE["domains"] | {"mutants": ["mutant_partner"]}),
        edit("classes/name", "technical"),
        edit("classes/heating", "contact"),
        edit("grants/*", ["mutant_partner"]),
        edit("roles/mutant_partner", "both"),
        edit("domains/load-research", ["analyst", "mutant_partner"]),
        edit("purposes/metering/ground", " "),
        edit("purposes/billing/legal_basis", "legitimate_interests"),
        edit("sources", {name: text for name, text in BASE["sources"].items() if name != "population_register"}),
        edit("limits/quarantined/share", float("nan")),
        edit(f"{DAILY}anonymity", {"k": 5, "columns": ["heating", "fuse_band"]}),
        edit(f"{DAILY}anonymity", {"k": 5, "columns": ["heating", "fuse_band", "product"]}),
        edit(f"{DAILY}where", {"direction": "consumption"}),
        edit("datasets/analytics.grid_planning/fields/heating", "keep"),
    ],
)  # fmt: skip
def test_what_the_oracle_forbids_does_not_compile(policy, document):
    assert find_breaches(BASE) == []
    assert find_breaches(document) != []
    with pytest.raises(MeterveilError):
        load(policy, dump(document))
