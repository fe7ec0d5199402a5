from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from series_batches import MAX_ENERGY, Reading, make_batch, place, read_batch, series

from transforms.calendar import local_calendar
from transforms.pieces import locate
from transforms.validate import validate

CALENDAR = local_calendar("Europe/Helsinki")


def judge(reading: Reading) -> str:
    """Say what is wrong with a reading, the first of the rules that it breaks."""
    if abs(reading.energy) > MAX_ENERGY:
        return "bad_energy"
    if reading.status not in range(7):
        return "unknown_status"
    placed = place(reading)
    if placed is None:
        return "off_grid"
    return "future" if placed.start > reading.registered else ""


@given(st.lists(series(sound=False), max_size=6))
def test_every_reading_stays_or_is_set_aside_for_its_first_fault(many):
    judged = [(reading, judge(reading)) for one in many for reading in one.readings()]
    batch = make_batch(many)
    rest, pieces, rejected = validate(batch, CALENDAR)
    assert Counter(read_batch(rest)) == Counter(reading for reading, reason in judged if not reason)
    found = Counter(reason for part in rejected for reason in part["reason"].to_pylist())
    assert found == Counter(reason for _, reason in judged if reason)
    places = {(row["row"], row["position"]): row["reason"] for part in rejected for row in part.to_pylist()}
    expected, number = {}, 0
    for row, one in enumerate(many, start=1):
        for position in range(len(one.energy)):
            reason = judged[number][1]
            number += 1
            if reason:
                expected[row, position] = reason
    assert places == expected
    assert pieces.on_grid.all()
    assert pieces.offset.tolist() == locate(rest, CALENDAR).offset.tolist()


@given(st.lists(series(sound=False), max_size=6))
def test_counts_and_energy_are_conserved(many):
    batch = make_batch(many)
    rest, _, rejected = validate(batch, CALENDAR)
    delivered = [0 if abs(reading.energy) > MAX_ENERGY else reading.energy for reading in read_batch(batch)]
    kept = [reading.energy for reading in read_batch(rest)]
    assert len(delivered) == len(kept) + sum(part.num_rows for part in rejected)
    assert sum(delivered) == sum(kept) + sum(sum(part["decoded_energy"].to_pylist()) for part in rejected)


@given(st.lists(series(), min_size=1, max_size=4))
def test_a_sound_batch_is_handed_on_as_it_is(many):
    batch = make_batch(many)
    rest, _, rejected = validate(batch, CALENDAR)
    assert rest is batch
    assert rejected == []
