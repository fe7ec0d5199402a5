"""Series batches: canonical ids, folding of long columns into series, taking readings out and setting them aside."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.reasons import Reason
from schemas.series import ACTIVE_ENERGY, SERIES_SCHEMA
from schemas.status import Status
from transforms.calendar import US_PER_S
from transforms.pieces import as_int64
from transforms.rejected import REASONS, build_rejected

#: Mean readings a series from which regrouping gains nothing: work per series is then small beside that per reading.
LONG_ENOUGH = 8

#: A number that a spreadsheet has put into exponent form; the sign of the exponent keeps hexadecimal ids apart.
_EXPONENT_FORM = r"^[0-9]+([.,][0-9]+)?E\+[0-9]+$"
_ENERGY_LIST = SERIES_SCHEMA.field("energy").type
_STATUS_LIST = SERIES_SCHEMA.field("status").type
_TIME = SERIES_SCHEMA.field("start").type


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings, one an element, in the order of their file.

    Attributes:
        metering_point_id: dictionary<int32, string>, equal ids having equal codes.
        product: dictionary<int32, string>, likewise.
        start: int64, microseconds UTC.
        resolution_s: int32, seconds.
        registered_at: int64, microseconds UTC.
        energy: int64, milliwatt-hours, 0 under MISSING.
        status: int8, ``schemas.status.Status``.
        row: int64, where each stands in its file, from 1, ascending.
    """

    metering_point_id: pa.DictionaryArray
    product: pa.DictionaryArray
    start: NDArray[np.int64]
    resolution_s: NDArray[np.int32]
    registered_at: NDArray[np.int64]
    energy: NDArray[np.int64]
    status: NDArray[np.int8]
    row: NDArray[np.int64]


def canonical_ids(array: pa.Array) -> pa.DictionaryArray:
    """Bring ids to their canonical form: trimmed, NFC, upper case. A null becomes the empty id.

    Args:
        array: strings, plain or dictionary-encoded.

    Returns:
        dictionary<int32, string> in which equal ids have equal codes; the work is done on the distinct values.
    """
    return _recode(array, _canonical_text)


def canonical_products(array: pa.Array) -> pa.DictionaryArray:
    """Trim products; blank, ``0`` and null become active energy. Shapes as for ``canonical_ids``."""
    return _recode(array, _named_product)


def find_mangled(ids: pa.DictionaryArray) -> NDArray[np.bool_]:
    """Tell which ids (or products) are lost: empty, or in a spreadsheet's exponent form (``6,43007E+17``)."""
    distinct = ids.dictionary
    mangled = pc.or_(pc.equal(distinct, ""), pc.match_substring_regex(distinct, _EXPONENT_FORM))
    mask: NDArray[np.bool_] = mangled.to_numpy(zero_copy_only=False)
    if not mask.any():
        return np.zeros(len(ids), dtype=bool)
    found: NDArray[np.bool_] = mask[ids.indices.to_numpy()]
    return found


def fold_long(readings: Readings) -> pa.RecordBatch:
    """Fold readings, one an element, into series by finding the breaks in their columns.

    A reading continues the series of the one before it where point, product, resolution and registration time are the
    same, its start is one resolution later (exactly 86,400 s for daily values) and it stands in the next row.

    Returns:
        A batch of ``SERIES_SCHEMA``; ``energy`` and ``status`` are not copied.
    """
    count = len(readings.start)
    if count == 0:
        return empty_series()
    follows = readings.start[1:] - readings.start[:-1] == _microseconds(readings.resolution_s[:-1])
    for column in (
        readings.metering_point_id.indices.to_numpy(),
        readings.product.indices.to_numpy(),
        readings.resolution_s,
        readings.registered_at,
    ):
        follows &= column[1:] == column[:-1]
    if readings.row[-1] - readings.row[0] != count - 1:
        follows &= np.diff(readings.row) == 1
    first = np.flatnonzero(np.concatenate(([True], ~follows)))
    return build_series(
        metering_point_id=readings.metering_point_id.take(pa.array(first)),
        product=readings.product.take(pa.array(first)),
        start=readings.start[first],
        resolution_s=readings.resolution_s[first],
        registered_at=readings.registered_at[first],
        row=readings.row[first],
        offsets=np.append(first, count),
        values=(readings.energy, readings.status),
    )


def regroup(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Make long series of short ones: sort series by point, product, resolution, registration and start, and join them.

    For input that is sorted by time instead of by point; points and products come in the order of their first series.
    A batch whose series are long already is returned as it is.

    A joined series keeps the row of its first part, so that these no longer lead to readings: regroup after validation.
    """
    offsets = series_offsets(batch)
    if batch.num_rows * LONG_ENOUGH <= offsets[-1]:
        return batch
    ids = encode_text(batch.column("metering_point_id"))
    products = encode_text(batch.column("product"))
    start, registered_at = (as_int64(batch.column(name)) for name in ("start", "registered_at"))
    resolution_s = batch.column("resolution_s").to_numpy()
    keys = (ids.indices.to_numpy(), products.indices.to_numpy(), resolution_s, registered_at)
    order = np.lexsort((start, *keys[::-1]))  # stable; the last key is the first to sort by
    lengths = np.diff(offsets)[order]
    ends = start[order] + lengths * _microseconds(resolution_s[order])
    follows = start[order][1:] == ends[:-1]
    for key in keys:
        follows &= key[order][1:] == key[order][:-1]
    first = np.flatnonzero(np.concatenate(([True], ~follows)))
    moved = np.concatenate(([0], np.cumsum(lengths)))
    flat = np.arange(moved[-1]) + np.repeat(offsets[:-1][order] - moved[:-1], lengths)
    leads = order[first]
    return build_series(
        metering_point_id=ids.take(pa.array(leads)),
        product=products.take(pa.array(leads)),
        start=start[leads],
        resolution_s=resolution_s[leads],
        registered_at=registered_at[leads],
        row=batch.column("row").to_numpy()[leads],
        offsets=np.append(moved[:-1][first], moved[-1]),
        values=(flat_energy(batch)[flat], flat_status(batch)[flat]),
    )


def drop_readings(batch: pa.RecordBatch, dropped: NDArray[np.bool_]) -> pa.RecordBatch:
    """Take single readings out of series; the contiguous stretches that remain of a series become series.

    Args:
        batch: of ``SERIES_SCHEMA``.
        dropped: bool, one for each reading of the flat child arrays; true takes it out.

    Returns:
        A batch of ``SERIES_SCHEMA``; every stretch keeps the ``row`` of the series that it comes from, and has its own
        ``position`` there.
    """
    if not dropped.any():
        return batch
    kept = np.flatnonzero(~dropped)
    if kept.size == 0:
        return empty_series()
    offsets = series_offsets(batch)
    series = np.repeat(np.arange(batch.num_rows), np.diff(offsets))[kept]
    begins = np.concatenate(([True], (np.diff(kept) != 1) | (np.diff(series) != 0)))
    first = np.flatnonzero(begins)
    origin = series[first]
    position = kept[first] - offsets[origin]
    resolution_s = batch.column("resolution_s").to_numpy()[origin]
    taken = pa.array(origin)
    rest = build_series(
        metering_point_id=batch.column("metering_point_id").take(taken),
        product=batch.column("product").take(taken),
        start=as_int64(batch.column("start"))[origin] + position * _microseconds(resolution_s),
        resolution_s=resolution_s,
        registered_at=as_int64(batch.column("registered_at"))[origin],
        row=batch.column("row").to_numpy()[origin],
        offsets=np.append(first, kept.size),
        values=(flat_energy(batch)[kept], flat_status(batch)[kept]),
    )
    positions = (batch.column("position").to_numpy()[origin] + position).astype(np.int32)
    return rest.set_column(rest.num_columns - 1, SERIES_SCHEMA.field("position"), pa.array(positions))


def reject_readings(
    batch: pa.RecordBatch,
    series_index: NDArray[np.int64],
    position: NDArray[np.int64],
    reason: Reason,
) -> pa.RecordBatch:
    """Make quarantine rows of single readings of a series batch. It does not take them out: ``drop_readings`` does.

    Args:
        batch: of ``SERIES_SCHEMA``.
        series_index: the series of each reading to reject.
        position: its place inside that series, from 0.
        reason: why.

    Returns:
        A batch of ``REJECTED_SCHEMA``, in the order of the arguments. ``row`` is that of the series, and ``position``
        counts from there: in formats with one reading a row, the reading stands in row ``row + position``.
    """
    flat = pa.array(series_offsets(batch)[series_index] + position)
    taken = batch.drop_columns(["energy", "status"]).take(pa.array(series_index))
    resolution_s = taken.column("resolution_s")
    start = as_int64(taken.column("start")) + position * _microseconds(resolution_s.to_numpy())
    energy = batch.column("energy").flatten().take(flat)
    status = batch.column("status").flatten().take(flat)
    return build_rejected(
        {
            "metering_point_id": taken.column("metering_point_id"),
            "product": taken.column("product"),
            "start": pa.array(start).cast(_TIME),
            "resolution": resolution_s,
            "registered_at": taken.column("registered_at"),
            "energy": pc.if_else(pc.equal(status, int(Status.MISSING)), None, energy),
            "status": status,
        },
        row=taken.column("row").to_numpy(),
        position=taken.column("position").to_numpy() + position,
        codes=np.full(len(flat), REASONS.index(reason), dtype=np.int8),
        decoded_energy=energy.to_numpy(),
    )


def build_series(
    *,
    metering_point_id: pa.Array,
    product: pa.Array,
    start: NDArray[np.int64],
    resolution_s: NDArray[np.int32],
    registered_at: NDArray[np.int64],
    row: NDArray[np.int64],
    offsets: NDArray[np.int64],
    values: tuple[NDArray[np.int64], NDArray[np.int8]],
) -> pa.RecordBatch:
    """Put a series batch together from one value a series, list offsets (one more) and flat (energy, status).

    Each series begins where its row does.
    """
    ends = pa.array(offsets.astype(np.int32))
    energy, status = values
    return pa.RecordBatch.from_arrays(
        [
            metering_point_id.cast(pa.string()),
            product.cast(pa.string()),
            pa.array(start).cast(_TIME),
            pa.array(resolution_s),
            pa.array(registered_at).cast(_TIME),
            pa.ListArray.from_arrays(ends, pa.array(energy), type=_ENERGY_LIST),
            pa.ListArray.from_arrays(ends, pa.array(status), type=_STATUS_LIST),
            pa.array(row),
            pa.array(np.zeros(len(row), np.int32)),
        ],
        schema=SERIES_SCHEMA,
    )


def empty_series() -> pa.RecordBatch:
    """Make a series batch without a series."""
    return pa.RecordBatch.from_pylist([], schema=SERIES_SCHEMA)


def series_offsets(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Give where each series begins in the flat child arrays, int64, and at last their length."""
    lengths = pc.list_value_length(batch.column("energy")).to_numpy()
    return np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))


def flat_energy(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Give the energy of all readings of a series batch, milliwatt-hours, without a copy."""
    flat: NDArray[np.int64] = batch.column("energy").flatten().to_numpy()
    return flat


def flat_status(batch: pa.RecordBatch) -> NDArray[np.int8]:
    """Give the status of all readings of a series batch, without a copy."""
    flat: NDArray[np.int8] = batch.column("status").flatten().to_numpy()
    return flat


def _recode(array: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.DictionaryArray:
    encoded = encode_text(array)
    changed = change(encoded.dictionary).dictionary_encode()
    if len(changed.dictionary) == len(encoded.dictionary) and changed.dictionary.equals(encoded.dictionary):
        return encoded
    return pa.DictionaryArray.from_arrays(changed.indices.take(encoded.indices), changed.dictionary)


def encode_text(array: pa.Array) -> pa.DictionaryArray:
    """Encode strings as dictionary<int32, string>; a null becomes the empty string."""
    if not pa.types.is_dictionary(array.type) or array.null_count or array.dictionary.null_count:
        return array.cast(pa.string()).fill_null("").dictionary_encode()
    if array.type != pa.dictionary(pa.int32(), pa.string()):
        return array.cast(pa.dictionary(pa.int32(), pa.string()))
    return array


def _canonical_text(distinct: pa.Array) -> pa.Array:
    upper = pc.ascii_upper(pc.ascii_trim_whitespace(distinct))
    rare = pc.invert(pc.string_is_ascii(distinct))
    if not pc.any(rare).as_py():
        return upper
    # Arrow's upper case is one character for one: it leaves those that Unicode writes as two (ß, ŉ).
    texts = [
        unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.strip()).upper())
        for text in distinct.filter(rare).to_pylist()
    ]
    return pc.replace_with_mask(upper, rare, pa.array(texts, pa.string()))


def _named_product(distinct: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(distinct)
    return pc.if_else(pc.is_in(trimmed, pa.array(["", "0"])), ACTIVE_ENERGY, trimmed)


def _microseconds(resolution_s: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.multiply(resolution_s, US_PER_S, dtype=np.int64)
