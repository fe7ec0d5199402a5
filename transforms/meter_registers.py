"""Register values of meters, which only grow, to the energy of intervals: the difference of two reads that follow."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.series import DAY_S
from transforms.calendar import US_PER_S

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: By how much two midnights may lie further apart than 24 hours, or less far.
_CLOCK_CHANGE_US = 3_600 * US_PER_S


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads of registers, one an element, in any order.

    Attributes:
        stream: int64, equal for reads of one metering point and product.
        meter: int64, equal for reads of one device.
        time: int64, microseconds UTC.
        value: int64, what the register shows, in the unit of the results.
    """

    stream: Ints
    meter: Ints
    time: Ints
    value: Ints


class Intervals(NamedTuple):
    """What each read says, in the order of the reads.

    Attributes:
        made: the read ends an interval.
        broken: what the register counted up to this read is no energy of one interval.
        earlier: int64, the read that begins the interval; itself where none is made.
        energy: int64, of the interval; 0 where none is made.
    """

    made: Mask
    broken: Mask
    earlier: Ints
    energy: Ints


def difference(reads: Reads, resolution_s: int, modulus: int, most: int) -> Intervals:
    """Take differences of reads that follow each other by one resolution.

    The first read of a stream ends no interval, and a read that comes again says nothing new. Broken are reads of one
    time that show different values, reads after a gap, the first of a new device, and those whose difference, with a
    rollover where the register fell, is more than an interval can have: nothing says in which interval it was used.

    Args:
        reads: the reads.
        resolution_s: length of an interval; a day may be an hour shorter or longer.
        modulus: the first value that the register can't show.
        most: the most that an interval can have.
    """
    count = len(reads.time)
    order = np.lexsort((reads.time, reads.stream))
    stream, meter, time, value = (getattr(reads, name)[order] for name in ("stream", "meter", "time", "value"))
    again = np.zeros(count, bool)
    again[1:] = (stream[1:] == stream[:-1]) & (time[1:] == time[:-1])
    differs = np.zeros(count, bool)
    differs[1:] = again[1:] & ((value[1:] != value[:-1]) | (meter[1:] != meter[:-1]))
    moment = np.cumsum(~again)
    contradicted = (np.bincount(moment, weights=differs, minlength=1) > 0)[moment]

    kept = np.flatnonzero(~again & ~contradicted)
    before, after = kept[:-1], kept[1:]
    followed = stream[before] == stream[after]
    grown = value[after] - value[before]
    grown = np.where(grown < 0, grown + modulus, grown)
    slack = _CLOCK_CHANGE_US if resolution_s == DAY_S else 0
    fits = np.abs(time[after] - time[before] - resolution_s * US_PER_S) <= slack
    fits &= (meter[before] == meter[after]) & (grown <= most)

    made, broken = np.zeros(count, bool), np.zeros(count, bool)
    earlier, energy = np.arange(count), np.zeros(count, np.int64)
    broken[order[contradicted]] = True
    broken[order[after[followed & ~fits]]] = True
    ends, begins = order[after[followed & fits]], order[before[followed & fits]]
    made[ends], earlier[ends], energy[ends] = True, begins, grown[followed & fits]
    return Intervals(made, broken, earlier, energy)
