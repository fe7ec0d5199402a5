"""Why a reading is set aside in quarantine. The order is that of precedence: the first that applies is named."""

from enum import StrEnum


class Reason(StrEnum):
    """Reason codes of ``operational.quarantine_readings``."""

    #: The row has no structure to read fields from (columns missing, list lengths differ, no start, odd resolution).
    UNREADABLE_ROW = "unreadable_row"
    #: The metering point id is empty or was turned into exponent form by a spreadsheet.
    MANGLED_IDENTIFIER = "mangled_identifier"
    #: A local time that occurs twice, without an offset or an order that tells which.
    AMBIGUOUS_LOCAL_TIME = "ambiguous_local_time"
    #: Not a number, not finite, absent without being MISSING, or beyond 99,999,999.999999 kWh either way.
    BAD_ENERGY = "bad_energy"
    #: A status word or code that is not on the scale of its format.
    UNKNOWN_STATUS = "unknown_status"
    #: The start is not on the grid of its resolution.
    OFF_GRID = "off_grid"
    #: The start lies after the reading's own registration time.
    FUTURE = "future"
    #: What a register counted up to this read is no energy of one interval: a gap, reads that are months apart, a new
    #: meter, a fall that is no rollover, more than an interval can have, or two values at one time.
    REGISTER_BREAK = "register_break"
