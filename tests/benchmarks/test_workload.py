from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.workload import AGAIN_ONE_IN, CORRECTED_ONE_IN, FILES, make_workload
from schemas.status import Status

# More than a block of points in each file.
POINTS = FILES * 3000


def load(folder, pattern):
    tables = [pq.ParquetFile(path).read() for path in sorted((folder / "readings").glob(pattern))]
    ids = [table["metering_point_id"].cast(pa.string()) for table in tables]
    return pa.concat_tables(
        table.set_column(0, "metering_point_id", column) for table, column in zip(tables, ids, strict=True)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workload")
    assert make_workload(folder, POINTS, hourly_share=0) == POINTS * 96 * (1 + 2 / 100)
    return folder


@pytest.fixture(scope="module")
def first(folder):
    return load(folder, "*-000?.parquet")


def count_points(table):
    return Counter(table["metering_point_id"].to_pylist())


def test_every_point_has_its_day(first):
    assert set(count_points(first).values()) == {96}
    assert len(first) == POINTS * 96


def test_whole_days_come_again_as_they_were_but_for_the_registration(folder, first):
    again = load(folder, "readings-20260327*.parquet")
    points = count_points(again)
    assert len(points) == POINTS / AGAIN_ONE_IN
    assert set(points.values()) == {96}
    same = first.filter(pa.compute.is_in(first["metering_point_id"], pa.array(list(points))))
    assert again.drop("registered_at").equals(same.drop("registered_at"))


def test_quarters_of_days_come_corrected(folder, first):
    corrected = load(folder, "readings-20260404*.parquet")
    points = count_points(corrected)
    assert len(points) == POINTS / CORRECTED_ONE_IN
    assert set(points.values()) == {24}
    assert set(corrected["status"].to_pylist()) == {Status.REVISED}
    keys = ["metering_point_id", "start"]
    both = corrected.join(first.select([*keys, "energy"]), keys, join_type="inner", right_suffix="_first")
    assert len(both) == len(corrected)
    assert both["energy"].to_pylist() == [energy * 2 + 1000 for energy in both["energy_first"].to_pylist()]
