"""A fix changes the fields that it names, of the readings that it means, and makes nothing up."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from schemas.reasons import Reason
from schemas.views import QUARANTINE
from transforms.fixes import CORRECTION_SCHEMA, Fix, apply_fix, find_places, number_places
from transforms.rejected import TEXT_FIELDS

DIGEST = "ab" * 32
ROW = {
    "file_digest": DIGEST,
    "file_name": "readings.csv",
    "row": 1,
    "position": 0,
    "reason": str(Reason.MANGLED_IDENTIFIER),
    "metering_point_id": "6,43E+17",
    "product": "8716867000030",
    "start": "2026-03-28T00:00:00Z",
    "resolution": "PT1H",
    "registered_at": "2026-03-29T00:00:00Z",
    "energy": "1.500000",
    "status": "OK",
}


def rows(*changes: dict) -> pa.Table:
    schema = pa.schema([(name, field.type) for name, field in QUARANTINE.items()])
    return pa.Table.from_pylist([ROW | {"row": n} | change for n, change in enumerate(changes, 1)], schema)


def fixed(table: pa.Table, fix: Fix) -> list[dict]:
    return pa.table(apply_fix(DIGEST, table, fix)).to_pylist()


def corrections(*said: dict) -> Fix:
    return Fix(
        rows=pa.Table.from_pylist([{"file_digest": DIGEST, "position": 0} | one for one in said], CORRECTION_SCHEMA)
    )


def test_without_a_fix_the_fields_are_what_they_were():
    assert fixed(rows({}), Fix()) == [{name: ROW[name] for name in TEXT_FIELDS}]


def test_an_id_is_given_to_those_that_lost_theirs():
    """Where the product is what was mangled, the id is whole, and stays."""
    table = rows({}, {"metering_point_id": None}, {"metering_point_id": "A", "product": "8,7E+12"})
    assert [row["metering_point_id"] for row in fixed(table, Fix("B"))] == ["B", "B", "A"]


def test_a_word_is_translated_where_it_stands():
    table = rows({"status": " Z9 "}, {"status": "z9"}, {"status": None})
    assert [row["status"] for row in fixed(table, Fix(words={"Z9": "ESTIMATED"}))] == ["ESTIMATED", "z9", None]


def test_a_correction_is_of_one_reading_of_one_input_and_of_the_fields_that_it_names():
    other = {"file_digest": "cd" * 32, "row": 1, "position": 0, "status": "REVISED"}
    table = rows({}, {"position": 1}, {})
    fix = corrections({"row": 2, "position": 1, "metering_point_id": "C"}, {"row": 2, "status": "REVISED"}, other)
    assert [row["metering_point_id"] for row in fixed(table, fix)] == ["6,43E+17", "C", "6,43E+17"]
    assert {row["status"] for row in fixed(table, fix)} == {"OK"}


def test_an_energy_that_could_not_be_read_needs_another_one():
    bad = {"reason": str(Reason.BAD_ENERGY)}
    table = rows(bad | {"energy": "1.500000"}, bad | {"energy": "1500"}, {"energy": "1500"}, {"energy": "1.500000"})
    assert [row["energy"] for row in fixed(table, Fix())] == [None, None, None, "1.500000"]
    # What repeats what stands there says nothing new.
    same = corrections({"row": 1, "energy": "1.500000"}, {"row": 2, "energy": "1500"})
    assert [row["energy"] for row in fixed(table, same)] == [None, None, None, "1.500000"]
    said = corrections({"row": 1, "energy": "1.5"}, {"row": 2, "energy": "2"}, {"row": 3, "energy": "3"})
    assert [row["energy"] for row in fixed(table, said)] == ["1.5", "2", "3", "1.500000"]


places = st.lists(st.tuples(st.integers(1, 1 << 38), st.integers(0, (1 << 24) - 1)), unique=True, min_size=1)


@given(places, st.data())
def test_places_are_told_apart(found, data):
    chosen = data.draw(st.lists(st.sampled_from(found), unique=True))

    def table(pairs):
        columns = [pa.array([pair[i] for pair in pairs], kind) for i, kind in ((0, pa.int64()), (1, pa.int32()))]
        return pa.table(columns, ["row", "position"])

    assert len(np.unique(number_places(table(found)))) == len(found)
    assert find_places(table(found), table(chosen)).tolist() == [place in set(chosen) for place in found]
