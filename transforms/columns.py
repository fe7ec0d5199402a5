"""The rules of a policy as column operations, meant for distinct values: those of a dictionary, not of every row."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.plan import Band, Column, Keep, Mask, PostalPrefix, Pseudonymise, Round, Year
from transforms.pseudonym import pseudonymise

#: Type of rounded decimals.
ROUNDED = pa.decimal64(18, 6)


def apply_rule(column: Column, values: pa.Array, subkey: bytes = b"") -> pa.Array:
    """Make a column's values from those of its source field.

    Args:
        column: the column; its rule decides.
        values: array of the source field's type in the view; nulls stay null.
        subkey: of the column's entity, in the domain and epoch of the dataset; only for ``Pseudonymise``.

    Returns:
        Array of ``column.type``, of the same length.

    Raises:
        ValueError: a pseudonym without a subkey.
    """
    match column.rule:
        case Keep():
            made = values
        case Pseudonymise():
            if not subkey:
                raise ValueError(f"{column.name} needs a subkey")
            made = pseudonymise(subkey, values)
        case PostalPrefix(digits):
            made = cut_postal_code(values, digits)
        case Band(edges):
            made = sort_into_bands(values, edges)
        case Year():
            made = pc.year(values)
        case Round(step):
            made = round_decimals(values, step)
        case Mask(keep_last):
            made = mask_text(values, keep_last)
    return made if made.type == column.type else made.cast(column.type)


def cut_postal_code(codes: pa.Array, digits: int) -> pa.Array:
    """Keep the first digits of postal codes.

    What does not start with that many digits is no postal code and could be anything: it becomes null.
    """
    return pc.struct_field(pc.extract_regex(codes, f"^(?P<prefix>[0-9]{{{digits}}})"), "prefix")


def sort_into_bands(values: pa.Array, edges: tuple[int, ...]) -> pa.Array:
    """Name the band of every integer: ``<25``, ``25-34``, ``>=35`` for the edges 25 and 35.

    Args:
        values: integer array.
        edges: ascending; each is the first value of the band above it.
    """
    inner = [f"{low}-{high - 1}" if high - low > 1 else f"{low}" for low, high in pairwise(edges)]
    labels = pa.array([f"<{edges[0]}", *inner, f">={edges[-1]}"])
    band = np.searchsorted(np.asarray(edges), values.fill_null(0).to_numpy(), side="right")
    return labels.take(pa.array(band, mask=values.is_null().to_numpy(zero_copy_only=False)))


def round_decimals(values: pa.Array, step: int) -> pa.Array:
    """Round decimals with six places to the nearest multiple of a step, in integers; halves go to the even multiple.

    Args:
        values: array of ``decimal64(p, 6)``.
        step: in millionths of the unit, positive: milliwatt-hours for kWh.

    Returns:
        Array of ``decimal64(18, 6)``: rounding up may need a digit more.
    """
    millionths = pa.Array.from_buffers(pa.int64(), len(values), values.buffers(), offset=values.offset)
    multiple, rest = np.divmod(millionths.fill_null(0).to_numpy(), step)
    multiple += (2 * rest > step) | ((2 * rest == step) & (multiple % 2 == 1))
    rounded = pa.array(multiple * step, mask=values.is_null().to_numpy(zero_copy_only=False))
    return pa.Array.from_buffers(ROUNDED, len(rounded), rounded.buffers())


def mask_text(values: pa.Array, keep_last: int) -> pa.Array:
    """Replace all but the last characters by ``*``; text that is no longer than what would stay is hidden whole."""
    lengths = pc.utf8_length(values)
    hidden = pc.if_else(pc.greater(lengths, keep_last), pc.subtract(lengths, keep_last), lengths)
    # A slice of nothing starts at the end: a negative start of 0 would be the whole text.
    tails = pc.utf8_slice_codeunits(values, -keep_last) if keep_last else pc.utf8_slice_codeunits(values, 0, 0)
    tails = pc.if_else(pc.greater(lengths, keep_last), tails, "")
    return pc.binary_join_element_wise(pc.binary_repeat("*", hidden), tails, "")
