"""Customers' records of the Datahub's JSON interface as a reference feed."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BadFileError
from pipeline.feeds import find_feeds, read_feed, read_register
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.reference import build_snapshot
from pipeline.registers import ResolveRules
from tests.pipeline.register_feeds import CODE, write_feeds
from tests.pipeline.source_cases import SHARED

PERSON = {
    "CustomerIdentification": CODE,
    "CustomerIdentificationType": "AA02",
    "GivenName": "Aino",
    "MiddleNames": "Ilona",
    "FamilyName": "Example",
    "EmailAddress": "aino@example.com",
    "TelephoneNumber": "+358401234567",
    "Language": "sv",
    "IsInformationRestricted": True,
    "Agreements": [{"AgreementType": "AP01"}],
    "CustomerPostalAddress": {"StreetName": "Katu", "BuildingNumber": "1", "Apartment": "2", "PostalCode": "00100"},
}


def answer(transaction: Any, creation: Any = "2026-03-30T04:00:00.250Z") -> dict[str, Any]:
    return {"RetrieveCustomerResponse": {"Header": {"Creation": creation}, "Transaction": transaction}}


def write(folder: Path, content: Any) -> Path:
    path = folder / "datahub_customer.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [row for batch in read_feed("datahub_customer", path) for row in batch.to_pylist()]


def test_a_person_s_record_is_a_row(tmp_path: Path) -> None:
    [row] = read(write(tmp_path, answer(PERSON)))
    assert row == {
        "source": "Datahub",
        "received_at": datetime(2026, 3, 30, 4, 0, 0, 250_000, UTC),
        "identity_code": CODE,
        "business_id": None,
        "name": "Aino Ilona Example",
        "phone": "+358401234567",
        "email": "aino@example.com",
        "street_address": "Katu 1 2",
        "postal_code": "00100",
        "city": None,
        "language": "sv",
        "information_restriction": True,
    }


def test_a_list_of_answers_is_a_file(tmp_path: Path) -> None:
    company = {"CustomerIdentification": "2077474-0", "CompanyName": "Firma Oy", "IsInformationRestricted": False}
    nothing = {"EventReasons": {"EventReason": [{"EventReasonCode": "RC-MDM-RMV-100"}]}}
    rows = read(write(tmp_path, [answer(PERSON), answer({}), answer(nothing), answer(company)]))
    assert [(row["identity_code"], row["business_id"], row["name"]) for row in rows] == [
        (CODE, None, "Aino Ilona Example"),
        (None, "2077474-0", "Firma Oy"),
    ]


def test_a_restriction_that_the_datahub_knows_holds(tmp_path: Path) -> None:
    folder = write_feeds(tmp_path / "in", {})
    write(folder, answer(PERSON))
    snapshot = build_snapshot(folder, tmp_path / "lake", 2, ResolveRules(load_policy(DEFAULT_POLICY).resolution))
    customers = {row["customer_id"]: row for bucket in range(2) for row in snapshot.customers(bucket).to_pylist()}
    assert [customers[name]["information_restriction"] for name in ("C1", "C2", "C3")] == [True, False, False]
    assert customers["C1"]["email"] == "aino@example.com"
    assert customers["C1"]["name"] == "Aino"  # the company's own word goes first
    assert snapshot.registers()["datahub_customer"] == {
        "rows": 1,
        "matched": 1,
        "ambiguous": 0,
        "nobody": 0,
        "set aside": {},
    }


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "no JSON"),
        ("[", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"RetrieveCustomerResponse": {}, "RetrieveCustomerResponse": {}}', "no JSON"),
        ([answer(PERSON), answer([])], "datahub_customer.json, answer 2: it has not the form"),
        ([answer({**PERSON, "GivenName": 7})], "answer 1: it has not the form"),
        ([answer({**PERSON, "IsInformationRestricted": "no"})], "answer 1: it has not the form"),
        ([answer({**PERSON, "GivenName": "\ud800"})], "answer 1: it has not the form"),
        ([answer(None)], "answer 1: it has not the form"),
        ([None], "answer 1: it has not the form"),
        ("7", "answer 1: it has not the form"),
        ('{"RetrieveTimeSeriesData": {}}', "answer 1: it has not the form"),
        (answer({"ReasonCode": "RC-1"}), r"error of the interface \(RC-1\)"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: Any, problem: str) -> None:
    with pytest.raises(BadFileError, match=problem):
        read(write(tmp_path, content))


def test_a_record_without_a_time_or_an_identification_is_set_aside(tmp_path: Path) -> None:
    aside: Counter[str] = Counter()
    path = write(tmp_path, [answer(PERSON, creation="yesterday"), answer({**PERSON, "CustomerIdentification": "190"})])
    rows = [row for batch in read_register("datahub_customer", path, aside) for row in batch.to_pylist()]
    assert +aside == {"no received_at": 1}
    assert [row["business_id"] for row in rows] == ["190"]


def test_answers_are_the_datahub_s_feed_alone(tmp_path: Path) -> None:
    write_feeds(tmp_path / "in", {})
    (tmp_path / "in" / "company.json").write_text("[]")
    found = find_feeds(tmp_path / "in")
    with pytest.raises(BadFileError, match=r"in this format.*give it as \.parquet, \.csv, \.avro$"):
        list(read_feed("company", found["company"]))


def test_the_public_samples_are_read() -> None:
    folder = SHARED / "datahub_json"
    if not folder.is_dir():
        pytest.skip("the public samples are not on this machine")
    [batch] = read_feed("datahub_customer", folder / "customerData.json")
    [row] = batch.to_pylist()
    assert row["business_id"] == "6808503-9"
    assert row["street_address"] == "Pakkahuoneenaukio 7-16 F 96"
    assert (row["postal_code"], row["city"], row["language"]) == ("96700", "ROVANIEMI", "fi")
    assert row["information_restriction"] is False
    assert sum(batch.num_rows for batch in read_feed("datahub_customer", folder / "customerDataWithoutData.json")) == 0
