import pytest
from small_lake import ANALYTICS, DAY, OPERATIONAL, PLAN, write_readings

from pipeline.iceberg import replace_files
from pipeline.lake import create_lake
from pipeline.tables import TableInfo, list_tables


@pytest.fixture
def lake(tmp_path):
    lake = create_lake(tmp_path / "lake", bucket_count=4)
    lake.ensure_tables(PLAN)
    return lake


def test_totals_are_those_of_the_current_files(lake):
    table = lake.table(ANALYTICS.name)
    old = write_readings(lake, ANALYTICS)
    replace_files(table, [old, kept := write_readings(lake, ANALYTICS, f"{DAY}/00001")], [], {})
    replace_files(table, [new := write_readings(lake, ANALYTICS, points=5)], [old.path], {})
    found = {info.name: info for info in list_tables(lake, PLAN, "analyst")}
    assert list(found) == sorted(PLAN.datasets)
    assert found[ANALYTICS.name] == TableInfo(
        ANALYTICS.name,
        "analytics",
        kept.rows + new.rows,
        kept.bytes + new.bytes,
        2,
        ("analyst",),
        ("load_research",),
        readable=True,
    )
    assert (found[OPERATIONAL.name].rows, found[OPERATIONAL.name].readable) == (0, False)


def test_what_is_out_of_reach_or_not_made_is_listed_still(lake, tmp_path):
    lake.operational.rename(tmp_path / "away")
    found = {info.name: (info.rows, info.readable) for info in list_tables(lake, PLAN)}
    assert found[OPERATIONAL.name] == (None, None)
    assert found[ANALYTICS.name] == (0, None)
    bare = create_lake(tmp_path / "bare", bucket_count=4)
    assert {info.rows for info in list_tables(bare, PLAN)} == {0}
