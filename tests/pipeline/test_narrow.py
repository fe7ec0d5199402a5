"""A query for single points opens the files of their buckets alone, and gives what it gives with all files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from privacy_support import make_fleet, make_policy

from pipeline import query
from pipeline.access import current_user
from pipeline.errors import MeterveilError
from pipeline.labels import bucket_in
from pipeline.lake import Lake, open_lake
from pipeline.policy_file import load_policy
from transforms.buckets import bucket_of
from transforms.plan import Plan

BUCKETS = 8
TABLE = "operational.readings"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Plan]:
    fleet = make_fleet(tmp_path_factory.mktemp("narrow"), points=40, faults="none")
    policy = make_policy(fleet.folder / "policy.yaml", "metering_operations")
    done = fleet.ingest(policy=policy, buckets=BUCKETS)
    assert done.code == 0, done.err
    return open_lake(fleet.lake), load_policy(policy)


def ask(made: tuple[Lake, Plan], sql: str) -> list[dict]:
    lake, plan = made
    return query.run_query(lake, plan, "metering_operations", "metering", sql, current_user()).to_pylist()


@pytest.fixture(scope="module")
def points(made: tuple[Lake, Plan]) -> list[str]:
    """Two points of different buckets."""
    found = [row["p"] for row in ask(made, f"SELECT DISTINCT metering_point_id AS p FROM {TABLE} ORDER BY 1")]
    first, *others = found
    return [first, next(point for point in others if bucket(point) != bucket(first))]


def bucket(point: str) -> int:
    return int(bucket_of(pa.array([point]), BUCKETS)[0])


@contextmanager
def only_these_buckets(lake: Lake, buckets: set[int]) -> Iterator[None]:
    """Make every file of other buckets unreadable for as long."""
    others = [Path(file.path) for file in lake.state(TABLE).files() if bucket_in(file.label) not in buckets]
    contents = {path: path.read_bytes() for path in others}
    assert contents
    for path in contents:
        path.write_bytes(b"no Parquet")
    try:
        yield
    finally:
        for path, content in contents.items():
            path.write_bytes(content)


NARROW = [
    "SELECT sum(energy) FROM {t} WHERE metering_point_id = '{a}'",
    "SELECT local_date, sum(energy) FROM {t} WHERE metering_point_id = '{a}' AND energy >= 0 GROUP BY 1 ORDER BY 1",
    "SELECT count(*) FROM {t} x JOIN {t} y USING (metering_point_id, start) WHERE x.metering_point_id = '{a}'",
    "SELECT count(*) FROM (SELECT * FROM (FROM {t}) WHERE metering_point_id = '{a}') AS p",
    "SELECT count(*) FROM (FROM {t} AS r WHERE r.metering_point_id = '{a}' LIMIT 5)",
]
WIDE = [
    "SELECT count(*) FROM {t}",
    "SELECT count(*) FROM {t} WHERE metering_point_id IN ('{a}', '{b}')",
    "SELECT count(*) FROM {t} WHERE metering_point_id = '{a}' OR metering_point_id = '{b}'",
    "SELECT count(*) FROM {t} WHERE metering_point_id = '{a}' OR energy > 1",
    "SELECT count(*) FROM {t} WHERE metering_point_id <> '{a}'",
    "SELECT count(*) FROM {t} WHERE NOT metering_point_id = '{a}'",
    "SELECT count(*) FROM {t} WHERE metering_point_id COLLATE NOCASE = '{a}'",
    "SELECT count(*) FROM {t} WHERE metering_point_id = {a}",
    "SELECT count(*) FROM {t} WHERE metering_point_id = '{b}'' OR metering_point_id = ''{a}'",
    "SELECT count(*), (SELECT count(*) FROM {t}) FROM {t} WHERE metering_point_id = '{a}'",
    "SELECT count(*) FROM {t} x LEFT JOIN {t} y ON x.start = y.start AND y.metering_point_id = '{a}'",
    "SELECT count(*) FROM {t} WHERE metering_point_id = '{a}' UNION ALL SELECT count(*) FROM {t}",
    "SELECT count(*) FROM {t} WHERE product = '{a}'",
    "SELECT min(start), max(start) FROM {t}",
    "FROM {t} WHERE metering_point_id = '{a}' AND false",
    "SELECT count(*) FROM {t} x WHERE EXISTS (FROM {t} y WHERE y.metering_point_id = '{a}' AND x.start = y.start)",
    "SELECT count(*) FROM {t} x WHERE NOT EXISTS (FROM {t} y WHERE y.metering_point_id = '{a}' AND x.start = y.start)",
    "WITH p AS (FROM {t}) SELECT (SELECT count(*) FROM p), count(*) FROM p WHERE metering_point_id = '{a}'",
]


@pytest.mark.parametrize("sql", NARROW)
def test_no_file_of_another_bucket_is_opened(made, points, sql) -> None:
    asked = sql.format(t=TABLE, a=points[0], b=points[1])
    expected = ask(made, asked)
    with only_these_buckets(made[0], {bucket(points[0])}):
        assert ask(made, asked) == expected
    with only_these_buckets(made[0], {bucket(points[1])}), pytest.raises(MeterveilError):
        ask(made, asked)


def test_two_points_need_the_files_of_both(made, points) -> None:
    one = f"SELECT count(*) AS n FROM {TABLE} WHERE metering_point_id = "
    asked = f"{one} '{points[0]}' UNION ALL {one} '{points[1]}'"
    expected = ask(made, asked)
    with only_these_buckets(made[0], {bucket(point) for point in points}):
        assert ask(made, asked) == expected


@pytest.mark.parametrize("sql", [*NARROW, *WIDE])
def test_rows_are_those_of_all_files(made, points, sql, monkeypatch) -> None:
    asked = sql.format(t=TABLE, a=points[0], b=points[1])
    found = ask(made, asked)
    monkeypatch.setattr(query, "narrow_files", lambda files, *_: list(files))
    assert ask(made, asked) == found


def test_a_point_that_nobody_has_has_no_rows(made) -> None:
    assert ask(made, f"SELECT * FROM {TABLE} WHERE metering_point_id = '0'") == []
