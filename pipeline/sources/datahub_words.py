"""Words that the Finnish Datahub's formats share."""

import pyarrow as pa
import pyarrow.compute as pc

from schemas.series import ACTIVE_ENERGY
from schemas.status import Status

#: Qualities as the portal's export and the JSON interface say them.
QUALITIES = {
    status.name: status for status in (Status.MISSING, Status.UNCERTAIN, Status.ESTIMATED, Status.OK, Status.REVISED)
}


def name_units(product: pa.Array, unit: pa.Array) -> pa.Array:
    """Name the unit of each series as active energy has it; reactive energy alone may have var-hours."""
    active = pc.is_in(product, pa.array(["", "0", ACTIVE_ENERGY]))
    return pc.if_else(active, unit, pc.replace_substring_regex(unit, "(?i)var", "W"))
