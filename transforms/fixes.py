"""Readings on their way back from quarantine: which of them they are, and what a fix says of their fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.reasons import Reason
from transforms.rejected import TEXT_FIELDS
from transforms.series import canonical_ids, find_mangled

#: A row's place in its input, in one integer: positions are below this.
_POSITIONS = 1 << 24
#: How an energy stands that could be read, in kWh; anything else is as it was delivered, in a unit that nobody knows.
_READ_ENERGY = r"^-?[0-9]+\.[0-9]{6}$"
#: Reasons under which nothing says that the energy is what it seems to be.
_DOUBTFUL = pa.array([Reason.BAD_ENERGY, Reason.UNREADABLE_ROW])

#: What a fix says row by row. A null says nothing of its field.
CORRECTION_SCHEMA = pa.schema(
    [
        pa.field("file_digest", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        *(pa.field(name, pa.string()) for name in TEXT_FIELDS),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Fix:
    """What readings in quarantine should say; nothing by default, and they are tried again as they stand.

    Attributes:
        metering_point: id of those whose id is mangled; empty for none.
        words: status words as delivered to words of our scale.
        rows: of ``CORRECTION_SCHEMA``, each reading once.
    """

    metering_point: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    rows: pa.Table = field(default_factory=CORRECTION_SCHEMA.empty_table)


def number_places(rows: pa.Table) -> NDArray[np.int64]:
    """Give a number to the place, ``row`` and ``position``, of each reading in its input; different for any two."""
    row, position = (rows[name].to_numpy().astype(np.int64) for name in ("row", "position"))
    places: NDArray[np.int64] = row * _POSITIONS + position
    return places


def find_places(rows: pa.Table, among: pa.Table) -> NDArray[np.bool_]:
    """Tell which readings of one input are among others of it; both have ``row`` and ``position``."""
    found: NDArray[np.bool_] = np.isin(number_places(rows), number_places(among))
    return found


def apply_fix(digest: str, rows: pa.Table, fix: Fix) -> dict[str, pa.Array]:
    """Say what the readings of an input are by a fix: their fields as text, by ``TEXT_FIELDS``.

    An energy that could not be read when it was delivered is null, unless the fix says another: its unit is unknown.

    Args:
        digest: the input's.
        rows: of the view ``quarantine``, all of that input.
        fix: what they should say.
    """
    fields = {name: rows[name].combine_chunks() for name in TEXT_FIELDS}
    if fix.metering_point:
        mangled = find_mangled(canonical_ids(fields["metering_point_id"]))
        fields["metering_point_id"] = pc.if_else(mangled, fix.metering_point, fields["metering_point_id"])
    if fix.words:
        meant = pc.index_in(pc.utf8_trim_whitespace(fields["status"]), pa.array(fix.words))
        fields["status"] = pc.coalesce(pa.array(fix.words.values()).take(meant), fields["status"])
    own = fix.rows.filter(pc.equal(fix.rows["file_digest"], digest))
    place = pc.index_in(pa.array(number_places(rows)), pa.array(number_places(own)))
    said = {name: own[name].combine_chunks().take(place) for name in TEXT_FIELDS}
    # A cell that repeats what stands there corrects nothing.
    new_energy = pc.fill_null(pc.not_equal(said["energy"], pc.fill_null(fields["energy"], "")), fill_value=False)
    trusted = pc.and_(
        pc.invert(pc.is_in(rows["reason"].combine_chunks(), _DOUBTFUL)),
        pc.fill_null(pc.match_substring_regex(fields["energy"], _READ_ENERGY), fill_value=False),
    )
    fields = {name: pc.coalesce(said[name], fields[name]) for name in TEXT_FIELDS}
    fields["energy"] = pc.if_else(pc.or_(new_energy, trusted), fields["energy"], None)
    return fields
