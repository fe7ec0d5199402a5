"""Leases of runs that begin while others clear up."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_lake import PLAN

from pipeline import lease
from pipeline.context import name_run
from pipeline.journal import sole_committer
from pipeline.lake import Lake, create_lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = create_lake(tmp_path / "lake", bucket_count=4)
    lake.ensure_tables(PLAN)
    return lake


def test_a_run_that_begins_while_another_looks_round_keeps_its_lease(lake, monkeypatch) -> None:
    first, second = (name_run(datetime(2026, 3, 30, hour, tzinfo=UTC)) for hour in (4, 5))
    begun: list[str] = []
    is_live = lease.is_live

    def look_while_another_begins(path) -> bool:
        if not begun:
            begun.append(second)
            stack.enter_context(lease.leased(lake, second, "ingest", in_process=True))
        return is_live(path)

    with ExitStack() as stack:
        stack.enter_context(lease.leased(lake, first, "ingest", in_process=True))
        monkeypatch.setattr(lease, "is_live", look_while_another_begins)
        with sole_committer(lake):
            lease.clean_up_dead(lake)
        assert begun
        for run_id in (first, second):
            lease.check_lease(lake, run_id)
    assert lease.list_dead(lake) == []


def test_a_run_that_begins_while_the_dead_are_listed_is_none_of_them(lake, monkeypatch) -> None:
    run_id = name_run(datetime(2026, 3, 30, 4, tzinfo=UTC))
    list_live = lease.list_live

    def begin_after(of: Lake) -> list[str]:
        live = list_live(of)
        stack.enter_context(lease.leased(lake, run_id, "ingest", in_process=True))
        return live

    with ExitStack() as stack:
        monkeypatch.setattr(lease, "list_live", begin_after)
        assert lease.list_dead(lake) == []
