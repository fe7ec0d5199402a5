"""What stands in a file, told by plain Python, line by line or element by element, for comparison with a reader.

An oracle says how many readings (or lines to set aside) a file holds. A reading that came out is justified by the text
that it came from; a text in its most usual form must come out.
"""

import csv
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from io import BytesIO
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET
from xml.parsers import expat

import fastavro
from fuzz_contract import Outcome, Reading

from pipeline.sources.avro_blocks import read_header, unpack_blocks
from schemas.series import ACTIVE_ENERGY, MAX_ENERGY

#: Units of energy, as powers of ten of kWh.
UNITS = {"wh": -3, "kwh": 0, "mwh": 3, "gwh": 6}
_EXACT = Context(prec=200)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RESOLUTION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", re.IGNORECASE)


def milliwatt_hours(text: str, unit: str) -> int | None:
    """Read decimal text with a point, or None."""
    try:
        amount = Decimal(text)
        units = _EXACT.scaleb(amount, 6 + UNITS[unit.lower()]).to_integral_value(ROUND_HALF_EVEN, _EXACT)
        return int(units) if abs(units) <= MAX_ENERGY else None
    except (InvalidOperation, KeyError, OverflowError, ValueError):
        return None


def microseconds(text: str) -> int | None:
    """Read an ISO 8601 time with its offset, or None."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else (moment - _EPOCH) // timedelta(microseconds=1)


def seconds(text: str) -> int | None:
    """Read an ISO 8601 duration, or None."""
    found = _RESOLUTION.fullmatch(text)
    if not found or not any(found.groups()):
        return None
    return sum(int(part or 0) * size for part, size in zip(found.groups(), (86_400, 3_600, 60, 1), strict=True))


def canonical(text: str) -> str:
    """Give an id as it is compared."""
    return unicodedata.normalize("NFC", text.strip()).strip().upper()


class Line(NamedTuple):
    """A line of a delimited file that holds something.

    Attributes:
        row: its number, the header being 1.
        fields: None where it has another number of fields than the header, or broken quotes.
        clean: all its bytes are of the encoding.
    """

    row: int
    fields: list[str] | None
    clean: bool


def list_lines(content: bytes, encoding: str, delimiter: str, width: int, *, must_end: bool) -> list[Line]:
    """List the lines below the header that hold something; the last one holds nothing readable if it must end."""
    text = content.decode(encoding, "replace").replace("\r\n", "\n").replace("\r", " ")
    lines = []
    texts = text.split("\n")
    for row, marked in enumerate(texts[1:], 2):
        line = marked.lstrip("\ufeff")
        fields = _cut(line, delimiter)
        if must_end and row == len(texts):
            if line.encode().strip():
                lines.append(Line(row, None, clean=False))
        elif fields is None or len(fields) != width:
            if line or width == 1:
                lines.append(Line(row, None, clean=False))
        elif any(fields):
            lines.append(Line(row, fields, clean="\ufffd" not in line))
    return lines


def _cut(line: str, delimiter: str) -> list[str] | None:
    mark = re.escape(delimiter)
    if '"' not in line:
        return line.split(delimiter)
    field = rf'(?:"(?:[^"]|"")*"|[^"{mark}]*)'
    if not re.fullmatch(rf"{field}(?:{mark}{field})*", line):
        return None
    return next(csv.reader([line], delimiter=delimiter, quotechar='"', doublequote=True), [""])


def check_lines(
    outcome: Outcome,
    lines: Sequence[Line],
    justify: Callable[[list[str], Reading], bool],
    is_usual: Callable[[list[str]], bool],
) -> None:
    """Compare what a reader made of lines, one reading each, with the lines.

    Args:
        outcome: what the reader made.
        lines: those that hold something.
        justify: whether a reading is what the fields say.
        is_usual: whether fields are in a form that must be accepted.
    """
    by_row = {line.row: line for line in lines}
    rows = [reading.row for reading in outcome.readings] + [rejected["row"] for rejected in outcome.rejected]
    assert sorted(rows) == sorted(by_row), "each line is a reading, accepted or set aside, once"
    for reading in outcome.readings:
        fields = by_row[reading.row].fields
        assert fields is not None
        assert by_row[reading.row].clean
        assert justify(fields, reading), (fields, reading)
    accepted = {reading.row for reading in outcome.readings}
    for line in lines:
        assert line.row in accepted or not line.clean or not is_usual(line.fields or []), line


class Observation(NamedTuple):
    """An observation of an E66 message, with what its series says; a field that is not there is None."""

    point: str | None
    product: str | None
    unit: str | None
    resolution: str | None
    start: str | None
    registered: str | None
    sequence: str | None
    quantity: str | None
    quality: str | None
    missing: str | None


def list_observations(content: bytes) -> list[Observation]:
    """List the observations of all messages, in the order of the file. Fields that come twice are joined by ``+``."""
    # Names as they stand: ElementTree's own parser refuses namespaces with signs that it needs for itself.
    tree, parser = ET.TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler = lambda name, _: tree.start(name, {})
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.data
    parser.Parse(content, True)
    root = tree.close()
    found: list[Observation] = []
    for message in root.iter():
        if _local(message) != "EnergyTimeSeries":
            continue
        registered = None
        for part in message.iter():
            if _local(part) == "Header":
                registered = _join([registered, _text(part, "RegistrationTimestamp")])
        found += _list_of_message(message, registered)
    return found


def _list_of_message(message: Any, registered: str | None) -> Iterator[Observation]:
    for series in message:
        if _local(series) != "Transaction":
            continue
        inside = list(series.iter())
        head = [
            _join([_text(holder, name) for holder in inside if _local(holder) == parent])
            for parent, name in (
                ("MeteringPointUsedDomainLocation", "Identification"),
                ("ProductIncludedProductCharacteristic", "Identification"),
                ("ProductIncludedProductCharacteristic", "UnitType"),
                ("ObservationPeriodTimeSeriesPeriod", "ResolutionDuration"),
                ("ObservationPeriodTimeSeriesPeriod", "Start"),
            )
        ]
        for observation in series:
            if _local(observation) == "OBS":
                values = [child for child in observation if _local(child) == "EOBS"]
                fields = [_join([_text(value, name) for value in values]) for name in ("QTY", "QQ", "QM")]
                yield Observation(*head, registered, _text(observation, "SEQ"), *fields)


def _local(element: Any) -> str:
    return str(element.tag).rpartition(":")[2]


def _text(parent: Any, name: str) -> str | None:
    return _join([(child.text or "").strip() for child in parent if _local(child) == name])


def _join(texts: Sequence[str | None]) -> str | None:
    there = [text for text in texts if text is not None]
    return "+".join(there) if there else None


class DayLine(NamedTuple):
    """A 300 record of NEM12 that can be read."""

    row: int
    stream: list[str]
    date: str
    values: list[str]
    quality: str


def list_days(content: bytes) -> tuple[list[DayLine], list[int]]:
    """List the days of a NEM12 file, and the rows of lines that hold nothing readable where something must be."""
    days: list[DayLine] = []
    broken: list[int] = []
    stream: list[str] = []
    day: DayLine | None = None
    follows = False
    for row, line in enumerate(_plain_lines(content), 1):
        if not line.strip(","):
            continue
        fields = [field.strip() for field in line.split(",")]
        kind = line.split(",")[0]
        if kind in ("200", "900"):
            stream = fields if kind == "200" else []
        elif kind == "300":
            day = _read_day(row, stream, fields, line.split(","))
            (days.append(day) if day else broken.append(row))
        elif kind == "400":
            if not follows or (day and not _is_event(fields, len(day.values))):
                broken.append(row)
        elif kind not in ("100", "500"):
            broken.append(row)
        follows = kind == "300" or (kind == "400" and follows)
    return days, broken


class ReadLine(NamedTuple):
    """A 250 record of NEM13 that can be read: its fields, empty where the line ends before them."""

    row: int
    fields: list[str]


def list_reads(content: bytes) -> tuple[list[ReadLine], list[int]]:
    """List the records of a NEM13 file, and the rows of lines that hold nothing readable where something must be."""
    reads: list[ReadLine] = []
    broken: list[int] = []
    for row, line in enumerate(_plain_lines(content), 1):
        if not line.strip(","):
            continue
        kind, *rest = line.split(",")
        fields = [kind, *(field.strip() for field in rest)]
        if kind == "250" and len(fields) >= 20 and (len(fields) <= 23 or fields[23:] == [""]):
            reads.append(ReadLine(row, fields + [""] * (23 - len(fields))))
        elif kind not in ("100", "550", "900"):
            broken.append(row)
    return reads, broken


def _plain_lines(content: bytes) -> list[str]:
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", " ")
    return re.sub(r'(?<=,)"[^"\n]*"', lambda quoted: quoted.group()[1:-1].replace(",", " "), text).split("\n")


def _read_day(row: int, stream: list[str], fields: list[str], values: list[str]) -> DayLine | None:
    minutes = stream[8] if len(stream) > 8 else ""
    if not re.fullmatch("[0-9]{1,2}", minutes) or not int(minutes) or 60 % int(minutes):
        return None
    length = 1_440 // int(minutes)
    spare = len(fields) - (length + 7)
    quality = fields[2 + length] if len(fields) > 2 + length else ""
    if spare and not (-5 < spare <= 1 and re.match("[A-Za-z]", quality)):
        return None
    return DayLine(row, stream, fields[1], values[2 : 2 + length], quality)


def _is_event(fields: list[str], length: int) -> bool:
    first, last = (fields[at] if len(fields) > at else "" for at in (1, 2))
    whole = all(re.fullmatch("[0-9]{1,3}", text) for text in (first, last))
    return whole and 1 <= int(first) <= int(last) <= length


def list_records(content: bytes) -> list[Any]:
    """List the records of an Avro file, one by one to the end of what its blocks hold."""
    header = read_header(content, "")
    blocks = unpack_blocks(content, header, "", header.length, len(content), 1)
    held = BytesIO(b"".join(block.content for block in blocks))
    schema = fastavro.parse_schema(json.loads(json.dumps(header.schema).replace("logicalType", "meant")))
    records = []
    while held.tell() < len(held.getbuffer()):
        # What no reading is made of may be damaged.
        records.append(fastavro.schemaless_reader(held, schema, None, handle_unicode_errors="replace"))
    return records


def name_product(text: str) -> str:
    """Give the product that a text names."""
    return ACTIVE_ENERGY if text.strip() in ("", "0") else text.strip()
