"""Small files of every format to begin with: what the generator makes, with every fault of rows, cut to a few lines.

Run as a program, it writes those of today's generator to ``corpus/``, beside what is there.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import yaml
from fuzz_contract import POINT
from fuzz_lines import MAPPINGS
from fuzz_targets import CORPUS, FEEDS
from source_cases import avro_schema, reading_records, series_records

from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FORMATS, ROW_FAULTS, FleetOptions
from schemas.registers import REGISTERS

_FLEET = FleetOptions(
    feeds=frozenset(REGISTERS), points=110, days=1, start=date(2026, 3, 29), faults=frozenset(ROW_FAULTS)
)
_LINES = 6
_MAPPED = (
    f"""id,from,to,kwh
{POINT},2026-03-29T02:00:00Z,2026-03-29T03:00:00Z,1.5
{POINT},2026-03-29T03:00:00Z,2026-03-29T03:15:00Z,0.1234567
"{POINT}",2026-03-29T03:15:00+02:00,2026-03-29T03:30:00+02:00,-1e-3
""",
    f"""id;product;time;step;value;unit;quality;registered
{POINT};0;2026-10-25 03:00;PT1H;1,5;kWh;A;2026-11-01 00:00
{POINT};0;2026-10-25 03:00;PT1H;2,5;Wh;E;2026-11-01 00:00
{POINT};;2026-03-29 03:30;PT15M;;kWh;N;2026-04-01T00:00:00Z
""",
    f"id\ttime\tvalue\tquality\nä{POINT}\t2026-03-30\t0.002\tA\n{POINT}\t2026-03-31 00:00:00\t0.002\tE\n",
    f"""place;time;kwh;meter
{POINT};2026-10-25T03:00+03:00;999999,5;1
{POINT};2026-10-25T03:00+02:00;1,25;1
{POINT};2026-10-25 04:00;7;1
{POINT};2026-10-25 05:00;0;2
{POINT};2026-10-25 06:00;800;2
""",
    f"""place,time,mwh,quality
{POINT},2026-10-25T03:00Z,99999999.5,A
{POINT},2026-10-25T04:00Z,1.25,E
{POINT},2026-10-25T05:00Z,,N
""",
)


def make_lines(kind: str | int) -> bytes:
    """Make a small file of lines, of the portal or of a mapping by its number, of which each can be read."""
    if isinstance(kind, int):
        return _MAPPED[kind].encode()
    lines = [f"{POINT};8716867000030;PT1H;kWh;BN01;2026-03-29T0{hour}:00:00Z;{hour},25;OK" for hour in range(3)]
    header = "MeteringPointGSRN;Product Type;Resolution;Unit Type;Reading Type;Start Time;Quantity;Quality"
    return "\n".join([header, *lines, ""]).encode()


def make_seeds() -> dict[str, list[bytes]]:
    """Make the first inputs of every target."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        made = {kind: list(_generate(folder / kind, kind)) for kind in FORMATS}
        reference = {path.stem: path.read_bytes() for path in sorted((folder / "parquet" / "reference").iterdir())}
    portal = [_cut_lines(text) for text in made["datahub-csv"]]
    seeds = {
        "avro": list(_make_avro()),
        "parquet": list(_make_parquet()),
        "datahub-csv": [*portal, *_retell(portal[0])],
        "datahub-xml": [_cut_message(text) for text in made["datahub-xml"][:3]],
        "datahub-json": [_cut_answer(text) for text in made["datahub-json"][:3]],
        "nem12": list(_make_nem12()),
        "nem13": list(_make_nem13()),
        "mapped-csv": [bytes([number]) + text.encode() for number, text in enumerate(_MAPPED)],
        "mapping": [yaml.safe_dump(mapping).encode() for mapping in MAPPINGS],
        "reference": list(_make_reference(reference)),
    }
    texts = [seeds[name][0] for name in ("avro", "datahub-csv", "datahub-xml", "datahub-json", "nem12", "nem13")]
    seeds["inspect"] = [b"\0" + text for text in texts] + [b"\1" + seeds["datahub-csv"][0]]
    seeds["inspect"].append(b"\2" + next(text[1:] for text in seeds["reference"] if text[0] == 0))
    return seeds


def _generate(folder: Path, kind: str) -> Iterator[bytes]:
    generate_fleet(replace(_FLEET, format=kind), folder)
    for path in sorted((folder / "readings").iterdir()):
        yield path.read_bytes()


def _cut_lines(text: bytes) -> bytes:
    lines = text.splitlines(keepends=True)
    step = max(1, len(lines) // _LINES)
    return b"".join([lines[0], *lines[1::step][:_LINES]])


def _retell(text: bytes) -> Iterator[bytes]:
    """The portal's words of another language, and what a spreadsheet makes of a file."""
    rows = text.decode("utf-8-sig").partition("\n")[2]
    finnish = (
        f"Mittauspisteen tunnus;Tuotteen tyyppi;Resoluutio;Yksikkötyyppi;Lukeman tyyppi;Alkuaika;Määrä;Laatu\n{rows}"
    )
    yield finnish.encode("latin-1")
    mangled = re.sub("^[0-9]{18}", "6,43007E+17", finnish, count=1, flags=re.MULTILINE)
    yield mangled.replace("\n", "\r\n").encode("utf-8-sig")


def _cut_message(text: bytes) -> bytes:
    """Leave two observations of each series, and two series."""
    text = re.sub(
        rb"((?:<(\w+:)?OBS>.*?</(?:\w+:)?OBS>\s*){2}).*?(?=\s*</(\w+:)?Transaction>)", rb"\1", text, flags=re.DOTALL
    )
    begins = [found.start() for found in re.finditer(rb"<(?:\w+:)?Transaction>", text)]
    end = text.rfind(b"</", 0, text.rfind(b"Transaction>"))
    end = text.find(b">", end) + 1
    return text[: begins[2]] + text[end:] if len(begins) > 2 else text


def _cut_answer(text: bytes) -> bytes:
    """Leave two observations of each series, and two series."""
    answer = json.loads(text)
    transaction = answer["RetrieveTimeSeriesData"]["Transaction"]
    if "TimeSeries" in transaction:
        transaction["TimeSeries"] = transaction["TimeSeries"][:2]
        for series in transaction["TimeSeries"]:
            series["Observations"] = series["Observations"][:2]
    return json.dumps(answer, indent=0).encode()


def _make_nem12() -> Iterator[bytes]:
    """Streams of hours and of half hours, with qualities of parts of a day, and of what is no energy."""
    hours = [f"{slot / 8:.3f}" for slot in range(24)]
    halves = [f"{slot}" for slot in range(48)]
    updated = "20260410120000"
    yield "\n".join(
        (
            "100,NEM12,202604101200,MDP1,Retailer1",
            "200,NEM1201009,E1Q1,1,E1,N1,METER1,kWh,60,",
            f"300,20260329,{','.join(hours)},A,,,{updated},{updated}",
            f"300,20260330,{','.join(hours)},V,,,{updated},",
            "400,1,12,F16,79,",
            "400,13,24,E52,,",
            "500,O,S01009,20260330120000,",
            "200,NEM1201009,E1Q1,2,Q1,N1,METER1,kVArh,60,",
            f"300,20260329,{','.join(hours)},N,,,,",
            "900\n",
        )
    ).encode()
    yield "\r\n".join(
        (
            "100,NEM12,202604101200,MDP1,Retailer1",
            "200,NEM1201010,,1,,,,Wh,30,",
            f"300,20260329,{','.join(halves)},S14",
            "200,NEM1201010,V1,1,V1,,,V,30,",
            f"300,20260329,{','.join(halves)},A,,,{updated},{updated}",
            "900",
        )
    ).encode()


def _make_nem13() -> Iterator[bytes]:
    """Reads a day, an hour and months apart, of active and reactive energy, and of what is no energy."""
    updated = "20260410120000"
    yield "\n".join(
        (
            "100,NEM13,202604101200,MDP1,Retailer1",
            f"250,NEM1301009,11,1,11,11,METER1,E,00012.5,20260329000000,A,,,00020.0,20260330000000,A,,,7.5,kWh,,{updated},",
            f"550,N,,A,S01009\n250,NEM1301009,11,2,Q1,Q1,METER1,E,1,20260329000000,A,,,2,20260329010000,E64,77,,1,kVArh,,,{updated}",
            f'250,NEM1301010,11,1,41,41,METER2,E,888,20260108103055,S14,79,"Dog, gate",999,20260408000000,A,,,111,kWh,,{updated},',
            "900\n",
        )
    ).encode()
    yield "\r\n".join(
        (
            "100,NEM13,202604101200,MDP1,Retailer1",
            "250,NEM1301011,,,,,,,,202603290000,N,,,,202603290015,A,,,0,MWh",
            f"250,NEM1301012,V1,1,V1,,,E,1,20260329000000,A,,,2,20260330000000,A,,,1,V,,{updated},{updated},",
            "900",
        )
    ).encode()


def _make_avro() -> Iterator[bytes]:
    for name, records in (("meter_series", series_records(3, 4)), ("meter_reading", reading_records(8))):
        for codec in ("null", "zstandard") if name == "meter_series" else ("deflate", "snappy"):
            file = io.BytesIO()
            fastavro.writer(file, avro_schema(name), records, codec=codec, sync_interval=90, sync_marker=bytes(16))
            yield file.getvalue()


def _make_parquet() -> Iterator[bytes]:
    for records in (series_records(3, 4), reading_records(8)):
        table = pa.Table.from_pylist(records)
        for name in ("start", "registered_at"):
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, table[name].cast(pa.timestamp("us", "UTC")))
        for options in (
            {"compression": "none"},
            {"compression": "zstd", "data_page_version": "2.0", "row_group_size": 3},
        ):
            file = io.BytesIO()
            pq.write_table(table, file, store_schema=False, **options)
            yield file.getvalue()


def _make_reference(feeds: dict[str, bytes]) -> Iterator[bytes]:
    """The first rows of each feed as CSV, and of some as Parquet and Avro."""
    writers = {".csv": _write_csv, ".parquet": _write_parquet, ".avro": _write_avro, ".json": _write_answers}
    for number, (name, suffix) in enumerate(FEEDS):
        if name in feeds and (suffix in {".csv", ".json"} or name in ("contracts", "credit_register")):
            yield bytes([number]) + writers[suffix](name, pq.read_table(io.BytesIO(feeds[name])).slice(0, 3))


def _write_answers(name: str, table: pa.Table) -> bytes:
    """Write rows as answers of the Datahub's interface, the first of them about nobody."""
    del name
    answers: list[dict[str, Any]] = [{}]
    for row in table.to_pylist():
        street, _, rest = (row["street_address"] or "").partition(" ")
        given, _, family = row["name"].partition(" ")
        who = {"GivenName": given, "FamilyName": family} if row["identity_code"] else {"CompanyName": row["name"]}
        answers.append(
            {
                "CustomerIdentification": row["identity_code"] or row["business_id"],
                **who,
                "TelephoneNumber": row["phone"],
                "IsInformationRestricted": row["information_restriction"],
                "CustomerPostalAddress": {
                    "StreetName": street,
                    "BuildingNumber": rest,
                    "PostalCode": row["postal_code"],
                },
            }
        )
    header = {"Creation": "2026-03-30T04:00:00.250Z"}
    envelopes = [{"RetrieveCustomerResponse": {"Header": header, "Transaction": answer}} for answer in answers]
    return json.dumps(envelopes).encode()


def _write_csv(name: str, table: pa.Table) -> bytes:
    del name
    file = io.BytesIO()
    pv.write_csv(table, file)
    return file.getvalue()


def _write_parquet(name: str, table: pa.Table) -> bytes:
    del name
    file = io.BytesIO()
    pq.write_table(table, file, compression="none", store_schema=False)
    return file.getvalue()


def _write_avro(name: str, table: pa.Table) -> bytes:
    kinds = {
        "string": "string",
        "int32": "int",
        "bool": "boolean",
        "date32[day]": {"type": "int", "logicalType": "date"},
    }
    instant = {"type": "long", "logicalType": "timestamp-micros"}
    fields = [{"name": field.name, "type": ["null", kinds.get(str(field.type), instant)]} for field in table.schema]
    file = io.BytesIO()
    schema = {"type": "record", "name": name, "fields": fields}
    fastavro.writer(file, schema, table.to_pylist(), sync_marker=bytes(16))
    return file.getvalue()


if __name__ == "__main__":
    for target, inputs in make_seeds().items():
        for content in inputs:
            path = CORPUS / target / hashlib.sha256(content).hexdigest()[:12]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
