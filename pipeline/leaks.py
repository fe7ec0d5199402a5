"""Looks for identifiers where none may be: decodes what compression would hide from a search of the bytes.

Of Parquet files it reads every column with its whole dictionary, the statistics and the key-value metadata; of
Iceberg's manifests and metadata every value; of catalogs every cell. The raw bytes of every file, and its name, are
searched as well. What it can't decode, it can't vouch for, so it refuses.
"""

import base64
import binascii
import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.context import newest_reference
from pipeline.errors import MeterveilError
from pipeline.lake import Lake
from pipeline.stores import Place, columnar, list_sorted

#: Shorter tokens are in too much by accident to say anything.
MIN_TOKEN_BYTES = 8
#: Between values, so that the end of one and the beginning of the next make no token.
_BETWEEN = b"\n"
#: Multiplicative hashing (Knuth, The Art of Computer Programming, 6.4), with 2^64 over the golden ratio.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
#: Fields of a reference snapshot that tell who or where somebody is; others, such as a city, are shared by many.
_IDENTIFYING = (
    "metering_point_id", "site_id", "contract_id", "customer_id", "name", "identity_code", "business_id", "phone",
    "email", "street_address", "postal_address", "site_address",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Leak:
    """A place where a token was found; does not repeat the token.

    Attributes:
        path: file or folder, relative to what was searched; a token in it is shown as ``***``.
        place: ``name``, ``bytes``, ``column start``, ``statistics of start``, ``key-value metadata``, ``manifest``,
            ``json`` or ``catalog``.
    """

    path: str
    place: str


class Tokens:
    """Words to look for, all at once: exact but for the case of ASCII letters.

    Args:
        words: identifiers as text; those under ``MIN_TOKEN_BYTES`` bytes are left out.
    """

    def __init__(self, words: Iterable[str]) -> None:
        encoded = {word.encode().lower() for word in words}
        self._tokens = frozenset(word for word in encoded if len(word) >= MIN_TOKEN_BYTES)
        self._lengths: dict[int, set[int]] = defaultdict(set)
        for token in self._tokens:
            self._lengths[int.from_bytes(token[:8], "little")].add(len(token))
        heads = np.array(list(self._lengths), np.uint64)
        # Sixteen places a head: one window in sixteen or fewer has to be looked up.
        bits = max(12, len(heads).bit_length() + 4)
        self._shift = np.uint64(64 - bits)
        self._marked = np.zeros(1 << bits, np.bool_)
        self._marked[self._hash(heads)] = True

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, text: bytes) -> bytes | None:
        """Give a token that stands anywhere in a text, in lower case, or None."""
        text = text.lower()
        for offset in range(min(8, len(text) - 7)):
            windows = np.frombuffer(text, "<u8", (len(text) - offset) // 8, offset)
            for place in np.flatnonzero(self._marked[self._hash(windows)]).tolist():
                start = offset + 8 * place
                for length in self._lengths.get(int(windows[place]), ()):
                    if text[start : start + length] in self._tokens:
                        return text[start : start + length]
        return None

    def mask(self, text: str) -> str:
        """Show every token in a text as ``***``."""
        octets = os.fsencode(text)
        while token := self.find(octets):
            start = octets.lower().index(token)
            octets = octets[:start] + b"***" + octets[start + len(token) :]
        return os.fsdecode(octets)

    def _hash(self, windows: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        hashed: npt.NDArray[np.uint64] = (windows * _MULTIPLIER) >> self._shift
        return hashed


def collect_tokens(lake: Lake) -> Tokens:
    """Collect what may stand nowhere in analytics: identifiers of the newest reference, names of operational files."""
    words: set[str] = {str(lake.operational)}
    snapshot = newest_reference(lake)
    for bucket in range(snapshot.bucket_count):
        for rows in (snapshot.points(bucket), snapshot.occupancies(bucket), snapshot.customers(bucket)):
            for name in set(_IDENTIFYING).intersection(rows.column_names):
                words.update(pc.unique(rows[name]).drop_null().to_pylist())
    words.update(path.stem for folder in ("data", "metadata") for path in lake.operational.glob(f"*/{folder}/**/*.*"))
    return Tokens(words)


def find_leaks(root: Place, tokens: Tokens) -> list[Leak]:
    """Search a folder, everything in it and every name.

    Args:
        root: the folder, such as a lake's analytics zone.
        tokens: what may not be there.

    Returns:
        Every place with at least one token, by path.

    Raises:
        MeterveilError: a file that can't be decoded as what it is.
    """
    leaks = []
    for path in list_sorted(root, "**/*"):
        shown = tokens.mask(str(path.relative_to(root)))
        if tokens.find(os.fsencode(path.name)):
            leaks.append(Leak(shown, "name"))
        if path.is_file():
            leaks += [Leak(shown, place) for place in _search_file(path, tokens, shown)]
    return leaks


def _search_file(path: Place, tokens: Tokens, shown: str) -> Iterator[str]:
    content = path.read_bytes()
    if tokens.find(content):
        yield "bytes"
    found: dict[str, None] = {}
    try:
        for place, text in _decode(path, content):
            if place not in found and tokens.find(text):
                found[place] = None
    except Exception:  # noqa: BLE001 - every decoder has errors of its own, and their words may hold values
        raise MeterveilError(
            "it can't be decoded, so it can't be searched", where=shown, remedy="restore it, or take it away"
        ) from None
    yield from found


def _decode(path: Place, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Give the texts that a file holds, each with its place in it."""
    if content.startswith(b"PAR1"):
        yield from _decode_parquet(path)
    elif content.startswith(b"Obj\x01"):
        yield "manifest", _join(_decode_avro(path))
    elif content.startswith(b"SQLite format 3\0"):
        yield "catalog", _join(_decode_catalog(Path(path)))
    elif path.suffix == ".json":
        yield "json", _join(_walk(json.loads(content)))
    elif path.suffix == ".jsonl":
        yield "json", _join(text for line in content.splitlines() for text in _walk(json.loads(line)))


def _decode_parquet(path: Place) -> Iterator[tuple[str, bytes]]:
    schema = pq.read_schema(columnar(str(path)))
    # As dictionaries text columns keep the entries that no row refers to.
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_binary(field.type)]
    with pq.ParquetFile(columnar(str(path)), read_dictionary=texts) as file:
        yield "key-value metadata", _join(_walk_key_values(file))
        for group in range(file.num_row_groups):
            row_group = file.metadata.row_group(group)
            for position in range(row_group.num_columns):
                chunk = row_group.column(position)
                if chunk.is_stats_set and chunk.statistics.has_min_max:
                    bounds = _walk([chunk.statistics.min, chunk.statistics.max])
                    yield f"statistics of {chunk.path_in_schema}", _join(bounds)
            for name, column in zip(schema.names, file.read_row_group(group).columns, strict=True):
                for values in column.chunks:
                    yield f"column {name}", _join_values(values)


def _walk_key_values(file: pq.ParquetFile) -> Iterator[bytes]:
    schema = file.schema_arrow
    of_fields = [metadata for field in schema if (metadata := field.metadata)]
    for key, value in ((k, v) for marks in [file.metadata.metadata or {}, *of_fields] for k, v in marks.items()):
        yield key
        yield value
        with suppress(binascii.Error, ValueError):  # Arrow's own schema is kept in base64
            yield base64.b64decode(value, validate=True)


def _join_values(values: pa.Array) -> bytes:
    """Write the distinct values of a column as text, and raw octets both raw and in hex."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_nested(values.type):
        return _join(_walk(values.to_pylist()))
    values = pc.unique(values).drop_null()
    if pa.types.is_fixed_size_binary(values.type) or pa.types.is_binary(values.type):
        return _join(text for value in values.to_pylist() for text in _walk(value))
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.int64())
    whole = pa.ListArray.from_arrays([0, len(values)], values.cast(pa.string()))
    return bytes(pc.binary_join(whole, _BETWEEN.decode())[0].as_buffer())


def _decode_avro(path: Place) -> Iterator[bytes]:
    with path.open("rb") as file:
        reader = fastavro.reader(file)
        yield from _walk(reader.metadata)
        for record in reader:
            yield from _walk(record)


def _decode_catalog(path: Path) -> Iterator[bytes]:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as catalog:
        tables = catalog.execute("SELECT name, sql FROM sqlite_master").fetchall()
        yield from _walk(tables)
        for (name,) in catalog.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            quoted = name.replace('"', '""')
            for row in catalog.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608 - quoted, and its own table
                yield from _walk(row)


def _walk(value: Any) -> Iterator[bytes]:
    """Give every word and number in a decoded value as text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(key)
            yield from _walk(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _walk(inner)
    elif isinstance(value, bytes):
        yield value
        yield value.hex().encode()
        yield str(int.from_bytes(value, "little", signed=True)).encode()  # a bound of a number in a manifest
    elif value is not None:
        yield str(value).encode()


def _join(texts: Iterable[bytes]) -> bytes:
    return _BETWEEN.join(texts)
