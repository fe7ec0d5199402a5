"""What every role and recipient is given, looked at on the files that were written: nothing that is not granted."""

import json
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from privacy_support import run
from whole_job import ingest, make_keys, paths_of, rows_of

from pipeline import entities
from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions
from pipeline.fleet.registers import TRUTH_FILE
from pipeline.lake import open_lake
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from schemas.registers import REGISTERS
from schemas.views import VIEW_KINDS
from transforms.customers import join_address

PLAN = load_policy(DEFAULT_POLICY)
#: Yesterday, so that the register of bans is current.
START = datetime.now(UTC).date() - timedelta(days=3)
#: Columns of the truth that tell somebody apart, and the field of the views that shows them.
TELLING = ("name", "phone", "email", "identity_code", "business_id", "postal_address", "customer_id")


class Company(NamedTuple):
    """A lake with every register, and who its customers are in truth."""

    folder: Path
    keys: dict
    truth: pa.Table

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def ingest(self, **options):
        return ingest(self.lake, [], self.keys, reference=self.folder / "reference", **options)

    def who(self, mask) -> set[str]:
        return set(self.truth.filter(mask)["customer_id"].to_pylist())


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    folder = tmp_path_factory.mktemp("company")
    options = FleetOptions(points=4_000, days=1, start=START, format="parquet", feeds=frozenset(REGISTERS))
    generate_fleet(options, folder)
    truth = pq.read_table(folder / TRUTH_FILE)
    address = join_address(truth["street_address"], truth["postal_code"], truth["city"])
    made = Company(folder, make_keys(folder), truth.append_column("postal_address", address))
    ingest(made.lake, sorted((folder / "readings").iterdir()), made.keys, reference=folder / "reference", buckets=4)
    return made


def texts_of(lake: Path, dataset: str) -> set[str]:
    """Decode every text that stands in a dataset's files: values of all columns, dictionaries, metadata of footers."""
    found: set[str] = set()
    for path in paths_of(lake, dataset):
        table = pq.read_table(path)
        for column in table.columns:
            if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
                found.update(pc.unique(column.cast(pa.string())).to_pylist())
        found.update(value.decode(errors="replace") for value in (pq.read_metadata(path).metadata or {}).values())
    return found - {None}


def list_addresses(company: Company, customers: pa.ChunkedArray) -> set[str]:
    """List the addresses of sites that customers ever had a contract for."""
    sites, contracts = (
        pq.read_table(company.folder / "reference" / f"{name}.parquet") for name in ("sites", "contracts")
    )
    points = contracts.filter(pc.is_in(contracts["customer_id"], customers.combine_chunks()))["metering_point_id"]
    sites = sites.filter(pc.is_in(sites["metering_point_id"], points.combine_chunks()))
    return set(join_address(sites["street_address"], sites["postal_code"], sites["city"]).to_pylist())


def withdrew(company: Company) -> set[str]:
    consents = pq.read_table(company.folder / "reference" / "consent.parquet")
    last: dict[str, tuple] = {}
    for row in consents.to_pylist():
        last[row["customer_id"]] = max(
            last.get(row["customer_id"], (row["occurred_at"], "")), (row["occurred_at"], row["action"])
        )
    return {who for who, (_, action) in last.items() if action != "given"}


@pytest.mark.parametrize("name", sorted(PLAN.datasets))
def test_a_field_that_is_not_granted_is_in_no_schema(company, name):
    granted = [column.name for column in PLAN.datasets[name].columns]
    for path in paths_of(company.lake, name):
        assert pq.read_schema(path).names == granted


@pytest.mark.parametrize("name", sorted(PLAN.datasets))
def test_a_value_that_is_not_granted_is_in_no_file(company, name):
    dataset = PLAN.datasets[name]
    granted = {column.source for column in dataset.columns if dataset.zone == "operational"}
    if "site_address" in granted:
        granted.add("postal_address")  # most customers live where their meter is
    texts = texts_of(company.lake, name)
    for field in TELLING:
        values = set(company.truth[field].to_pylist()) - {None}
        assert len(values) > 50
        if field not in granted:
            assert not values & texts, field


def test_marketing_has_those_alone_whom_it_may_reach(company):
    truth = company.truth
    out = pc.or_(pc.or_(truth["banned_by_telephone"], truth["banned_by_post"]), truth["objected"])
    out = pc.or_(pc.or_(out, truth["information_restriction"]), truth["deceased_on"].is_valid())
    wanted = company.who(pc.invert(out)) - withdrew(company)
    shown = rows_of(company.lake, "operational.marketing")
    assert set(shown["customer_id"].to_pylist()) == wanted
    assert 100 < len(wanted) < truth.num_rows - 100
    for mask in ("banned_by_telephone", "banned_by_post", "objected", "information_restriction"):
        assert len(company.who(truth[mask])) > 0, mask
    assert {"solar", "spot_price"} <= set(shown["target_group"].to_pylist())
    grouped = shown.filter(shown["target_group"].is_valid())
    assert grouped["reason"].null_count == 0


def test_collections_has_the_credit_register_and_payments_and_nobody_else_has(company):
    shown = {row["customer_id"]: row for row in rows_of(company.lake, "operational.collections").to_pylist()}
    for row in company.truth.to_pylist():
        if row["information_restriction"]:
            assert row["customer_id"] not in shown
            continue
        assert shown[row["customer_id"]]["payment_defaults"] == row["defaults"]
        assert shown[row["customer_id"]]["open_cents"] == 0
    assert any(row["payment_defaults"] for row in shown.values())
    others = [dataset for name, dataset in PLAN.datasets.items() if name != "operational.collections"]
    assert not [
        column for one in others for column in one.columns if column.source in ("payment_defaults", "open_cents")
    ]


def test_who_may_not_be_disclosed_is_in_no_dataset_of_people(company):
    restricted = company.truth.filter(company.truth["information_restriction"])
    others = company.truth.filter(pc.invert(company.truth["information_restriction"]))
    assert restricted.num_rows > 5
    shared = list_addresses(company, others["customer_id"])  # who lived there before is shown with that address
    for name, dataset in PLAN.datasets.items():
        if VIEW_KINDS[dataset.view] != "entity":
            continue
        texts = texts_of(company.lake, name)
        for field in ("customer_id", "name", "phone", "postal_address"):
            own = set(restricted[field].to_pylist()) - set(others[field].to_pylist()) - shared - {None}
            assert not own & texts, (name, field)


def test_billing_by_interval_has_contracts_of_that_tariff_alone(company):
    contracts = pq.read_table(company.folder / "reference" / "contracts.parquet")
    spot = set(contracts.filter(pc.equal(contracts["tariff"], "spot"))["contract_id"].to_pylist())
    shown = set(rows_of(company.lake, "operational.billing_intervals", "contract_id")["contract_id"].to_pylist())
    assert shown
    assert shown <= spot


def test_field_work_has_places_and_no_people(company):
    shown = rows_of(company.lake, "operational.field_work")
    assert shown.num_rows > 1000
    assert shown["site_address"].null_count < shown.num_rows / 2
    assert set(shown["heating"].to_pylist()) > {"electric"}


def test_group_shares_are_those_of_the_marketing_table_and_few_are_not_told(company):
    done = run("policy", "groups", "--lake", company.lake, "--minimum", "5", "--json")
    assert done.code == 0
    shares = json.loads(done.out)
    marketed = Counter(rows_of(company.lake, "operational.marketing")["target_group"].to_pylist())
    whole = {row["target_group"]: row for row in shares if row["level"] == "all"}
    assert whole.keys() == PLAN.target_groups.keys()
    for name, row in whole.items():
        enough = min(marketed[name], marketed.total() - marketed[name]) >= 5
        assert (row["members"], row["people"]) == ((marketed[name], marketed.total()) if enough else (None, None))
    assert any(row["suppressed"] for row in shares)
    assert any(row["members"] for row in shares if row["level"] != "all")
    assert all(row["members"] >= 5 for row in shares if row["suppressed"] is None)
    assert json.loads((company.lake / "operational" / "audit.jsonl").read_text().splitlines()[-1])["command"] == (
        "policy groups"
    )


@pytest.fixture
def changing(company, tmp_path):
    """The same company elsewhere, to be changed: what a lake holds is by absolute paths."""
    shutil.copytree(company.folder / "reference", tmp_path / "reference")
    made = Company(tmp_path, company.keys, company.truth)
    made.ingest(buckets=4)
    return made


def marketed(company: Company) -> set[str]:
    return set(rows_of(company.lake, "operational.marketing", "customer_id")["customer_id"].to_pylist())


def say(company: Company, customer: str, action: str) -> None:
    path = company.folder / "reference" / "consent.parquet"
    consents = pq.read_table(path)
    now = datetime.now(UTC)
    word = {
        "source": "crm", "received_at": now, "customer_id": customer, "purpose": "direct_marketing", "channel": "any",
        "action": action, "occurred_at": now,
    }  # fmt: skip
    pq.write_table(pa.concat_tables([consents, pa.Table.from_pylist([word], schema=consents.schema)]), path)


def test_an_objection_counts_from_the_next_run_and_its_end_too(changing):
    customer = min(marketed(changing))
    before = marketed(changing)
    say(changing, customer, "objected")
    changing.ingest()
    assert marketed(changing) == before - {customer}
    say(changing, customer, "given")
    changing.ingest()
    assert marketed(changing) == before


def test_nobody_is_marketable_by_a_list_that_is_out_of_date(changing):
    assert marketed(changing)
    later = datetime.now(UTC) + timedelta(days=100)
    with patch.object(entities, "begin_of_run", lambda _: later):
        changing.ingest()
    assert not marketed(changing)
    assert not rows_of(changing.lake, "operational.marketing").num_rows


def test_nobody_is_marketable_without_a_list(changing):
    (changing.folder / "reference" / "marketing_ban.parquet").unlink()
    changing.ingest()
    assert not marketed(changing)
    assert open_lake(changing.lake).has_table("operational.marketing")
