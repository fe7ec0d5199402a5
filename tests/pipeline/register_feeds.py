"""A reference folder with a row of every register: what tests of registers share."""

import datetime as dt
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from pipeline.fleet.writers import load_avro_schema
from schemas.reference import CUSTOMERS_SCHEMA, SITES_SCHEMA
from schemas.registers import REGISTERS

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HOME = {"street_address": "Katu 1", "postal_code": "00100", "city": "HELSINKI"}
CODE = "010190-900P"
CUSTOMERS = [
    {"customer_id": "C1", "kind": "person", "name": "Aino", "identity_code": CODE, **HOME},
    {"customer_id": "C2", "kind": "person", "name": "Otso", "phone": "040 1234567"},
    {"customer_id": "C3", "kind": "company", "business_id": "2077474-0", "name": "Firma Oy"},
]
#: A row of every register, in which every column has a value that its type allows.
SAMPLES: dict[str, list[dict[str, Any]]] = {
    "campaign": [{"phone": "0401234567", "kind": "raffle", "campaign": "c", "agreed_purpose": "p", "email": "ä@b"}],
    "population_register": [
        {"identity_code": CODE, "deceased_on": AT.date(), "information_restriction": True, "language": "sv"}
    ],
    "credit_register": [{"business_id": "2077474-0", "defaults": 2, "latest_default_on": AT.date()}],
    "telephone_directory": [{"name": "aino", "phone": "050 1", **HOME}],
    "marketing_ban": [{"phone": "0401234567", "channel": "telephone", "list_version": AT.date()}],
    "payment": [
        {"customer_id": "c1 ", "kind": "invoice", "invoice_id": "L1", "occurred_on": AT.date(), "amount_cents": 1 << 40}
    ],
    "service_use": [{"customer_id": "C2", "service": "chat", "occurred_at": AT}],
    "consent": [{"customer_id": "C2", "purpose": "p", "channel": "any", "action": "objected", "occurred_at": AT}],
    "authority": [{"business_id": "2077474-0", "name": "Firma Oyj"}],
    "company": [{"phone": "0401234567", "name": "Otso", "language": "en"}],
    "public_source": [{"identity_code": CODE, "email": "c@d"}],
    "datahub_customer": [{"business_id": "2077474-0", "phone": "+358 9 1", "information_restriction": False}],
}


def write_feeds(
    folder: Path, feeds: dict[str, list[dict[str, Any]]], suffix: str = ".parquet", customers: Any = CUSTOMERS
) -> Path:
    folder.mkdir()
    pq.write_table(SITES_SCHEMA.empty_table(), folder / "sites.parquet")
    people = [{"information_restriction": False, **customer} for customer in customers]
    pq.write_table(pa.Table.from_pylist(people, schema=CUSTOMERS_SCHEMA), folder / "customers.parquet")
    for name, rows in feeds.items():
        write_register(folder, name, rows, suffix)
    return folder


def write_register(folder: Path, name: str, rows: list[dict[str, Any]], suffix: str = ".parquet") -> None:
    schema = pa.schema([field.with_nullable(True) for field in REGISTERS[name].schema])
    table = pa.Table.from_pylist([{"source": "S", "received_at": AT, **row} for row in rows], schema=schema)
    path = folder / f"{name}{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, path)
    elif suffix == ".csv":
        pv.write_csv(table, path)
    else:
        with path.open("wb") as file:
            fastavro.writer(file, load_avro_schema(name), table.to_pylist())
