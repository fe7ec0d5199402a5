"""Idiomatic Beam, row by row: a dict for each reading, ``GroupByKey`` by key, on the same in-process runner as ours.

Its files are not sorted: Beam's own writer has no way to.
"""

from collections.abc import Iterable
from datetime import date, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.parquetio import ReadAllFromParquet, ReadFromParquet, WriteToParquet
from apache_beam.pvalue import AsDict
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from benchmarks.peers.harness import STATUS_WORDS, TIME_ZONE, Job, make_pseudonyms, run_peer

Row = dict[str, Any]
_TIME = pa.timestamp("us", "UTC")
_TEXT_AND_TIME = [
    ("product", pa.string()),
    ("direction", pa.string()),
    ("resolution_s", pa.int32()),
    ("local_date", pa.date32()),
    ("start", _TIME),
    ("energy", pa.int64()),
    ("status", pa.string()),
]
_IDENTIFIED = pa.schema(
    [
        ("metering_point_id", pa.string()),
        *_TEXT_AND_TIME,
        ("flags", pa.int32()),
        ("registered_at", _TIME),
        ("rival_registered_at", _TIME),
        ("daily_rival_registered_at", _TIME),
        ("customer_id", pa.string()),
        ("contract_id", pa.string()),
    ]
)
_PSEUDONYMISED = pa.schema(
    [("metering_point", pa.binary(16)), ("site", pa.binary(16)), ("customer", pa.binary(16)), *_TEXT_AND_TIME]
)
#: Column of the pseudonymised dataset to what it is made from, and of which entity that is.
_PSEUDONYMS = {
    "metering_point": ("metering_point_id", "metering_point"),
    "site": ("site_id", "usage_site"),
    "customer": ("customer_id", "customer"),
}


def work(job: Job) -> None:
    """Build the graph and run it."""
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        sites = (
            pipeline
            | "Sites" >> ReadFromParquet(job.sites, columns=["metering_point_id", "site_id", "direction"])
            | "SiteByPoint" >> beam.Map(lambda row: (row["metering_point_id"], row))
        )
        contracts = (
            pipeline
            | "Contracts" >> ReadFromParquet(job.contracts)
            | "ContractByPoint" >> beam.Map(lambda row: (row["metering_point_id"], row))
            | "ContractsOfPoint" >> beam.GroupByKey()
        )
        joined = (
            pipeline
            | "Readings" >> beam.Create([str(job.source / "readings" / "*.parquet")])
            | "ReadReadings" >> ReadAllFromParquet()
            | "KeyReadings" >> beam.Map(lambda row: (_key_of(row), row))
            | "GroupByKey" >> beam.GroupByKey()
            | "TakeLatest" >> beam.Map(_take_latest)
            | "Join" >> beam.Map(_join, AsDict(sites), AsDict(contracts))
        )
        veiled = joined | "Pseudonymise" >> beam.Map(_pseudonymise, job.subkeys)
        for name, rows, schema, folder in (
            ("Identified", joined, _IDENTIFIED, job.identified),
            ("Pseudonymised", veiled, _PSEUDONYMISED, job.pseudonymised),
        ):
            _ = (
                rows
                | f"{name}Columns" >> beam.Map(_select, tuple(schema.names))
                | f"{name}Write"
                >> WriteToParquet(str(folder / "readings"), schema, codec="zstd", file_name_suffix=".parquet")
            )


def _key_of(row: Row) -> tuple[str, str, int, float]:
    return row["metering_point_id"], row["product"], row["resolution_s"], row["start"].timestamp()


def _take_latest(group: tuple[Any, Iterable[Row]]) -> Row:
    _, rows = group
    return max(rows, key=lambda row: (row["registered_at"], row["status"], row["energy"] or 0))


def _join(row: Row, sites: dict[str, Row], contracts: dict[str, Iterable[Row]]) -> Row:
    """Add site and contract by the local date of the reading."""
    point, local_date = row["metering_point_id"], _find_local_date(row["start"])
    covering = [
        contract
        for contract in contracts.get(point, ())
        if contract["valid_from"] <= local_date and (contract["valid_to"] is None or local_date < contract["valid_to"])
    ]
    contract = max(covering, key=lambda contract: (contract["signed_at"], contract["contract_id"]), default={})
    site = sites.get(point, {})
    return {
        **row,
        "status": STATUS_WORDS[row["status"]],
        "local_date": local_date,
        "site_id": site.get("site_id", point),
        "direction": site.get("direction", "consumption"),
        "customer_id": contract.get("customer_id"),
        "contract_id": contract.get("contract_id"),
        "flags": 0,
        "rival_registered_at": None,
        "daily_rival_registered_at": None,
    }


def _pseudonymise(row: Row, subkeys: dict[str, bytes]) -> Row:
    made = {
        name: None if row[source] is None else _veil(subkeys[entity], row[source])
        for name, (source, entity) in _PSEUDONYMS.items()
    }
    return {**row, **made}


def _select(row: Row, names: tuple[str, ...]) -> Row:
    return {name: row[name] for name in names}


@lru_cache(maxsize=1 << 20)
def _veil(subkey: bytes, text: str) -> bytes:
    return make_pseudonyms(subkey, [text])[0]


@lru_cache(maxsize=1 << 16)
def _find_local_date(start: datetime) -> date:
    return start.astimezone(ZoneInfo(TIME_ZONE)).date()


if __name__ == "__main__":
    run_peer(work)
