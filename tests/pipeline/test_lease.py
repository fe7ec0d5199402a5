"""Leases of runs that begin while others clear up, and of runs that nobody watches."""

import json
import os
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_lake import PLAN

from pipeline import lease
from pipeline.context import name_run, staging_folder
from pipeline.errors import MeterveilError
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


HOURS = 3600.0


@pytest.fixture
def left(lake) -> str:
    """A run that a cluster has taken, and whose launcher has gone."""
    run_id = name_run(datetime(2026, 3, 30, 4, tzinfo=UTC))
    with lease.leased(lake, run_id, "ingest", in_process=False), lease.left_alone(lake, run_id):
        staging_folder(lake, run_id).mkdir(parents=True)
    return run_id


def lease_of(lake: Lake, run_id: str) -> Path:
    return lake.operational / "leases" / f"{run_id}.json"


def let_pass(lake: Lake, run_id: str, hours: float) -> None:
    then = time.time() - hours * HOURS
    os.utime(lease_of(lake, run_id), (then, then))


def clear_up(lake: Lake) -> None:
    with sole_committer(lake):
        lease.clean_up_dead(lake)


@pytest.mark.parametrize(("hours", "lives"), [(0, True), (11.9, True), (12.1, False)])
def test_a_run_that_nobody_watches_lives_by_its_hours_and_is_then_cleared_away(lake, left, hours, lives) -> None:
    let_pass(lake, left, hours)
    [holder] = lease.list_holders(lake)
    assert (holder.run_id, holder.is_live, holder.until > datetime.now(UTC)) == (left, lives, lives)
    assert lease.list_live(lake) == [left] * lives
    clear_up(lake)
    assert staging_folder(lake, left).exists() == lives
    if lives:
        lease.check_lease(lake, left)
    else:
        with pytest.raises(MeterveilError, match="took it for dead"):
            lease.check_lease(lake, left)


def test_a_lease_that_is_left_says_since_when_the_run_is_at_work(lake) -> None:
    run_id = name_run(datetime(2026, 3, 30, 4, tzinfo=UTC))
    with lease.leased(lake, run_id, "ingest", in_process=False):
        before = lease.begin_of_live(lake, datetime.now(UTC))
        with lease.left_alone(lake, run_id):
            pass
        assert lease.begin_of_live(lake, datetime.now(UTC)) == before


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_no_cluster_has_taken_is_dead_when_its_launcher_is(lake, failure) -> None:
    run_id = name_run(datetime(2026, 3, 30, 4, tzinfo=UTC))
    with lease.leased(lake, run_id, "ingest", in_process=False):
        mine = lease_of(lake, run_id).read_bytes()
        with pytest.raises(failure), lease.left_alone(lake, run_id):
            raise failure
    assert lease_of(lake, run_id).read_bytes() == mine
    [holder] = lease.list_holders(lake)
    assert (holder.is_live, holder.until) == (True, None)  # this process
    ended = json.loads(mine) | {"process_started": "another process"}
    lease_of(lake, run_id).write_text(json.dumps(ended))
    clear_up(lake)
    assert not lease_of(lake, run_id).exists()


def test_the_end_of_a_run_deletes_what_its_attempts_left_and_of_nobody_else(lake, left) -> None:
    other = name_run(datetime(2026, 3, 30, 5, tzinfo=UTC))
    with lease.leased(lake, other, "ingest", in_process=True):
        paths = [
            Path(lake.new_data_path("operational.readings", "2026-03-29.b0", lease.mark_of(run_id)))
            for run_id in (left, other)
        ]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        for _ in range(2):  # the step that ends a run may be tried again
            lease.end_run(lake, left, tried_again=True)
            assert [path.exists() for path in paths] == [False, True]
        assert not lease_of(lake, left).exists()
        assert not staging_folder(lake, left).exists()
        lease.check_lease(lake, other)
