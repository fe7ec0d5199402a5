from collections import defaultdict
from datetime import date, timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import ean
from stdnum.fi import hetu, ytunnus

from pipeline.fleet.options import FleetOptions
from pipeline.fleet.reference import Fleet, build_fleet, compute_check_digit, name_numbers, resolve_customers
from pipeline.fleet.register import make_business_ids, make_identity_codes, write_reference
from schemas.reference import REFERENCE_FEEDS

OPTIONS = FleetOptions(points=3000, days=20, start=date(2026, 3, 20), seed=5)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Fleet, dict]:
    folder = tmp_path_factory.mktemp("reference")
    fleet = build_fleet(OPTIONS)
    write_reference(fleet, folder)
    return fleet, {feed: pq.read_table(folder / f"{feed}.parquet") for feed in ("sites", "contracts", "customers")}


def values(table, column):
    return table[column].to_pylist()


def test_feeds_have_the_schemas_that_all_parts_share(written):
    for feed, table in written[1].items():
        assert table.schema.equals(REFERENCE_FEEDS[feed]), feed


@given(st.integers(0, 10**17 - 1))
def test_check_digits_are_those_of_stdnum(number):
    digit = int(compute_check_digit(np.array([number]))[0])
    assert str(digit) == ean.calc_check_digit(f"{number:017d}")


def test_metering_points_are_distinct_valid_gsrns_but_for_the_faulty_ones(written):
    fleet, _ = written
    ids = fleet.name_points(np.arange(OPTIONS.points)).to_pylist()
    assert len(set(ids)) == OPTIONS.points
    assert ids == sorted(ids)
    assert all(name.startswith("643007") for name in ids)
    valid = np.array([len(name) == 18 and ean.calc_check_digit(name[:-1]) == name[-1] for name in ids])
    assert (valid == ~(fleet.wrong_digit | fleet.shortened)).all()
    assert fleet.wrong_digit.any()
    assert fleet.shortened.any()


@given(st.integers(0, 99_000_000))
def test_identity_codes_are_valid_and_of_the_range_for_tests(number):
    code, neighbour = make_identity_codes(np.array([number, number + 1])).to_pylist()
    assert hetu.is_valid(code, allow_temporary=True)
    assert 900 <= int(code[7:10]) <= 999
    assert code != neighbour


@given(st.integers(0, 99_000_000))
def test_business_ids_are_valid(number):
    assert ytunnus.is_valid(make_business_ids(np.array([number])).to_pylist()[0])


def test_identity_codes_are_distinct_as_far_as_a_nation():
    codes = make_identity_codes(np.arange(0, 9_000_000, 41)).to_pylist()
    assert len(set(codes)) == len(codes)


def test_customers_are_persons_or_companies_with_names_that_are_easy_to_find(written):
    customers = written[1]["customers"].to_pylist()
    for customer in customers:
        person = customer["kind"] == "person"
        assert (customer["identity_code"] is not None) is person
        assert (customer["business_id"] is not None) is not person
        assert "Kanarialint" in customer["name"]
        assert len(customer["name"]) >= 20
    for column in ("customer_id", "name", "identity_code", "business_id", "phone", "email"):
        given_values = [value for value in values(written[1]["customers"], column) if value]
        assert len(set(given_values)) == len(given_values), column
    restricted = [customer for customer in customers if customer["information_restriction"]]
    assert restricted
    assert {customer["kind"] for customer in restricted} == {"person"}


def test_the_feeds_fit_together(written):
    fleet, feeds = written
    sites, contracts, customers = (feeds[name] for name in ("sites", "contracts", "customers"))
    known = set(fleet.name_points(np.flatnonzero(fleet.known)).to_pylist())
    assert set(values(sites, "metering_point_id")) == known
    assert set(values(contracts, "metering_point_id")) <= known
    assert set(values(contracts, "customer_id")) == set(values(customers, "customer_id"))
    assert len(set(values(contracts, "contract_id"))) == contracts.num_rows
    assert all(len(code) == 5 and code.isdigit() for code in values(sites, "postal_code"))
    assert any(code.startswith("0") for code in values(sites, "postal_code"))


def test_a_site_with_solar_panels_has_a_consuming_and_a_producing_point(written):
    directions = defaultdict(list)
    for row in written[1]["sites"].to_pylist():
        directions[row["site_id"]].append(row["direction"])
    both = [kinds for kinds in directions.values() if len(kinds) == 2]
    assert len(both) > OPTIONS.points // 15
    assert all(sorted(kinds) == ["consumption", "production"] for kinds in both)
    assert all(kinds in (["consumption"], ["production"]) for kinds in directions.values() if len(kinds) == 1)


def test_a_company_may_have_several_sites(written):
    owners = defaultdict(set)
    for row in written[1]["contracts"].to_pylist():
        owners[row["customer_id"]].add(row["metering_point_id"])
    companies = {row["customer_id"] for row in written[1]["customers"].to_pylist() if row["kind"] == "company"}
    assert max(len(owners[company]) for company in companies) > 1


def test_customers_of_a_day_are_those_of_the_written_contracts(written):
    fleet, feeds = written
    contracts = defaultdict(list)
    for row in feeds["contracts"].to_pylist():
        contracts[row["metering_point_id"]].append(row)
    points = np.arange(0, OPTIONS.points, 3)
    names = fleet.name_points(points).to_pylist()
    seen = set()
    for local_date in (OPTIONS.start - timedelta(days=1), *OPTIONS.dates[::3]):
        customer, overlapping = resolve_customers(fleet, points, (local_date - date(1970, 1, 1)).days)
        for name, held, doubled in zip(names, name_numbers("C", customer).to_pylist(), overlapping, strict=True):
            covering = [
                row
                for row in contracts[name]
                if row["valid_from"] <= local_date and (row["valid_to"] is None or local_date < row["valid_to"])
            ]
            assert held == (max(covering, key=lambda row: row["signed_at"])["customer_id"] if covering else None)
            assert doubled == (len(covering) == 2)
            seen.add(
                (
                    len(covering),
                    max(covering, key=lambda r: r["valid_from"])["customer_id"] == held if covering else None,
                )
            )
    assert seen == {(0, None), (1, True), (2, True), (2, False)}
