"""Damages files of readings as a whole, so that a pipeline has something to refuse."""

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

_OTHER_COLUMNS = {"tank": ["north", "south"], "level": [0.25, 0.5]}
_PAGE = b"<!doctype html><html><head><title>404</title></head><body>The file is not here.</body></html>\n"


def damage_file(fault: str, good: bytes, suffix: str) -> bytes:
    """Return what a file with one of ``options.FILE_FAULTS`` holds.

    Args:
        fault: name of the fault.
        good: the bytes of a sound file with at least one reading.
        suffix: ``avro``, ``parquet``, ``csv``, ``xml`` or ``json``.
    """
    return _DAMAGES[fault](good, suffix)


def _truncate(good: bytes, _suffix: str) -> bytes:
    return good[: len(good) * 2 // 3]


def _flip_sync(good: bytes, _suffix: str) -> bytes:
    """Change the last bit of the last sync marker: an Avro file ends with one."""
    return good[:-1] + bytes([good[-1] ^ 1])


def _empty(_good: bytes, _suffix: str) -> bytes:
    return b""


def _write_other_columns(_good: bytes, suffix: str) -> bytes:
    out = BytesIO()
    match suffix:
        case "avro":
            fields: list[dict[str, Any]] = [{"name": "tank", "type": "string"}, {"name": "level", "type": "double"}]
            schema = fastavro.parse_schema({"type": "record", "name": "tank_level", "fields": fields})
            records = [
                dict(zip(_OTHER_COLUMNS, row, strict=True)) for row in zip(*_OTHER_COLUMNS.values(), strict=True)
            ]
            fastavro.writer(out, schema, records, sync_marker=b"meterveil-damage")
        case "parquet":
            pq.write_table(pa.table(_OTHER_COLUMNS), out)
        case "xml":
            out.write(b"<tanks><tank><level>0.25</level></tank></tanks>\n")
        case "json":
            out.write(json.dumps({"tanks": _OTHER_COLUMNS}).encode() + b"\n")
        case _:
            rows = zip(*_OTHER_COLUMNS.values(), strict=True)
            lines = [";".join(_OTHER_COLUMNS), *(f"{tank};{json.dumps(level)}" for tank, level in rows)]
            out.write("\n".join(lines).encode() + b"\n")
    return out.getvalue()


def _write_page(_good: bytes, _suffix: str) -> bytes:
    return _PAGE


_DAMAGES: dict[str, Callable[[bytes, str], bytes]] = {
    "truncated": _truncate,
    "wrong_sync": _flip_sync,
    "empty": _empty,
    "wrong_schema": _write_other_columns,
    "not_readings": _write_page,
}
