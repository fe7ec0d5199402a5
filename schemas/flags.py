"""Flags of a reading: what was noticed about it, without rejecting it."""

from enum import IntFlag


class Flag(IntFlag):
    """Bits of ``operational.readings.flags`` (int32)."""

    #: Two deliveries with the same registration time disagreed; the winner is by the rule of the merge.
    CONFLICTING_DUPLICATE = 1 << 0
    #: The rival that ``rival_registered_at`` remembers is of a finer resolution (it wins at an equal time).
    RIVAL_FINER = 1 << 1
    #: Energy below zero.
    NEGATIVE = 1 << 2
    #: More than the main fuse of the site carries in the interval.
    ABOVE_FUSE = 1 << 3
    #: The metering point's check digit is wrong, or it is neither a GSRN nor a stream of an NMI.
    CHECK_DIGIT = 1 << 4
    #: The reference knows the point, and no contract covers it on this local date.
    NO_CONTRACT = 1 << 5
    #: The reference does not know the metering point.
    UNKNOWN_POINT = 1 << 6
    #: Two contracts cover this point on this date; the later signed one was taken.
    OVERLAPPING_CONTRACTS = 1 << 7
    #: One value, not zero, repeated for many hours.
    FLAT = 1 << 8
    #: Far above what the point uses on that day.
    SPIKE = 1 << 9
    #: Zeros followed by one value that makes up for them.
    STALE_THEN_DOUBLE = 1 << 10


#: Flags that are part of the merge's state; every other flag is found again from the rows and the reference.
MERGE_FLAGS = Flag.CONFLICTING_DUPLICATE | Flag.RIVAL_FINER
