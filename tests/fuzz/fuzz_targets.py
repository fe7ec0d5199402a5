"""What is fuzzed: for every reader a function of bytes, which raises where the reader breaks its contract."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from fuzz_contract import (
    CALENDAR,
    OPTIONS,
    bounded,
    check_line,
    check_refusal,
    write_input,
)
from fuzz_lines import run_datahub_csv, run_mapped_csv
from fuzz_mutators import Change, Mutate, mutate_avro, mutate_in_place, mutate_pieces
from fuzz_oracles import list_records
from fuzz_structured import run_avro, run_datahub_json, run_datahub_xml, run_nem12, run_nem13, run_parquet

import schemas
from pipeline.errors import MeterveilError
from pipeline.feeds import read_feed, read_register
from pipeline.inspection import inspect_file
from pipeline.policy_file import load_policy
from pipeline.sources.base import ReadOptions
from pipeline.sources.mapping import load_mapping
from pipeline.sources.registry import plan_file, read_split
from schemas.reference import REFERENCE_FEEDS
from schemas.registers import REGISTERS

#: Inputs that every run begins with, in a folder for each target.
CORPUS = Path(__file__).resolve().parent / "corpus"
_SCHEMAS = Path(schemas.__file__).parent
#: Inputs that are in the product already.
EXAMPLES = {"policy": _SCHEMAS / "policies", "mapping": _SCHEMAS / "mappings"}


@dataclass(frozen=True, slots=True)
class Target:
    """A reader under test.

    Attributes:
        run: takes bytes; raises ``AssertionError``, or anything, where the contract is broken.
        mutate: makes other bytes of some, in ways that the format gives a meaning to.
        longest: bytes that are tried.
    """

    run: Callable[[bytes], None]
    mutate: Mutate
    longest: int = 2_048


# Reference feeds: the first byte chooses feed and format.

FEEDS = (
    *((name, suffix) for suffix in (".csv", ".parquet", ".avro") for name in REFERENCE_FEEDS),
    ("datahub_customer", ".json"),
)


def run_reference(data: bytes) -> None:
    (name, suffix), content = FEEDS[data[0] % len(FEEDS) if data else 0], data[1:]
    path = Path(write_input(content, f"{name}{suffix}"))
    aside: Counter[str] = Counter()
    try:
        with bounded():
            batches = list(read_register(name, path, aside)) if name in REGISTERS else list(read_feed(name, path))
    except MeterveilError as error:
        check_refusal(error, path.name, content, MeterveilError)
        return
    for batch in batches:
        batch.validate(full=True)
        assert batch.schema.equals(REFERENCE_FEEDS[name])
    found = sum(batch.num_rows for batch in batches) + sum(aside.values())
    assert found == _count_rows(content, suffix)


def _count_rows(content: bytes, suffix: str) -> int:
    if suffix == ".parquet":
        return int(pq.read_metadata(io.BytesIO(content)).num_rows)
    if suffix == ".avro":
        return len(list_records(content))
    if suffix == ".json":
        answers = json.loads(content.decode("utf-8-sig"))
        return sum(map(_says_something, answers if isinstance(answers, list) else [answers]))
    rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    return sum(1 for row in rows if row) - 1


def _says_something(answer: Any) -> bool:
    record = answer["RetrieveCustomerResponse"]["Transaction"]
    texts = ("Identification", "PostalAddress")
    names = (*(f"Customer{text}" for text in texts), "CompanyName", "GivenName", "MiddleNames", "FamilyName")
    others = ("TelephoneNumber", "EmailAddress", "Language", "IsInformationRestricted")
    return any(record.get(name) is not None for name in (*names, *others))


# Options: what a person writes.


def run_policy(content: bytes) -> None:
    path = write_input(content, "policy.yaml")
    try:
        with bounded():
            load_policy(path)
    except MeterveilError as error:
        check_line(error)


_SAMPLE = """id;time;end;value;unit;quality;registered;step;kwh
643006966022791278;2026-03-29T02:00:00Z;2026-03-29T03:00:00Z;1,5;kWh;A;2026-04-01T00:00:00Z;PT1H;12
643006966022791278;2026-03-29T03:00:00Z;2026-03-29T04:00:00Z;2,5;kWh;E;2026-04-01T00:00:00Z;PT1H;14
643006966022791278;2026-10-25T03:30;2026-10-25T03:45;2,5;Wh;E;2026-04-01T00:00:00Z;PT15M;1
"""


def run_mapping(content: bytes) -> None:
    path = write_input(content, "mapping.yaml")
    try:
        with bounded():
            mapping = load_mapping(path)
    except MeterveilError as error:
        check_line(error)
        return
    lines = _SAMPLE.replace(";", mapping.delimiter) if mapping.delimiter.isascii() else _SAMPLE
    sample = write_input(lines.encode(mapping.encoding, "replace"), "20270101T000000Z.csv")
    try:
        with bounded():
            _read_all(sample, replace(OPTIONS, format="mapped-csv", mapping=path))
    except MeterveilError as error:
        check_line(error)


def _read_all(path: str, options: ReadOptions) -> None:
    for split in plan_file(path, options):
        for delivery in read_split(split, options):
            delivery.series.validate(full=True)
            delivery.rejected.validate(full=True)


_NAMES = (
    "input",
    "20270101T000000Z.csv",
    "sites.csv",
    "contracts.parquet",
    "customers.avro",
    "population_register.csv",
)


def run_inspect(data: bytes) -> None:
    name, content = _NAMES[data[0] % len(_NAMES) if data else 0], data[1:]
    path = write_input(content, name)
    options = ReadOptions(registered_at="file-name") if name.startswith("2") else ReadOptions()
    with bounded():
        found = inspect_file(path, options, CALENDAR, identifiers=True)
    assert json.dumps(found)
    assert "nobody foresaw" not in (found["problem"] or ""), found["problem"]


def _mutate_reference(data: bytes, longest: int, seed: int, change: Change) -> bytes:
    suffix = FEEDS[data[0] % len(FEEDS)][1] if data else ""
    return {".csv": _LINES, ".avro": mutate_avro}.get(suffix, mutate_in_place)(data, longest, seed, change)


_LINES = mutate_pieces(rb"\n|[;,\t]")
TARGETS: dict[str, Target] = {
    "avro": Target(run_avro, mutate_avro),
    "parquet": Target(run_parquet, mutate_in_place, longest=8_192),
    "datahub-csv": Target(run_datahub_csv, _LINES),
    "datahub-xml": Target(run_datahub_xml, mutate_pieces(rb"(?=<)|(?<=>)")),
    "datahub-json": Target(run_datahub_json, mutate_pieces(rb"(?<=[,{\[:])|(?=[}\]])")),
    "nem12": Target(run_nem12, _LINES),
    "nem13": Target(run_nem13, _LINES),
    "mapped-csv": Target(run_mapped_csv, _LINES),
    "mapping": Target(run_mapping, mutate_pieces(rb"\n|[ :]")),
    "policy": Target(run_policy, mutate_pieces(rb"\n|[ :]"), longest=16_384),
    "reference": Target(run_reference, _mutate_reference, longest=8_192),
    "inspect": Target(run_inspect, mutate_pieces(rb"\n|[;,<>]")),
}
