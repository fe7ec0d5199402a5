"""Reference feeds: the files of a reference folder as Arrow batches, checked against their schema, ids canonical."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from pipeline.errors import BadFileError, MeterveilError
from pipeline.files import map_file
from pipeline.sources.avro_blocks import pack_single, read_header, unpack_blocks
from pipeline.sources.datahub_customers import read_customers
from pipeline.sources.parquet_footer import check_pages, read_groups
from schemas.reference import REFERENCE_FEEDS
from schemas.registers import REGISTERS
from transforms.matching import canonical_text, check_identity_codes
from transforms.series import canonical_ids

#: Few enough for the processor's caches while the rows are cut into buckets, which takes four times as long with more.
_BATCH_ROWS = 100_000
_CSV_BLOCK_BYTES = 8 << 20
#: Of the names of all columns.
_CSV_HEADER_BYTES = 64 << 10
_AVRO_BLOCK_BYTES = 8 << 20
_AVRO_KINDS = ("null", "boolean", "int", "long", "float", "double", "string", "bytes", "enum")
#: Records come as dictionaries, ten times the size of their columns.
_AVRO_ROWS = 50_000
_ID_COLUMNS = frozenset({"metering_point_id", "site_id", "contract_id", "customer_id"})
#: Kinds of type within which a file may choose; a value that does not fit the schema's own type is still refused.
_KINDS: Sequence[Callable[[pa.DataType], bool]] = (
    lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind),
    pa.types.is_integer,
    pa.types.is_boolean,
    pa.types.is_date,
    lambda kind: pa.types.is_timestamp(kind) and kind.tz is not None,
)


def find_feeds(source: Path) -> dict[str, Path]:
    """Find the file of each feed in a reference folder: ``sites``, and of the others those that exist.

    Raises:
        MeterveilError: no folder, no sites, or two files for one feed.
    """
    if not source.is_dir():
        raise MeterveilError("there is no such folder", where=str(source), remedy="check --reference")
    feeds: dict[str, Path] = {}
    for name in REFERENCE_FEEDS:
        files = [path for suffix in _READERS if (path := source / f"{name}{suffix}").is_file()]
        if len(files) > 1:
            names = " and ".join(path.name for path in files)
            raise MeterveilError(f"{names} are one feed twice", where=str(source), remedy="keep one of them")
        if files:
            feeds[name] = files[0]
    if "sites" not in feeds:
        raise MeterveilError(
            "there are no sites", where=str(source), remedy=f"put sites{', sites'.join(_list_suffixes('sites'))} there"
        )
    return feeds


def read_feed(name: str, path: Path) -> Iterator[pa.RecordBatch]:
    """Read a feed batch by batch; after the last batch, refuse the whole if any row broke a rule.

    From the first broken row on, batches are counted and no longer given.

    Args:
        name: feed of ``schemas.reference.REFERENCE_FEEDS``.
        path: its file; the suffix says the format.

    Yields:
        Batches of the feed's schema, ids canonical.

    Raises:
        BadFileError: damaged, a column missing or unknown, a type that does not fit.
        MeterveilError: rows without a required value, with an unknown word or an empty validity; how many of each.
    """
    broken: Counter[str] = Counter()
    for batch in _read_batches(name, path):
        broken.update({rule: _count(mask) for rule, mask in _find_broken(name, batch)})
        if not broken.total():
            yield batch
    refuse(broken, path)


def read_register(name: str, path: Path, aside: Counter[str]) -> Iterator[pa.RecordBatch]:
    """Read a register that others deliver: rows that break a rule are set aside, each counted by the first it breaks.

    Args:
        name: feed of ``schemas.registers.REGISTERS``.
        path: its file; the suffix says the format.
        aside: rule to the number of rows; counts are added.

    Yields:
        Batches of the feed's schema.

    Raises:
        BadFileError: damaged, a column missing or unknown, a type that does not fit.
    """
    for batch in _read_batches(name, path):
        good = np.ones(batch.num_rows, np.bool_)
        for rule, mask in _find_broken(name, batch):
            broken = good & pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
            aside[rule] += int(np.count_nonzero(broken))
            good &= ~broken
        yield batch if good.all() else batch.filter(pa.array(good))


def _read_batches(name: str, path: Path) -> Iterator[pa.RecordBatch]:
    schema, suffixes = REFERENCE_FEEDS[name], _list_suffixes(name)
    if path.suffix not in suffixes:
        remedy = f"give it as {', '.join(suffixes)}"
        raise BadFileError("this feed can't be in this format", where=path.name, remedy=remedy)
    try:
        for raw in _READERS[path.suffix](path, schema):
            yield _conform(raw, schema, path)
    except MeterveilError:
        raise
    except Exception:  # noqa: BLE001 - damaged bytes lead pyarrow into errors of every kind
        raise _unreadable(path) from None


def refuse(broken: Mapping[str, int], path: Path) -> None:
    """Raise if any row of a feed broke a rule.

    Args:
        broken: rule to the number of rows that broke it.
        path: the feed's file.

    Raises:
        MeterveilError: with the counts, never with a value.
    """
    if found := ", ".join(f"{rule}: {count} rows" for rule, count in sorted(broken.items()) if count):
        raise MeterveilError(found, where=path.name, remedy="correct the feed at its source")


def _find_broken(name: str, batch: pa.RecordBatch) -> Iterator[tuple[str, pa.Array]]:
    """Give each rule of a feed and a mask of the rows that break it."""
    for field in batch.schema:
        if not field.nullable:
            column = batch[field.name]
            empty = pc.equal(pc.binary_length(column), 0) if pa.types.is_string(field.type) else None
            yield f"no {field.name}", column.is_null() if empty is None else pc.or_kleene(column.is_null(), empty)
    if name in _RULES:
        rule, find = _RULES[name]
        yield rule, find(batch)
    if name in REGISTERS:
        for column, words in REGISTERS[name].words.items():
            yield f"{column} none of {', '.join(words)}", pc.invert(pc.is_in(batch[column], pa.array([*words, None])))
        if "identity_code" in REGISTERS[name].keys:
            yield "identity_code malformed", pc.invert(check_identity_codes(canonical_text(batch["identity_code"])))


def _count(mask: pa.Array) -> int:
    return int(pc.sum(mask).as_py() or 0)


#: What a feed demands of a row beyond types: the rule, and a mask of the rows that break it.
_RULES: dict[str, tuple[str, Callable[[pa.RecordBatch], pa.Array]]] = {
    "sites": (
        "direction neither consumption nor production",
        lambda sites: pc.invert(pc.is_in(sites["direction"], pa.array(["consumption", "production", None]))),
    ),
    "contracts": (
        "valid_to not after valid_from",
        lambda contracts: pc.less_equal(contracts["valid_to"], contracts["valid_from"]),
    ),
    "customers": (
        "kind neither person nor company",
        lambda customers: pc.invert(pc.is_in(customers["kind"], pa.array(["person", "company", None]))),
    ),
}


def _conform(batch: pa.RecordBatch, schema: pa.Schema, path: Path) -> pa.RecordBatch:
    """Cast the columns to the schema's types within their kind, and make the ids canonical."""
    columns = []
    for field in schema:
        if _is_optional(field) and field.name not in batch.schema.names:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        column = batch[field.name]
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if not _same_kind(column.type, field.type):
            raise _wrong_type(path, field)
        try:
            column = column.cast(field.type)
        except pa.ArrowInvalid:
            raise _wrong_type(path, field) from None
        columns.append(_canonicalise(column) if field.name in _ID_COLUMNS else column)
    # Nulls in required columns are counted as broken rows, so the schema is not asked to refuse them.
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _canonicalise(ids: pa.Array) -> pa.Array:
    # Ids of a feed are mostly distinct: a dictionary of them would cost twenty times as much as this shortcut.
    if pc.all(pc.string_is_ascii(ids)).as_py():
        return pc.ascii_upper(pc.ascii_trim_whitespace(ids))
    return canonical_ids(ids).dictionary_decode()


def _same_kind(given: pa.DataType, wanted: pa.DataType) -> bool:
    return pa.types.is_null(given) or any(kind(given) and kind(wanted) for kind in _KINDS)


def _is_optional(field: pa.Field) -> bool:
    return bool(field.metadata and b"optional" in field.metadata)


def _check_columns(names: Sequence[str], schema: pa.Schema, path: Path) -> None:
    remedy = f"give the columns {', '.join(schema.names)}"
    for name in schema.names:
        if names.count(name) != 1 and (name in names or not _is_optional(schema.field(name))):
            problem = f"column {name} is {'there twice' if name in names else 'missing'}"
            raise BadFileError(problem, where=path.name, remedy=remedy)
    for number, name in enumerate(names, 1):
        # The name itself is not repeated: of a file without a header it would be a value.
        if name not in schema.names:
            raise BadFileError(f"column number {number} is unknown", where=path.name, remedy=remedy)


def _read_parquet(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    groups, rows = read_groups(str(path)), 0
    with map_file(path) as data:
        for chunk in chain.from_iterable(group.chunks for group in groups):
            check_pages(data, chunk, path.name)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        _check_columns(file.schema_arrow.names, schema, path)
        for batch in file.iter_batches(_BATCH_ROWS):
            batch.validate(full=True)  # nothing else sees text that is no UTF-8
            rows += batch.num_rows
            yield batch
    if rows != sum(group.rows for group in groups):
        raise _unreadable(path)


def _read_csv(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        header = file.readline(_CSV_HEADER_BYTES).decode("utf-8-sig", "replace").rstrip("\r\n")
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        ends = file.read() == b"\n"
    names = [name.strip('"') for name in header.split(",")]
    _check_columns(names, schema, path)
    if not ends:  # where a file was cut, so is the last field, and nothing else tells
        remedy = "deliver it whole, with an end of its last line"
        raise BadFileError("its last line does not end: it may be cut", where=path.name, remedy=remedy)
    convert = pv.ConvertOptions(
        column_types=schema, null_values=[""], strings_can_be_null=True, true_values=["true"], false_values=["false"]
    )
    try:
        with pv.open_csv(path, pv.ReadOptions(block_size=_CSV_BLOCK_BYTES), convert_options=convert) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        # The message quotes the value: only the number of the column is taken from it.
        column = re.match(r"In CSV column #(\d+):", str(error))
        raise _wrong_type(path, schema.field(names[int(column[1])])) if column else _unreadable(path) from None


def _read_avro(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Read with fastavro, whose types are Python's: dates and optional fields come as they are meant."""
    try:
        with map_file(path) as data:
            header = read_header(data, path.name)
            fields = header.schema["fields"]
            _check_columns([field["name"] for field in fields], schema, path)
            _check_plain(fields, schema, path)
            fastavro.parse_schema(header.schema)  # which nothing else would look at where there are no records
            for records in unpack_blocks(data, header, path.name, header.length, len(data), _AVRO_BLOCK_BYTES):
                block: Any  # its types leave out what holds the records
                [block] = fastavro.block_reader(BytesIO(pack_single(header, records, records.count)))
                found = iter(block)
                while rows := list(islice(found, _AVRO_ROWS)):
                    yield pa.RecordBatch.from_pylist(rows)
                _check_end(block.bytes_, path)
    except MeterveilError:
        raise
    except Exception:  # noqa: BLE001 - damaged bytes lead fastavro into errors of every kind
        raise _unreadable(path) from None


def _check_end(records: BinaryIO, path: Path) -> None:
    if records.read(1):  # a block counts fewer records than it holds
        raise _unreadable(path)


def _check_plain(fields: Sequence[Any], schema: pa.Schema, path: Path) -> None:
    for field in fields:
        if not _is_plain(field["type"]):
            raise _wrong_type(path, schema.field(field["name"]))


def _is_plain(kind: Any) -> bool:
    """Tell whether an Avro type is a single value; an array of nothing can say that it is endless."""
    if isinstance(kind, list):
        return all(map(_is_plain, kind))
    name = kind.get("type") if isinstance(kind, dict) else kind
    return name in _AVRO_KINDS


_READERS: dict[str, Callable[[Path, pa.Schema], Iterator[pa.RecordBatch]]] = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".avro": _read_avro,
    ".json": read_customers,
}


def _list_suffixes(name: str) -> list[str]:
    """List the suffixes of the files that a feed can be; only one feed can be the Datahub's answers."""
    return [suffix for suffix in _READERS if suffix != ".json" or name == "datahub_customer"]


def _wrong_type(path: Path, field: pa.Field) -> BadFileError:
    return BadFileError(
        f"column {field.name} does not fit its type", where=path.name, remedy=f"give it as {field.type}"
    )


def _unreadable(path: Path) -> BadFileError:
    problem = f"can't be read as {path.suffix[1:]}"
    return BadFileError(problem, where=path.name, remedy="deliver the file again, whole and undamaged")
