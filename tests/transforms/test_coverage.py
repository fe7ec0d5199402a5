import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from schemas.series import DAY_S, SERIES_SCHEMA
from transforms.calendar import local_calendar, to_day
from transforms.coverage import add_coverage, cover

CALENDAR = local_calendar("Europe/Helsinki")
BEGIN = 1_767_225_600  # 2026-01-01T00:00:00Z


def make_batch(series):
    rows = [
        {
            "metering_point_id": point,
            "product": "P",
            "start": start * 1_000_000,
            "resolution_s": resolution,
            "registered_at": 0,
            "energy": [1] * length,
            "status": [5] * length,
            "row": 1,
            "position": 0,
        }
        for point, start, resolution, length in series
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SERIES_SCHEMA)


SERIES = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(0, 8), st.sampled_from([900, 3600]), st.integers(1, 6)), max_size=8
)


@given(st.lists(SERIES, min_size=1, max_size=4))
def test_it_is_the_union_whatever_the_batches_are(batches):
    covered = set()
    total = None
    for batch in batches:
        series = [(point, BEGIN + slot * step, step, length) for point, slot, step, length in batch]
        covered |= {(point, step, start + n * step) for point, start, step, length in series for n in range(length)}
        part = cover(make_batch(series), CALENDAR)
        total = add_coverage(total, part) if total else part
    points = total.point.to_pylist()
    found = {
        (point, int(step), start)
        for point, step, first, end in zip(points, total.resolution_s, total.start, total.end, strict=True)
        for start in range(int(first), int(end), int(step))
    }
    assert found == covered
    assert total.readings.sum() == len(covered)
    streams = {(point, step) for point, step, _ in covered}
    assert len(total.firsts) == len(streams)
    missing = 0
    for stream in streams:
        starts = sorted(start for *of, start in covered if tuple(of) == stream)
        missing += (starts[-1] - starts[0]) // stream[1] + 1 - len(starts)
    assert total.gaps.sum() == missing
    merged = list(zip(points, total.resolution_s, total.start, strict=True))
    assert merged == sorted(merged, key=lambda stretch: (points.index(stretch[0]), *stretch[1:]))


def test_a_long_stretch_reaches_over_a_short_one():
    found = cover(make_batch([("A", BEGIN, 900, 6), ("A", BEGIN + 900, 900, 1), ("A", BEGIN + 3600, 900, 3)]), CALENDAR)
    assert (found.readings.tolist(), found.gaps.tolist()) == ([7], [0])


def test_daily_values_meet_where_the_clock_changes():
    starts = CALENDAR.start_of(
        np.array([to_day(day) for day in np.arange("2026-03-27", "2026-03-31", dtype="M8[D]").astype(object)])
    )
    series = [("A", int(start) // 1_000_000, DAY_S, 1) for start in starts]
    found = cover(make_batch(series), CALENDAR)
    assert (found.readings.tolist(), found.gaps.tolist()) == ([4], [0])
