"""The state of a cell: its rows as they were written, seen as frames again, so that a fold knows frames alone."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.flags import MERGE_FLAGS
from schemas.status import STATUS_WORDS, Status
from transforms.calendar import US_PER_S
from transforms.decimals import as_int64_units
from transforms.grid import NEVER
from transforms.pieces import as_int64

#: Columns of ``operational.readings`` that a merge has to know, and of them those that have a value in rare rows only.
STATE_COLUMNS = ("metering_point_id", "product", "resolution_s", "start", "energy", "status", "registered_at", "flags")
RIVAL_COLUMNS = {"rival_registered_at": "rival", "daily_rival_registered_at": "daily_rival"}


def frame_rows(rows: pa.Table, day_start: int) -> pa.RecordBatch:
    """See rows of a cell as a frame: a piece is a stretch of readings that were registered together.

    Args:
        rows: the columns above, in the order of ``operational.readings``, text as dictionaries; not empty.
        day_start: when the local day begins, µs.

    Returns:
        A frame as ``pieces.split_by_cell`` makes them, energy in int64; where any row has such a thing, also lists of
        what the merge remembers: ``flags`` (int32, those of the merge alone), ``rival`` and ``daily_rival`` (int64 µs,
        or ``NEVER``).
    """
    columns = {name: _combine(rows.column(name)) for name in rows.column_names}
    ids, products, status = (columns[name] for name in ("metering_point_id", "product", "status"))
    start, registered = as_int64(columns["start"]), as_int64(columns["registered_at"])
    step = columns["resolution_s"].to_numpy().astype(np.int64) * US_PER_S
    follows = start[1:] - start[:-1] == step[:-1]
    for keys in (ids.indices.to_numpy(), products.indices.to_numpy(), step, registered):
        follows &= keys[1:] == keys[:-1]
    first = np.append(0, np.flatnonzero(~follows) + 1)
    taken, ends = pa.array(first), pa.array(np.append(first, len(rows)).astype(np.int32))

    def as_lists(values: npt.NDArray[np.generic]) -> pa.Array:
        return pa.ListArray.from_arrays(ends, pa.array(values))

    frame = {
        "metering_point_id": ids.take(taken).dictionary_decode(),
        "product": products.take(taken).dictionary_decode(),
        "resolution_s": columns["resolution_s"].take(taken),
        "slot": pa.array(((start[first] - day_start) // step[first]).astype(np.int16)),
        "registered_at": columns["registered_at"].take(taken),
        "energy": as_lists(as_int64_units(columns["energy"])),
    }
    codes = status_codes(status)
    if (codes != Status.OK).any():
        frame["status"] = as_lists(codes)
    flags = columns["flags"].to_numpy() & np.int32(MERGE_FLAGS)
    if flags.any():
        frame["flags"] = as_lists(flags)
    for column, name in RIVAL_COLUMNS.items():
        if columns[column].null_count < len(rows):
            frame[name] = as_lists(columns[column].view(pa.int64()).fill_null(NEVER).to_numpy())
    return pa.RecordBatch.from_pydict(frame)


def status_codes(words: pa.DictionaryArray) -> npt.NDArray[np.int8]:
    """Turn status words into their codes."""
    code = np.array([STATUS_WORDS.index(word) for word in words.dictionary.to_pylist()], dtype=np.int8)
    codes: npt.NDArray[np.int8] = code[words.indices.to_numpy()]
    return codes


def _combine(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return (column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column).combine_chunks()
