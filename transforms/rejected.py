"""Readings that are set aside: the reason of each, its fields as text, and the batches that hold them."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.reasons import Reason
from schemas.series import REJECTED_SCHEMA
from schemas.status import STATUS_WORDS
from transforms.decimals import as_decimal

#: Reasons by code, in the order of precedence.
REASONS = tuple(Reason)
#: The code of a reading that has no fault.
ACCEPTED = -1

#: Reasons under which the energy does not count in sums: it could not be decoded, or nothing says what it is.
_WITHOUT_ENERGY = [REASONS.index(Reason.UNREADABLE_ROW), REASONS.index(Reason.BAD_ENERGY)]
#: Fields of a reading that quarantine shows as text.
TEXT_FIELDS = ("metering_point_id", "product", "start", "resolution", "registered_at", "energy", "status")
_REASON_WORDS = pa.array([str(reason) for reason in REASONS])
_KWH = pa.decimal64(18, 6)


def name_first_faults(count: int, faults: Mapping[Reason, NDArray[np.bool_]]) -> NDArray[np.int8]:
    """Give the code in ``REASONS`` of each reading's first fault, ``ACCEPTED`` where it has none.

    Args:
        count: how many readings there are.
        faults: reason to a mask of the readings that it applies to.
    """
    codes = np.full(count, ACCEPTED, dtype=np.int8)
    for code, reason in reversed(list(enumerate(REASONS))):
        if reason in faults:
            codes[faults[reason]] = code
    return codes


def build_rejected(
    fields: Mapping[str, pa.Array],
    *,
    row: NDArray[np.int64],
    position: NDArray[np.int64],
    codes: NDArray[np.int8],
    decoded_energy: NDArray[np.int64],
) -> pa.RecordBatch:
    """Put a batch of ``REJECTED_SCHEMA`` together.

    Args:
        fields: of ``TEXT_FIELDS``, those that are known, in any type that ``render_field`` takes.
        row: int64, where each reading stands in the file.
        position: place inside its series.
        codes: index into ``REASONS``; none is ``ACCEPTED``.
        decoded_energy: int64, milliwatt-hours; it counts as 0 for an unreadable row or a bad energy.
    """
    worthless = np.isin(codes, _WITHOUT_ENERGY)
    unknown = pa.nulls(len(row), pa.string())
    return pa.RecordBatch.from_arrays(
        [
            pa.array(row),
            pa.array(position.astype(np.int32)),
            _REASON_WORDS.take(pa.array(codes)),
            *(render_field(name, fields[name]) if name in fields else unknown for name in TEXT_FIELDS),
            pa.array(np.where(worthless, 0, decoded_energy)),
        ],
        schema=REJECTED_SCHEMA,
    )


def empty_rejected() -> pa.RecordBatch:
    """Make a batch of ``REJECTED_SCHEMA`` without a row."""
    return pa.RecordBatch.from_pylist([], schema=REJECTED_SCHEMA)


def render_field(name: str, array: pa.Array) -> pa.Array:
    """Write a field as text: times as ISO 8601, seconds as a duration, milliwatt-hours as kWh, codes as words.

    Args:
        name: of ``TEXT_FIELDS``.
        array: text (which stays as it is, dictionary-encoded or not), timestamps, or numbers.

    Returns:
        strings; null where the array is.
    """
    if pa.types.is_timestamp(array.type):
        return pc.replace_substring_regex(pc.strftime(array, "%Y-%m-%dT%H:%M:%SZ"), r"\.0+Z$", "Z")
    if not pa.types.is_integer(array.type):
        return array.cast(pa.string())
    if name == "energy":
        return _render_energy(array.cast(pa.int64()))
    if name in ("resolution", "status"):
        words = array.cast(pa.int64()).dictionary_encode()
        word = _render_resolution if name == "resolution" else _render_status
        texts = pa.array([word(value) for value in words.dictionary.to_pylist()], pa.string())
        return texts.take(words.indices)
    return array.cast(pa.string())


def _render_energy(energy: pa.Array) -> pa.Array:
    return as_decimal(energy, _KWH).cast(pa.string())


def _render_resolution(seconds: int) -> str:
    for unit, length in (("P{}D", 86_400), ("PT{}H", 3_600), ("PT{}M", 60)):
        if seconds and seconds % length == 0:
            return unit.format(seconds // length)
    return f"PT{seconds}S"


def _render_status(code: int) -> str:
    return STATUS_WORDS[code] if 0 <= code < len(STATUS_WORDS) else str(code)
