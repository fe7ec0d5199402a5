"""Answers of the Finnish Datahub's JSON interface as Arrow columns, whatever types their fields have.

An answer in its usual types is parsed straight to columns. One with others, such as a quantity that is a number or an
observation that is none, is parsed again, value by value: what is no text there is the text of a number as it stands,
or nothing. A field that comes twice is joined with ``+``, a form that none of them has.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.json as pj

from pipeline.errors import BadFileError

_NO_DATA = "RC-MDM-RMV-100"
_CODE_FORM = re.compile(r"[A-Z0-9-]{1,40}")
_TEXT = pa.string()
_BOM = b"\xef\xbb\xbf"
_OBSERVATION = pa.struct([(name, _TEXT) for name in ("PeriodStartTime", "Quantity", "Quality")])
_SERIES = pa.struct(
    [
        *((name, _TEXT) for name in ("MeteringPointEAN", "ResolutionDuration", "ProductType", "UnitType")),
        ("Observations", pa.list_(_OBSERVATION)),
    ]
)
_EVENTS = pa.struct([("EventReason", pa.list_(pa.struct([("EventReasonCode", _TEXT)])))])
#: Fields of a transaction in which an answer says why it has nothing, or what went wrong.
REASONS = [("ReasonCode", _TEXT), ("EventReasons", _EVENTS)]
_TRANSACTION = pa.struct([*REASONS, ("TimeSeries", pa.list_(_SERIES))])
#: The header of every answer.
HEADER = pa.struct([("RegistrationTimestamp", _TEXT), ("Creation", _TEXT)])
#: What is read of an answer; whatever else it has is passed over.
_ENVELOPE = pa.schema([("RetrieveTimeSeriesData", pa.struct([("Header", HEADER), ("Transaction", _TRANSACTION)]))])


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer says.

    Attributes:
        registered: when what it says was known, as it stands there: the registration time, else when it was made.
        reasons: codes of why there is no series, or of what went wrong.
        series: structs of its series, each with its observations; None where it says of none.
    """

    registered: str | None
    reasons: frozenset[str]
    series: pa.StructArray | None


def parse_answer(content: bytes) -> Answer:
    """Parse an answer, whole.

    Raises:
        ValueError: damaged, cut short, more than one, or not in the form of an answer.
    """
    content = content.removeprefix(_BOM)
    if not content.isascii():
        content.decode()  # the parser takes any bytes inside a text
    try:
        table = _parse_columns(content)
    except pa.ArrowInvalid:
        table = _parse_values(content)
    if len(table) != 1:
        raise ValueError("more than one answer, or none")
    (envelope,) = table.column(0).chunks
    header, transaction = envelope.flatten()
    if transaction.null_count:
        raise ValueError("not an answer")
    registered, created = (text.as_py() for (text,) in header.flatten())
    series = transaction.field("TimeSeries")
    return Answer(registered or created, list_reasons(transaction), None if series.null_count else series.flatten())


def list_reasons(transactions: pa.StructArray) -> frozenset[str]:
    """List the codes of why transactions have nothing, or of what went wrong."""
    reason, events = (transactions.field(name) for name, _ in REASONS)
    codes = events.field("EventReason").flatten().field("EventReasonCode")
    return frozenset(code for code in (*reason.to_pylist(), *codes.to_pylist()) if code)


def refuse_errors(reasons: frozenset[str], where: str) -> None:
    """Raise if an answer has any other reason than that there is no data.

    Raises:
        BadFileError: with the codes.
    """
    if errors := sorted(reasons - {_NO_DATA}):
        known = [code for code in errors if _CODE_FORM.fullmatch(code)]
        problem = f"it is an error of the interface ({', '.join(known) or 'with a code in another form'})"
        raise BadFileError(problem, where=where, remedy="ask again")


def _parse_columns(content: bytes) -> pa.Table:
    return pj.read_json(
        pa.BufferReader(content),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(content) + 1),
        parse_options=pj.ParseOptions(
            explicit_schema=_ENVELOPE, newlines_in_values=True, unexpected_field_behavior="ignore"
        ),
    )


def _parse_values(content: bytes) -> pa.Table:
    try:
        found = json.loads(
            content.decode(), parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_join_repeated
        )
    except RecursionError:
        raise ValueError("nested deeper than any answer") from None
    row = _fit(found, pa.struct(_ENVELOPE))
    return pa.Table.from_pylist([row], _ENVELOPE)


def _join_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for name in found:
            values = [value for key, value in pairs if key == name]
            if len(values) > 1:
                found[name] = "+".join(value if isinstance(value, str) else "" for value in values)
    return found


def _fit(value: Any, kind: pa.DataType) -> Any:
    """Take of a value what a type has room for.

    Raises:
        ValueError: it has another structure; an observation that has is nothing.
    """
    if value is None:
        return None
    if pa.types.is_struct(kind):
        if isinstance(value, dict):
            return {field.name: _fit(value.get(field.name), field.type) for field in kind}
        if kind == _OBSERVATION:
            return None
    elif pa.types.is_list(kind):
        if isinstance(value, list):
            return [_fit(item, kind.value_type) for item in value]
    else:
        return value if isinstance(value, str) else None
    raise ValueError("another structure than that of an answer")
