"""Random series batches around clock changes, and a slow, plain reading of them."""

from datetime import date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from schemas.series import SERIES_SCHEMA
from transforms.calendar import US_PER_S
from transforms.series import build_series, flat_energy, flat_status, series_offsets

ZONE = ZoneInfo("Europe/Helsinki")
DAY = 86_400
PRODUCT = "8716867000030"
#: Two days before either clock change of 2026.
AROUND = (date(2026, 3, 27), date(2026, 10, 23))
MAX_ENERGY = 99_999_999_999_999


class Reading(NamedTuple):
    point: str
    product: str
    resolution: int
    start: int  # seconds
    registered: int
    energy: int
    status: int


def midnight(day: date) -> int:
    return int(datetime.combine(day, time(), ZONE).timestamp())


def local_date(start: int) -> date:
    return datetime.fromtimestamp(start, ZONE).date()


class Series(NamedTuple):
    point: str
    resolution: int
    start: int
    registered: int
    energy: list[int]
    status: list[int]

    def readings(self) -> list[Reading]:
        """List the readings; those of a daily series stand 24 hours apart."""
        return [
            Reading(self.point, PRODUCT, self.resolution, self.start + nth * self.resolution, self.registered, *values)
            for nth, values in enumerate(zip(self.energy, self.status, strict=True))
        ]


def place(reading: Reading) -> Reading | None:
    """Put a reading where it belongs: a daily one on the midnight at most an hour away; None off the grid."""
    if reading.resolution == DAY:
        near = midnight(local_date(reading.start + DAY // 2))
        return reading._replace(start=near) if abs(reading.start - near) <= 3600 else None
    off = (reading.start - midnight(local_date(reading.start))) % reading.resolution
    return None if off else reading


def make_batch(series: list[Series]) -> pa.RecordBatch:
    if not series:
        return pa.RecordBatch.from_pylist([], schema=SERIES_SCHEMA)
    lengths = [len(one.energy) for one in series]
    return build_series(
        metering_point_id=pa.array([one.point for one in series]),
        product=pa.array([PRODUCT] * len(series)),
        start=np.array([one.start for one in series], np.int64) * US_PER_S,
        resolution_s=np.array([one.resolution for one in series], np.int32),
        registered_at=np.array([one.registered for one in series], np.int64) * US_PER_S,
        row=np.arange(1, len(series) + 1),
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        values=(
            np.array([value for one in series for value in one.energy], np.int64),
            np.array([value for one in series for value in one.status], np.int8),
        ),
    )


def read_batch(batch: pa.RecordBatch) -> list[Reading]:
    """List the readings of a batch, one by one."""
    offsets = series_offsets(batch)
    energy, status = flat_energy(batch).tolist(), flat_status(batch).tolist()
    found = []
    for number, row in enumerate(batch.drop_columns(["energy", "status"]).to_pylist()):
        part = slice(offsets[number], offsets[number + 1])
        series = Series(
            row["metering_point_id"],
            row["resolution_s"],
            int(row["start"].timestamp()),
            int(row["registered_at"].timestamp()),
            energy[part],
            status[part],
        )
        found += series.readings()
    return found


@st.composite
def series(draw, *, sound: bool = True) -> Series:
    """Draw a series of up to three days; with faults where it need not be sound."""
    resolution = draw(st.sampled_from([900, 1800, 3600, DAY]))
    begin = midnight(draw(st.sampled_from(AROUND)) + timedelta(days=draw(st.integers(0, 3))))
    if resolution != DAY:
        begin += draw(st.integers(0, 100)) * resolution
    length = draw(st.integers(1, 4 if resolution == DAY else 200))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    status = random.choice([0, 3, 5, 5, 5, 6], length)
    energy = np.where(status == 0, 0, random.integers(-(10**7), 10 ** draw(st.sampled_from([7, 13])), length))
    registered = begin + 40 * DAY
    if not sound:
        energy = np.where(random.random(length) < 0.05, random.choice([MAX_ENERGY + 1, -(2**62)], length), energy)
        status = np.where(random.random(length) < 0.05, random.choice([-1, 7, 99], length), status)
        begin += draw(st.sampled_from([0, 0, 0, 1, 60, 3600, DAY]))
        registered = begin + draw(st.sampled_from([40 * DAY, DAY, 5 * 3600, 0, -1]))
    point = f"P{draw(st.integers(0, 5))}"
    return Series(point, resolution, begin, registered, energy.tolist(), status.tolist())
