"""Customers' records of the Finnish Datahub's JSON interface, as rows of the ``datahub_customer`` feed.

A file is one answer (``RetrieveCustomerResponse``), or a list of answers. An answer that there is no data has no row;
any other reason is an error of the interface, and the file is refused. What a record says was so when its answer was
made (``Creation``). Its agreements are passed over: they have no number by which a contract could be known.
"""

import json
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import BadFileError
from pipeline.sources.datahub_answers import HEADER, REASONS, list_reasons, refuse_errors
from pipeline.sources.fields import parse_instant

#: Of a file: some hundred thousand records.
MOST_BYTES = 256 << 20
_SOURCE = "Datahub"
#: What a person's identification looks like; any other is a business id.
_IDENTITY_CODE = r"^\s*[0-9]{6}.[0-9]{3}.\s*$"
_NAMES = ("GivenName", "MiddleNames", "FamilyName")
_STREET = ("StreetName", "BuildingNumber", "StairwellIdentification", "Apartment")

_TEXT = pa.string()
_ADDRESS = pa.struct([(name, _TEXT) for name in (*_STREET, "PostalCode", "PostOffice")])
_TEXTS = ("CustomerIdentification", "CompanyName", *_NAMES, "TelephoneNumber", "EmailAddress", "Language")
_RECORD = [
    *((name, _TEXT) for name in _TEXTS),
    ("IsInformationRestricted", pa.bool_()),
    ("CustomerPostalAddress", _ADDRESS),
]
#: What is read of an answer; whatever else it has is passed over.
_ANSWER = pa.struct([("Header", HEADER), ("Transaction", pa.struct([*REASONS, *_RECORD]))])
_NAME = "RetrieveCustomerResponse"
#: An answer that says nothing. After it Arrow no longer takes a list for a structure.
_NOTHING: dict[str, Any] = {
    "Header": {},
    "Transaction": {"EventReasons": {"EventReason": [{}]}, "CustomerPostalAddress": {}},
}


def read_customers(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Read customers' records; a person's name and a street address are joined from their parts.

    Args:
        path: the file.
        schema: that of the ``datahub_customer`` feed.

    Raises:
        BadFileError: damaged, cut short, too long, no answer about a customer, or an error of the interface.
    """
    answers = pa.array(_read_answers(path), _ANSWER)
    transaction = answers.field("Transaction")
    refuse_errors(list_reasons(transaction), path.name)
    said = {name: transaction.field(name) for name, _ in _RECORD}
    address = said["CustomerPostalAddress"]
    who = said["CustomerIdentification"]
    person = pc.match_substring_regex(who, _IDENTITY_CODE)
    nobody = pa.scalar(None, _TEXT)
    columns = {
        "source": pa.repeat(_SOURCE, len(answers)),
        "received_at": parse_instant(answers.field("Header").field("Creation")),
        "identity_code": pc.if_else(person, who, nobody),
        "business_id": pc.if_else(person, nobody, who),
        "name": pc.coalesce(said["CompanyName"], reduce(_join, (said[name] for name in _NAMES))),
        "phone": said["TelephoneNumber"],
        "email": said["EmailAddress"],
        "street_address": reduce(_join, (address.field(name) for name in _STREET)),
        "postal_code": address.field("PostalCode"),
        "city": address.field("PostOffice"),
        "language": said["Language"],
        "information_restriction": said["IsInformationRestricted"],
    }
    rows = pa.record_batch([columns[name] for name in schema.names], schema=schema)
    yield rows.filter(reduce(pc.or_, (column.is_valid() for column in said.values())))


def _read_answers(path: Path) -> list[Any]:
    """Parse a file and check the form of each answer."""
    if path.stat().st_size > MOST_BYTES:
        problem = f"it is longer than {MOST_BYTES >> 20} MiB"
        raise BadFileError(problem, where=path.name, remedy="ask for fewer customers at a time")
    try:
        found = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_take_once)
    except (ValueError, RecursionError):
        problem = "it is no JSON, or is damaged or cut short"
        raise BadFileError(problem, where=path.name, remedy="fetch it again") from None
    answers = found if isinstance(found, list) else [found]
    for number, answer in enumerate(answers, 1):
        if not _has_form(answer):
            problem = "it has not the form of an answer about a customer"
            remedy = f"give what the interface answers as it comes, each a {_NAME}"
            raise BadFileError(problem, where=f"{path.name}, answer {number}", remedy=remedy)
    return [answer[_NAME] for answer in answers]


def _has_form(answer: Any) -> bool:
    try:
        [_, body] = pa.array([_NOTHING, answer[_NAME]], _ANSWER)
    except (KeyError, TypeError, ValueError, pa.ArrowException):
        return False
    return bool(body.is_valid and body["Transaction"].is_valid)


def _take_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field comes twice")
    return found


def _join(left: pa.Array, right: pa.Array) -> pa.Array:
    """Join two parts with a space; where one is missing, give the other."""
    return pc.coalesce(pc.binary_join_element_wise(left, right, " "), left, right)
