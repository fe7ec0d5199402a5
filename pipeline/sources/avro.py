"""Readings in Avro container files, of ``meter_series`` or ``meter_reading`` records.

The blocks are walked by ``avro_blocks`` before anything is decoded, since the decoder, DataFusion, accepts files that
are cut short. Two kinds of damage the format itself does not show: a file cut exactly between two blocks is whole to
everybody, and a byte flipped inside a block without a checksum (``null``, ``deflate``, and ``zstandard`` as most write
it) is found only if the block no longer decompresses or its records no longer parse.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from pipeline.errors import BadFileError
from pipeline.files import map_file
from pipeline.sources.avro_blocks import (
    MAGIC,
    Header,
    Records,
    pack_single,
    read_header,
    unpack_blocks,
    walk_blocks,
)
from pipeline.sources.base import Delivery, ReadOptions, Split
from pipeline.sources.deliver import Columns, deliver_readings, deliver_series

#: Compressed bytes of blocks that one worker reads: minutes of work at most, and small beside memory.
SPLIT_BYTES = 64 << 20
#: Bytes of records decoded at a time: about two million readings in series, 150,000 single ones.
_BATCH_BYTES = 8 << 20

#: Writer's types that a reader's type accepts (Avro specification, schema resolution).
_PROMOTIONS = {"string": ("string", "bytes"), "long": ("long", "int"), "int": ("int",)}
#: Writer's logical types that are an instant; a long without one could be in any unit.
_INSTANTS = ("timestamp-micros", "timestamp-millis")


@dataclass(frozen=True, slots=True)
class _Resolution:
    """How the writer's schema meets ours.

    Attributes:
        series: the records are series, not single readings.
        sources: our field to the writer's field that it is read from.
        defaults: our field to its default, where the writer has none.
    """

    series: bool
    sources: Mapping[str, str]
    defaults: Mapping[str, Any]


class AvroSource:
    """Avro container files of any codec, written with our schemas or with older and newer ones."""

    name = "avro"

    def recognises(self, path: str, head: bytes, options: ReadOptions) -> bool:
        """Tell an Avro file by its magic number."""
        del path, options
        return head.startswith(MAGIC)

    def splits(
        self, path: str, digest: str, options: ReadOptions, *, split_bytes: int = SPLIT_BYTES
    ) -> Sequence[Split]:
        """Check all block headers and the schema, and cut the file at block edges.

        Raises:
            BadFileError: cut short, damaged, or a schema that does not resolve to ours; it names the byte or the field.
        """
        del options
        with map_file(path) as data:
            header = read_header(data, path)
            _resolve(header.schema, path)
            splits = []
            start, count, first_row = header.length, 0, 1
            for block in walk_blocks(data, header, path):
                count += block.count
                if block.stop - start >= split_bytes:
                    splits.append(Split(path, self.name, digest, start, block.stop, first_row, count))
                    start, count, first_row = block.stop, 0, first_row + count
            if start < len(data):
                splits.append(Split(path, self.name, digest, start, len(data), first_row, count))
        return splits

    def read(self, split: Split, options: ReadOptions) -> Iterator[Delivery]:
        """Decode the blocks of a split.

        Raises:
            BadFileError: a block that does not decompress or parse, or records fewer or more than the blocks say.
        """
        del options
        with map_file(split.path) as data:
            header = read_header(data, split.path)
            resolution = _resolve(header.schema, split.path)
            row = split.first_row
            for records in unpack_blocks(data, header, split.path, split.start, split.stop, _BATCH_BYTES):
                for batch in _decode(header, records, resolution, split):
                    yield _deliver(batch, resolution, row)
                    row += batch.num_rows
        if row - split.first_row != split.rows:
            raise _damaged(split)


def _deliver(batch: pa.RecordBatch, resolution: _Resolution, first_row: int) -> Delivery:
    count = batch.num_rows
    fields = {name: batch.column(index) for index, name in enumerate(resolution.sources)}
    fields |= {name: pa.repeat(default, count) for name, default in resolution.defaults.items()}
    columns = Columns(**fields, row=np.arange(first_row, first_row + count))
    deliver = deliver_series if resolution.series else deliver_readings
    return deliver(columns, columns.as_delivered())


def _decode(header: Header, records: Records, resolution: _Resolution, split: Split) -> Iterator[pa.RecordBatch]:
    """Decode records in one batch of exactly as many as their blocks count.

    A decoder that stops at a count too low might wait for ever for the bytes behind it to go away; with one too high,
    it has to come to the end of the bytes. The batch size is what ends the decoding of good records; bytes that are
    left behind it either do not parse or make a second batch.
    """
    if not records.content and not records.count:
        return
    import datafusion

    config = datafusion.SessionConfig().with_target_partitions(1).with_batch_size(max(1, records.count))
    # Quoted, since DataFusion would fold the names to lower case.
    names = [datafusion.col(f'"{name}"') for name in resolution.sources.values()]
    try:
        # A record takes at least one byte: there are fewer than this.
        packed = pack_single(header, records, len(records.content) + 1)
        with _private_file(packed) as path:
            frame = datafusion.SessionContext(config).read_avro(path, file_extension="").select(*names)
            batches = [batch.to_pyarrow() for batch in frame.execute_stream()]
    except Exception as error:
        # DataFusion raises plain exceptions. Their words may hold values: they are left out.
        if type(error) is not Exception:
            raise
        raise _damaged(split) from None
    if sum(batch.num_rows for batch in batches) != records.count:
        raise _damaged(split)
    yield from batches


def _damaged(split: Split) -> BadFileError:
    return BadFileError(
        "its records do not decode as the block headers say",
        where=f"{split.path}, bytes {split.start} to {split.stop}",
        remedy="the file is damaged: fetch it again",
    )


@contextmanager
def _private_file(content: bytes) -> Iterator[str]:
    """Give bytes a path that nobody else can read: in memory where the system can, else in a file of mode 0600."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        with os.fdopen(os.memfd_create("part"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name


def _resolve(writer: Any, path: str) -> _Resolution:
    """Resolve a writer's schema to ours by Avro's rules, as far as they lose nothing.

    Extra fields are passed over, a missing field takes our default, an int serves for a long, our aliases count, and a
    union with null reads as nullable. The layout follows from the type of ``energy``, not from the record's name.

    Raises:
        BadFileError: naming the field that does not resolve.
    """
    try:
        fastavro.parse_schema(writer)
        return _match_fields(writer, path)
    except BadFileError:
        raise
    except Exception:  # noqa: BLE001 - whatever a broken schema trips over
        raise _wrong_schema(path, "it is no Avro schema") from None


def _match_fields(writer: Any, path: str) -> _Resolution:
    if not isinstance(writer, dict) or writer.get("type") != "record":
        raise _wrong_schema(path, "its records are no records of readings")
    written = {field["name"]: field["type"] for field in writer["fields"]}
    series = _kind(written.get("energy"))[0] == "array"
    reader = _reader_schema("meter_series" if series else "meter_reading")
    sources: dict[str, str] = {}
    defaults: dict[str, Any] = {}
    for field in reader["fields"]:
        name = field["name"]
        source = next((alias for alias in (name, *field.get("aliases", ())) if alias in written), None)
        if source is None and "default" not in field:
            raise _wrong_schema(path, f"field {name} is missing")
        if source is None:
            defaults[name] = field["default"]
        elif not _is_accepted(written[source], field["type"]):
            raise _wrong_schema(path, f"field {name} has another type")
        else:
            sources[name] = source
    return _Resolution(series, sources, defaults)


def _is_accepted(written: Any, wanted: Any) -> bool:
    kind, written = _kind(written)
    if isinstance(wanted, dict) and wanted["type"] == "array":
        return kind == "array" and _is_accepted(written["items"], wanted["items"])
    if isinstance(wanted, dict):
        return kind == "long" and isinstance(written, dict) and written.get("logicalType") in _INSTANTS
    return kind in _PROMOTIONS[wanted]


def _kind(written: Any) -> tuple[str | None, Any]:
    """Give the name of a type and the type itself, taken out of its union with null."""
    if isinstance(written, list):
        others = [option for option in written if option != "null"]
        return _kind(others[0]) if len(others) == 1 else (None, written)
    if isinstance(written, dict):
        inner = written.get("type")
        return (inner if isinstance(inner, str) else None), written
    return written, written


def _reader_schema(name: str) -> Any:
    return json.loads(files("schemas").joinpath(f"avro/{name}.avsc").read_text("utf-8"))


def _wrong_schema(path: str, problem: str) -> BadFileError:
    return BadFileError(
        f"wrong schema: {problem}",
        where=path,
        remedy="deliver records of schemas/avro/meter_series.avsc or meter_reading.avsc",
    )
