"""The merge by brute force: a plain reading of the rules over the set of all deliveries, against the fold."""

import itertools
import random
from collections import defaultdict
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.flags import Flag
from schemas.series import ACTIVE_ENERGY, DAY_S, SERIES_SCHEMA
from schemas.status import Status
from transforms.calendar import local_calendar, to_day
from transforms.decimals import as_int64_units
from transforms.fold import fold
from transforms.pieces import Cell, locate, split_by_cell
from transforms.rows import Order, flatten_cell, repeat_runs
from transforms.state import frame_rows, status_codes

CALENDAR = local_calendar("Europe/Helsinki")
DAY = to_day(date(2026, 3, 29))  # 23 hours
START = int(CALENDAR.start_of(np.array([DAY]))[0])
STATE = ("point", "resolution", "start", "energy", "status", "registered", "conflict", "rival", "daily_rival")


@dataclass(frozen=True, order=True)
class Delivered:
    point: str
    resolution: int
    slot: int
    registered: int
    status: int
    energy: int

    @property
    def start(self):
        return START + self.slot * self.resolution * 1_000_000

    @property
    def hour(self):
        return self.slot * self.resolution // 3600


def frames_of(deliveries):
    """Frames as the pipeline makes them: here every reading is a series of its own."""
    columns = {
        "metering_point_id": [d.point for d in deliveries],
        "product": [ACTIVE_ENERGY] * len(deliveries),
        "start": pa.array([d.start for d in deliveries], pa.int64()).cast(pa.timestamp("us", "UTC")),
        "resolution_s": pa.array([d.resolution for d in deliveries], pa.int32()),
        "registered_at": pa.array([d.registered for d in deliveries], pa.int64()).cast(pa.timestamp("us", "UTC")),
        "energy": [[d.energy] for d in deliveries],
        "status": [[d.status] for d in deliveries],
        "row": list(range(1, len(deliveries) + 1)),
        "position": [0] * len(deliveries),
    }
    batch = pa.RecordBatch.from_pydict(columns, schema=SERIES_SCHEMA)
    found = list(split_by_cell(batch, locate(batch, CALENDAR), 1))
    assert [cell for cell, _ in found] == [Cell(DAY, 0)]
    return [frame for _, frame in found]


def as_base(cell):
    """Rows of a folded cell as they are read back from operational.readings."""
    point, rows = flatten_cell(cell, {}, CALENDAR)
    of_groups = {"metering_point_id": cell.ids.take(pa.array(point)), **rows.columns}
    columns = {name: repeat_runs(rows.spread(column)) for name, column in of_groups.items()}
    columns |= {name: make(Order.of(rows.groups)) for name, make in rows.flat.items()}
    return pa.table(columns)


def state_of(rows, size=4):
    """The same as frames, block by block, of a few rows each: pieces then end anywhere."""
    return [frame_rows(rows.slice(at, size), START) for at in range(0, len(rows), size)]


def rows_of(base):
    """Comparable rows of a folded cell."""
    flags = base["flags"].to_pylist()
    return list(
        zip(
            base["metering_point_id"].to_pylist(),
            base["resolution_s"].to_pylist(),
            base["start"].cast(pa.int64()).to_pylist(),
            as_int64_units(base["energy"].combine_chunks()).tolist(),
            status_codes(base["status"].combine_chunks()).tolist(),
            base["registered_at"].cast(pa.int64()).to_pylist(),
            [flag & Flag.CONFLICTING_DUPLICATE for flag in flags],
            base["rival_registered_at"].cast(pa.int64()).to_pylist(),
            base["daily_rival_registered_at"].cast(pa.int64()).to_pylist(),
            [flag & Flag.RIVAL_FINER for flag in flags],
            strict=True,
        )
    )


def run(batches):
    """Fold batches of deliveries, one run after the other; return the rows and the totals over all runs."""
    base, totals = pa.table({}), defaultdict(int)
    for deliveries in batches:
        cell, tally = fold(frames_of(deliveries), state_of(base), DAY, CALENDAR)
        before = tally.before
        base = as_base(cell)
        lost, lost_energy = sum(tally.superseded.counts.values()), sum(tally.superseded.energies.values())
        assert tally.incoming + before == len(base) + lost
        energy = int(as_int64_units(base["energy"].combine_chunks()).sum())
        assert tally.incoming_energy + tally.before_energy == energy + lost_energy
        totals["superseded"] += lost
        totals["superseded_energy"] += lost_energy
    return rows_of(base), dict(totals)


def expected(deliveries):
    """The rules of the merge, read literally over the set of all deliveries."""
    slots = defaultdict(list)
    for d in deliveries:
        slots[d.point, d.resolution, d.slot].append(d)
    rows = []
    for d in (max(same, key=lambda d: (d.registered, d.status, d.energy)) for same in slots.values()):
        same = [e for e in slots[d.point, d.resolution, d.slot] if e.registered == d.registered]
        others = [e for e in deliveries if e.point == d.point and e.resolution != d.resolution]
        if d.resolution == DAY_S:
            rivals, daily = others, []
        else:
            rivals = [e for e in others if e.resolution != DAY_S and e.hour == d.hour]
            daily = [e for e in others if e.resolution == DAY_S]
        if any((e.registered, -e.resolution) > (d.registered, -d.resolution) for e in rivals + daily):
            continue
        day_rival = max((e.registered for e in daily), default=None)
        rival = None if d.resolution == DAY_S else max((e.registered for e in rivals), default=None)
        if rival is not None and day_rival is not None and rival < day_rival:
            rival = None  # whatever it would beat, the daily rival beats too
        finer = rival is not None and any(e.resolution < d.resolution and e.registered == rival for e in rivals)
        conflict = len({(e.status, e.energy) for e in same}) > 1
        key = (d.point, d.resolution, d.start, d.energy, d.status, d.registered)
        rows.append((*key, int(conflict), rival, day_rival, int(finer) * Flag.RIVAL_FINER))
    return sorted(rows)


def random_history(rng, resolutions, size):
    deliveries = []
    for _ in range(size):
        resolution = rng.choice(resolutions)
        slots = 1 if resolution == DAY_S else min(2 * 3600 // resolution, 8)
        status = rng.choice([Status.MISSING, Status.ESTIMATED, Status.OK])
        deliveries.append(
            Delivered(
                point=rng.choice("AB"),
                resolution=resolution,
                slot=rng.randrange(slots),
                registered=START + DAY_S * 1_000_000 + rng.randrange(4),
                status=int(status),
                energy=0 if status is Status.MISSING else rng.randrange(3),
            )
        )
    return deliveries


@pytest.mark.parametrize(
    "resolutions", [(900, 3600), (900, 1800, 3600), (900, 3600, DAY_S)], ids=["two", "three", "daily"]
)
def test_all_orders_and_splits_of_small_histories_end_in_the_same_rows(resolutions):
    rng = random.Random(2026)
    for _ in range(12):
        history = random_history(rng, resolutions, 4)
        wanted = expected(history)
        superseded = None
        for order in itertools.permutations(history):
            for split in range(1, 4):
                rows, totals = run([batch for batch in (order[:split], order[split:]) if batch])
                assert sorted(rows) == wanted, order
                superseded = superseded or totals
                assert totals == superseded


@given(st.randoms(use_true_random=False), st.integers(1, 60), st.sampled_from([(900, 3600), (900, 1800, 3600, DAY_S)]))
def test_random_histories_in_random_runs_end_as_the_rules_say(rng, size, resolutions):
    history = random_history(rng, resolutions, size)
    batches = []
    rest = [*history]
    rng.shuffle(rest)
    while rest:
        count = rng.randint(1, len(rest))
        batches.append(rest[:count])
        rest = rest[count:]
    rows, totals = run(batches)
    assert sorted(rows) == expected(history)
    assert totals["superseded"] == len(history) - len(rows)


def test_delivering_everything_again_changes_nothing():
    history = random_history(random.Random(5), (900, 3600), 40)
    once, _ = run([history])
    twice, _ = run([history, history])
    assert once == twice


def test_rows_come_sorted_by_point_product_resolution_and_start():
    rows, _ = run([random_history(random.Random(6), (900, 3600), 60)])
    keys = [row[:3] for row in rows]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def test_a_whole_day_at_once_equals_the_same_day_slot_by_slot():
    rng = np.random.default_rng(1)
    energy = rng.integers(0, 5000, (3, 92))
    batch = pa.RecordBatch.from_pydict(
        {
            "metering_point_id": ["B", "A", "C"],
            "product": [ACTIVE_ENERGY] * 3,
            "start": pa.array([START] * 3, pa.int64()).cast(pa.timestamp("us", "UTC")),
            "resolution_s": pa.array([900] * 3, pa.int32()),
            "registered_at": pa.array([START + 10**12] * 3, pa.int64()).cast(pa.timestamp("us", "UTC")),
            "energy": energy.tolist(),
            "status": [[int(Status.OK)] * 92] * 3,
            "row": [1, 2, 3],
            "position": [0, 0, 0],
        },
        schema=SERIES_SCHEMA,
    )
    [(_, frame)] = split_by_cell(batch, locate(batch, CALENDAR), 1)
    whole = rows_of(as_base(fold([frame], [], DAY, CALENDAR)[0]))
    single = [
        Delivered("BAC"[p], 900, slot, START + 10**12, int(Status.OK), int(energy[p, slot]))
        for p in range(3)
        for slot in range(92)
    ]
    assert whole == run([single])[0]
