import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reasons import Reason
from schemas.series import ACTIVE_ENERGY, SERIES_SCHEMA
from transforms.rejected import ACCEPTED, REASONS, name_first_faults, render_field
from transforms.series import (
    Readings,
    canonical_ids,
    canonical_products,
    drop_readings,
    empty_series,
    find_mangled,
    flat_energy,
    fold_long,
    regroup,
    reject_readings,
)

HOUR = 3_600_000_000
START = 1_648_000_800_000_000

readings_lists = st.lists(
    st.tuples(
        st.sampled_from(["A", "B"]),
        st.sampled_from(["P", "Q"]),
        st.integers(0, 8),  # quarter-hours
        st.sampled_from([900, 3600, 86_400]),
        st.integers(0, 1),
        st.integers(-5, 5),
        st.integers(0, 6),
    ),
    max_size=40,
)


def fold(rows, numbers=None):
    columns = list(zip(*rows, strict=True)) or [()] * 7
    points, products, slots, resolutions, registered, energy, status = columns
    return fold_long(
        Readings(
            canonical_ids(pa.array(points, pa.string())),
            canonical_products(pa.array(products, pa.string())),
            START + np.array(slots, np.int64) * 900_000_000,
            np.array(resolutions, np.int32),
            START + np.array(registered, np.int64),
            np.array(energy, np.int64),
            np.array(status, np.int8),
            np.arange(1, len(rows) + 1) if numbers is None else np.array(numbers),
        )
    )


def unfold(batch):
    return [
        (
            series["metering_point_id"],
            series["product"],
            (start - START) // 900_000_000 + slot * (series["resolution_s"] // 900),
            series["resolution_s"],
            registered - START,
            energy,
            status,
        )
        for series, start, registered in zip(
            batch.to_pylist(),
            batch.column("start").cast(pa.int64()).to_pylist(),
            batch.column("registered_at").cast(pa.int64()).to_pylist(),
            strict=True,
        )
        for slot, (energy, status) in enumerate(zip(series["energy"], series["status"], strict=True))
    ]


@given(readings_lists)
def test_folding_keeps_every_reading_in_order(rows):
    batch = fold(rows)
    batch.validate(full=True)
    assert batch.schema.equals(SERIES_SCHEMA)
    assert unfold(batch) == rows
    assert batch.column("row").to_pylist() == [
        1 + sum(len(energy) for energy in batch.column("energy").to_pylist()[:index]) for index in range(len(batch))
    ]


@given(readings_lists)
def test_regrouping_keeps_every_reading(rows):
    batch = regroup(fold(rows))
    batch.validate(full=True)
    assert sorted(unfold(batch)) == sorted(rows)


@given(readings_lists, st.data())
def test_dropping_keeps_exactly_the_others(rows, data):
    batch = fold(rows)
    dropped = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    rest = drop_readings(batch, np.array(dropped, dtype=bool))
    rest.validate(full=True)
    assert unfold(rest) == [row for row, gone in zip(rows, dropped, strict=True) if not gone]
    # Each reading is still where it stood: rows were numbered from 1.
    places = [
        series["row"] + series["position"] + slot
        for series in rest.to_pylist()
        for slot in range(len(series["energy"]))
    ]
    assert places == [number for number, gone in enumerate(dropped, 1) if not gone]


def test_what_is_left_of_a_series_is_where_it_was():
    batch = fold([("A", "P", slot, 900, 0, slot, 5) for slot in range(8)])
    rest = drop_readings(batch, np.isin(np.arange(8), (0, 3, 4)))
    assert [(one["row"], one["position"], one["energy"]) for one in rest.to_pylist()] == [
        (1, 1, [1, 2]),
        (1, 5, [5, 6, 7]),
    ]
    again = drop_readings(rest, np.array([True, False, False, True, False]))
    assert [(one["row"], one["position"]) for one in again.to_pylist()] == [(1, 2), (1, 5), (1, 7)]
    rejected = reject_readings(rest, np.array([1]), np.array([2]), Reason.FUTURE).to_pylist()[0]
    assert (rejected["row"], rejected["position"], rejected["decoded_energy"]) == (1, 7, 7)


def test_a_series_breaks_where_anything_but_the_values_changes():
    base = ("A", "P", 0, 900, 0, 1, 5)
    follower = ("A", "P", 1, 900, 0, 2, 5)
    assert len(fold([base, follower])) == 1
    for index, other in ((0, "B"), (1, "Q"), (2, 2), (2, 0), (3, 3600), (4, 1)):
        changed = (*follower[:index], other, *follower[index + 1 :])
        assert len(fold([base, changed])) == 2
    assert len(fold([base, follower], numbers=[1, 3])) == 2


def test_daily_values_continue_after_exactly_a_day():
    days = [("A", "P", 0, 86_400, 0, 1, 5), ("A", "P", 96, 86_400, 0, 1, 5), ("A", "P", 188, 86_400, 0, 1, 5)]
    assert [len(energy) for energy in fold(days).column("energy").to_pylist()] == [2, 1]


def test_readings_sorted_by_time_become_one_series_a_point():
    rows = [(point, "P", slot, 900, 0, slot, 5) for slot in range(20) for point in "BAC"]
    batch = regroup(fold(rows))
    assert batch.column("metering_point_id").to_pylist() == ["B", "A", "C"]
    assert batch.column("row").to_pylist() == [1, 2, 3]
    assert all(energy == list(range(20)) for energy in batch.column("energy").to_pylist())


def test_long_series_are_left_as_they_are():
    batch = fold([("A", "P", slot, 900, 0, 0, 5) for slot in range(8)])
    assert regroup(batch) is batch
    assert len(regroup(empty_series())) == 0


@given(st.lists(st.text(max_size=6), max_size=8))
def test_canonical_ids_are_trimmed_upper_case_and_stable(texts):
    ids = canonical_ids(pa.array(texts, pa.string()))
    again = canonical_ids(ids.cast(pa.string()))
    for text, once, twice in zip(texts, ids.to_pylist(), again.to_pylist(), strict=True):
        assert once == twice
        if text.isprintable():
            assert once == unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.strip()).upper())
    assert len(set(ids.dictionary.to_pylist())) == len(ids.dictionary)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_ids_of_any_text_type_and_null(kind):
    ids = canonical_ids(pa.array([" ab", "AB ", None, "a\u0308"], pa.string()).cast(kind))
    assert ids.to_pylist() == ["AB", "AB", "", "Ä"]
    assert ids.indices.to_pylist()[0] == ids.indices.to_pylist()[1]


def test_mangled_ids():
    lost = ["", "6,43007E+17", "6.43007E+17", "6E+17"]
    fine = ["643006966022791278", "6E17", "09968C2FD5C22B196E588", "12E3", "0", "A6,4E+17"]
    assert find_mangled(canonical_ids(pa.array(lost + fine))).tolist() == [True] * 4 + [False] * 6


def test_blank_and_zero_products_are_active_energy():
    products = canonical_products(pa.array(["", "0", " 0 ", None, "district_heat"]))
    assert products.to_pylist() == [ACTIVE_ENERGY] * 4 + ["district_heat"]


def test_the_first_fault_in_order_of_precedence_is_named():
    everything = {reason: np.array([True, False]) for reason in Reason}
    assert name_first_faults(2, everything).tolist() == [0, ACCEPTED]
    late = {Reason.FUTURE: np.array([True, True]), Reason.BAD_ENERGY: np.array([False, True])}
    assert [REASONS[code] for code in name_first_faults(2, late)] == [Reason.FUTURE, Reason.BAD_ENERGY]


def test_rejected_readings_are_shown_as_text():
    batch = fold(
        [
            ("A", "P", slot, 900, 7, energy, status)
            for slot, (energy, status) in enumerate([(1, 5), (640_000, 3), (0, 0)])
        ]
    )
    rejected = reject_readings(batch, np.array([0, 0]), np.array([1, 2]), Reason.OFF_GRID)
    rejected.validate(full=True)
    assert rejected.to_pylist()[0] == {
        "row": 1,
        "position": 1,
        "reason": "off_grid",
        "metering_point_id": "A",
        "product": "P",
        "start": "2022-03-23T02:15:00Z",
        "resolution": "PT15M",
        "registered_at": "2022-03-23T02:00:00.000007Z",
        "energy": "0.640000",
        "status": "ESTIMATED",
        "decoded_energy": 640_000,
    }
    assert rejected.to_pylist()[1]["energy"] is None
    assert reject_readings(batch, np.array([0]), np.array([1]), Reason.BAD_ENERGY).to_pylist()[0]["decoded_energy"] == 0


def test_sliced_batches_work_like_whole_ones():
    batch = fold([(point, "P", slot, 900, 0, slot, 5) for point in "ABC" for slot in range(3)])
    part = batch.slice(1, 1)
    assert unfold(drop_readings(part, np.array([False, True, False]))) == [unfold(part)[0], unfold(part)[2]]
    rejected = reject_readings(part, np.array([0]), np.array([2]), Reason.FUTURE).to_pylist()[0]
    assert (rejected["metering_point_id"], rejected["decoded_energy"]) == ("B", 2)
    assert flat_energy(part).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("seconds", "text"), [(86_400, "P1D"), (3_600, "PT1H"), (900, "PT15M"), (61, "PT61S"), (0, "PT0S")]
)
def test_resolutions_as_text(seconds, text):
    assert render_field("resolution", pa.array([seconds, None], pa.int32())).to_pylist() == [text, None]
