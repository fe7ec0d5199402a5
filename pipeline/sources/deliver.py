"""From decoded columns to deliveries: what every format shares once its own fields are typed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.sources.base import Delivery
from schemas.reasons import Reason
from schemas.series import DAY_S, MAX_ENERGY
from schemas.status import STATUS_WORDS, Status
from transforms.rejected import (
    ACCEPTED,
    REASONS,
    TEXT_FIELDS,
    build_rejected,
    empty_rejected,
    name_first_faults,
    render_field,
)
from transforms.series import (
    Readings,
    build_series,
    canonical_ids,
    canonical_products,
    drop_readings,
    encode_text,
    find_mangled,
    fold_long,
    series_offsets,
)

Mask = NDArray[np.bool_]
#: Gives the fields of readings at some places (integers) as they stood in the file, by ``TEXT_FIELDS``.
Show = Callable[[pa.Array], Mapping[str, pa.Array]]

#: Times outside 1970-2199 are no times of a meter: sentinels such as the year 9999 would stretch every calendar.
_EARLIEST, _LATEST = (int(np.datetime64(year, "us").astype(np.int64)) for year in ("1970", "2200"))
_TIME = pa.timestamp("us", "UTC")
_HEAD_COLUMNS = ("metering_point_id", "product", "start", "resolution_s", "registered_at")
#: The same, by the names under which quarantine shows them.
_HEAD_FIELDS = ("metering_point_id", "product", "start", "resolution", "registered_at")
#: Fields that are text in every format.
_NAMES = ("metering_point_id", "product")


@dataclass(frozen=True, slots=True)
class Columns:
    """Fields of readings (one an element) or of series (``energy`` and ``status`` then are lists). Null: not decodable.

    Attributes:
        metering_point_id: strings, plain or dictionary-encoded.
        product: likewise; null, blank and ``0`` are active energy.
        start: timestamp[us, UTC].
        resolution_s: integers, seconds.
        registered_at: timestamp[us, UTC].
        energy: integers, milliwatt-hours, or lists of them.
        status: integers of ``schemas.status.Status``, or lists of them.
        row: int64, where each stands in the file, from 1.
    """

    metering_point_id: pa.Array
    product: pa.Array
    start: pa.Array
    resolution_s: pa.Array
    registered_at: pa.Array
    energy: pa.Array
    status: pa.Array
    row: NDArray[np.int64]

    def as_delivered(self) -> dict[str, pa.Array]:
        """Give the columns by the names under which quarantine shows them."""
        columns = (self.resolution_s if name == "resolution" else getattr(self, name) for name in TEXT_FIELDS)
        return dict(zip(TEXT_FIELDS, columns, strict=True))


class _Head(NamedTuple):
    """The fields that a whole series has in common, checked."""

    ids: pa.DictionaryArray
    products: pa.DictionaryArray
    start: NDArray[np.int64]
    resolution_s: NDArray[np.int32]
    registered_at: NDArray[np.int64]
    faults: dict[Reason, Mask]


class _Values(NamedTuple):
    """Energy and status of readings, checked."""

    energy: NDArray[np.int64]
    status: NDArray[np.int8]
    faults: dict[Reason, Mask]


def deliver_readings(
    columns: Columns, delivered: Mapping[str, pa.Array], faults: Mapping[Reason, Mask] | None = None
) -> Delivery:
    """Deliver readings that come one a row.

    Args:
        columns: the decoded fields.
        delivered: the fields as they stood in the file, by ``TEXT_FIELDS``, for what is set aside and can't be read.
        faults: what only the source can see (ambiguous or impossible local times), as masks.
    """
    return deliver_shown(columns, lambda taken: {name: of.take(taken) for name, of in delivered.items()}, faults)


def deliver_shown(columns: Columns, show: Show, faults: Mapping[Reason, Mask] | None = None) -> Delivery:
    """Deliver readings as ``deliver_readings`` does, where it costs something to say how they stood in the file."""
    values = _check_values(columns.energy, columns.status)
    # Folded as they stand, so that what a series has in common is looked at once a series.
    raw = fold_long(
        Readings(
            metering_point_id=encode_text(columns.metering_point_id),
            product=encode_text(columns.product),
            start=_fill(columns.start.cast(_TIME).view(pa.int64()), _EARLIEST - 1),
            resolution_s=_fill(columns.resolution_s, 0).clip(0, DAY_S + 1).astype(np.int32, copy=False),
            registered_at=_fill(columns.registered_at.cast(_TIME).view(pa.int64()), _EARLIEST - 1),
            energy=values.energy,
            status=values.status,
            row=columns.row,
        )
    )
    offsets = series_offsets(raw)
    head = _check_head(*(raw.column(name) for name in _HEAD_COLUMNS))
    batch = _build(head, raw.column("row").to_numpy(), offsets, values)
    found = _unite(_of_readings(head.faults, np.diff(offsets)), values.faults, faults or {})
    if not found:
        return Delivery(batch, empty_rejected())
    codes = name_first_faults(len(columns.row), found)
    bad = np.flatnonzero(codes != ACCEPTED)
    taken = pa.array(bad)
    rejected = build_rejected(
        _show_fields(columns, show(taken), taken),
        row=columns.row[bad],
        position=np.zeros_like(bad),
        codes=codes[bad],
        decoded_energy=values.energy[bad],
    )
    return Delivery(drop_readings(batch, codes != ACCEPTED), rejected)


def deliver_series(columns: Columns, delivered: Mapping[str, pa.Array]) -> Delivery:
    """Deliver series that come one a row, with lists of energy and status.

    A series whose two lists differ in length is unreadable: as many readings are set aside as the longer one has.
    A series without readings is none.

    Args:
        columns: the decoded fields.
        delivered: the fields as they stood in the file, by ``TEXT_FIELDS``.
    """
    lengths, others = (_list_lengths(column) for column in (columns.energy, columns.status))
    unequal = lengths != others
    if unequal.any():
        rest = deliver_series(*_filter(columns, delivered, ~unequal))
        rejected = _reject_unequal(*_filter(columns, delivered, unequal))
        return Delivery(rest.series, _concat(rejected, rest.rejected))
    values = _check_values(columns.energy.flatten(), columns.status.flatten())
    head = _check_head(*(getattr(columns, name) for name in _HEAD_COLUMNS))
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    batch = _build(head, columns.row, offsets, values)
    found = _unite(_of_readings(head.faults, lengths), values.faults)
    if not found:
        return Delivery(batch.filter(pa.array(lengths > 0)) if (lengths == 0).any() else batch, empty_rejected())
    codes = name_first_faults(len(values.energy), found)
    bad = np.flatnonzero(codes != ACCEPTED)
    series = np.repeat(np.arange(len(lengths)), lengths)[bad]
    rejected = _reject_positions(
        columns, delivered, series, bad - offsets[series], codes=codes[bad], decoded_energy=values.energy[bad]
    )
    return Delivery(drop_readings(batch, codes != ACCEPTED), rejected)


def reject_rows(rows: NDArray[np.int64]) -> pa.RecordBatch:
    """Set lines aside that have no structure to read fields from: a batch of ``REJECTED_SCHEMA``.

    Args:
        rows: int64, their numbers in the file.
    """
    nothing = np.zeros_like(rows)
    codes = np.full(len(rows), REASONS.index(Reason.UNREADABLE_ROW), dtype=np.int8)
    return build_rejected({}, row=rows, position=nothing, codes=codes, decoded_energy=nothing)


def translate_words(words: pa.Array, scale: Mapping[str, Status]) -> pa.Array:
    """Translate status words (plain or dictionary-encoded) to codes, int8; null where the scale does not have one."""
    encoded = words if pa.types.is_dictionary(words.type) else words.cast(pa.string()).dictionary_encode()
    codes = [scale.get(word.strip()) if word else None for word in encoded.dictionary.to_pylist()]
    return pa.array(codes, pa.int8()).take(encoded.indices)


def is_resolution(seconds: NDArray[np.int64]) -> Mask:
    """Tell which lengths of time are a resolution of the tables: a day, or a minute or more that an hour is made of."""
    allowed: Mask = (seconds >= 60) & ((seconds == DAY_S) | (3_600 % np.maximum(seconds, 1) == 0))
    return allowed


#: The words of our own scale.
OWN_WORDS = {word: Status[word] for word in STATUS_WORDS}


def _check_head(
    metering_point_id: pa.Array, product: pa.Array, start: pa.Array, resolution_s: pa.Array, registered_at: pa.Array
) -> _Head:
    ids, products = canonical_ids(metering_point_id), canonical_products(product)
    starts, no_start = _bound(start.cast(_TIME).view(pa.int64()), _EARLIEST, _LATEST - 1)
    registered, never = _bound(registered_at.cast(_TIME).view(pa.int64()), _EARLIEST, _LATEST - 1)
    seconds, odd = _bound(resolution_s, 60, DAY_S)
    odd |= ~is_resolution(seconds)
    return _Head(
        ids,
        products,
        starts,
        seconds.astype(np.int32, copy=False),
        registered,
        {
            Reason.UNREADABLE_ROW: no_start | never | odd,
            Reason.MANGLED_IDENTIFIER: find_mangled(ids) | find_mangled(products),
        },
    )


def _check_values(energy: pa.Array, status: pa.Array) -> _Values:
    amounts, bad = _bound(energy.cast(pa.int64()), -MAX_ENERGY, MAX_ENERGY)
    codes, unknown = _bound(status, int(Status.MISSING), int(Status.REVISED))
    missing = (codes == Status.MISSING) & ~unknown
    if missing.any():
        amounts = np.where(missing, 0, amounts)
        bad &= ~missing
    faults = {Reason.BAD_ENERGY: bad, Reason.UNKNOWN_STATUS: unknown}
    return _Values(amounts, codes.astype(np.int8, copy=False), faults)


def _bound(array: pa.Array, least: int, most: int) -> tuple[NDArray[np.int64], Mask]:
    """Give integers with a mask of those that are null or outside ``least`` … ``most``; they become ``least``."""
    values = (array.fill_null(least) if array.null_count else array).to_numpy()
    outside = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else np.zeros(len(array), dtype=bool)
    if len(values) and (values.min() < least or values.max() > most):
        outside |= (values < least) | (values > most)
        values = np.where(outside, least, values)
    return values, outside


def _show_fields(columns: Columns, shown: Mapping[str, pa.Array], taken: pa.Array) -> dict[str, pa.Array]:
    """Show readings that are set aside: fields in our own form, as delivered where they could not be read.

    What a feed leaves to its mapping (unit, decimal sign, time zone, words) need not be known then to read them again.
    """
    fields = {name: render_field(name, column) for name, column in shown.items() if name in TEXT_FIELDS}
    for name, column in columns.as_delivered().items():
        if name not in _NAMES:
            own = render_field(name, column.take(taken))
            fields[name] = pc.coalesce(own, fields[name]) if name in fields else own
    return fields


def _unite(*parts: Mapping[Reason, Mask]) -> dict[Reason, Mask]:
    """Join masks of faults; a reason that applies to nothing is left out."""
    united: dict[Reason, Mask] = {}
    for part in parts:
        for reason, mask in part.items():
            if mask.any():
                united[reason] = united[reason] | mask if reason in united else mask
    return united


def _build(head: _Head, row: NDArray[np.int64], offsets: NDArray[np.int64], values: _Values) -> pa.RecordBatch:
    return build_series(
        metering_point_id=head.ids,
        product=head.products,
        start=head.start,
        resolution_s=head.resolution_s,
        registered_at=head.registered_at,
        row=row,
        offsets=offsets,
        values=(values.energy, values.status),
    )


def _of_readings(faults: Mapping[Reason, Mask], lengths: NDArray[np.int64]) -> dict[Reason, Mask]:
    """Spread faults of series over their readings."""
    return {reason: np.repeat(mask, lengths) for reason, mask in faults.items() if mask.any()}


def _fill(array: pa.Array, value: int) -> NDArray[np.int64]:
    """Give integers, with a value that is out of bounds for those that are null."""
    filled: NDArray[np.int64] = (array.fill_null(value) if array.null_count else array).to_numpy()
    return filled


def _list_lengths(lists: pa.Array) -> NDArray[np.int64]:
    lengths: NDArray[np.int64] = pc.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)
    return lengths


def _filter(columns: Columns, delivered: Mapping[str, pa.Array], kept: Mask) -> tuple[Columns, Mapping[str, pa.Array]]:
    chosen = pa.array(kept)
    names = Columns.__slots__[:-1]
    filtered = Columns(**{name: getattr(columns, name).filter(chosen) for name in names}, row=columns.row[kept])
    return filtered, {name: column.filter(chosen) for name, column in delivered.items()}


def _reject_unequal(columns: Columns, delivered: Mapping[str, pa.Array]) -> pa.RecordBatch:
    lengths = np.maximum(_list_lengths(columns.energy), _list_lengths(columns.status))
    series = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(series)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    codes = np.full(len(series), REASONS.index(Reason.UNREADABLE_ROW), dtype=np.int8)
    nothing = np.zeros(len(series), dtype=np.int64)
    return _reject_positions(columns, delivered, series, position, codes=codes, decoded_energy=nothing)


def _reject_positions(
    columns: Columns,
    delivered: Mapping[str, pa.Array],
    series: NDArray[np.int64],
    position: NDArray[np.int64],
    *,
    codes: NDArray[np.int8],
    decoded_energy: NDArray[np.int64],
) -> pa.RecordBatch:
    heads = pa.array(series)
    fields = {name: delivered[name].take(heads) for name in _HEAD_FIELDS if name in delivered}
    for name in ("energy", "status"):
        lengths = _list_lengths(delivered[name])
        flat = (np.cumsum(lengths) - lengths)[series] + position
        fields[name] = delivered[name].flatten().take(pa.array(flat, mask=position >= lengths[series]))
    return build_rejected(
        fields, row=columns.row[series], position=position, codes=codes, decoded_energy=decoded_energy
    )


def _concat(*batches: pa.RecordBatch) -> pa.RecordBatch:
    return pa.concat_batches(batches)
