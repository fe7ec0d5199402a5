"""A changed reference derives the cells that it touches again, and no others, also beside other runs."""

from contextlib import suppress
from typing import Any

import pytest
from history_oracle import (
    BUCKET,
    BUCKETS,
    HOUR,
    POINTS,
    Contract,
    Reading,
    Reference,
    Told,
    assert_as_the_rules_say,
    day_of,
    deliver,
    write_readings,
    write_reference,
)
from whole_job import CELL_TABLES, ingest, make_keys, paths_of

import pipeline.ingest
from pipeline.context import newest_reference
from pipeline.errors import MeterveilError
from pipeline.lake import open_lake
from pipeline.policy_file import load_policy
from pipeline.reference import build_snapshot
from pipeline.verify import verify_lake

SITES = {number: (f"S-{number}", "consumption") for number in range(3)}
#: Two points share a bucket.
NEIGHBOURS = [number for number, point in enumerate(POINTS) if list(BUCKET.values()).count(BUCKET[point]) == 2]
ALONE = ({0, 1, 2} - set(NEIGHBOURS)).pop()
ONE, TWO = NEIGHBOURS
FIRST = Reference(SITES, (Contract(ONE, -9, None), Contract(ALONE, -9, None, "C-1", 0, "K-2")))
ENDED = Reference(SITES, (Contract(ONE, -9, 2), Contract(ALONE, -9, None, "C-1", 0, "K-2")))
MOVED = Reference(SITES, (*ENDED.contracts, Contract(ONE, 2, None, "C-2", 1, "K-3")))


class World:
    """A folder with keys, what a test delivers, and lakes."""

    def __init__(self, folder) -> None:
        self.folder, self.keys, self.delivered = folder, make_keys(folder), []

    def files(self, *parts: list[Reading]) -> list[Any]:
        paths = [self.folder / f"{len(self.delivered) + number}.parquet" for number, _ in enumerate(parts)]
        self.delivered += parts
        return [write_readings(path, part) for path, part in zip(paths, parts, strict=True)]

    def reference(self, reference: Reference) -> dict[str, Any]:
        folder = self.folder / f"reference-{abs(hash(str(reference)))}"
        return {"reference": folder if folder.is_dir() else write_reference(folder, reference)}

    def ingest(self, lake: str, files: list[Any], reference: Reference | None = None, **options: Any) -> dict[str, Any]:
        given = self.reference(reference) if reference else {}
        return ingest(self.folder / lake, files, self.keys, buckets=BUCKETS, **given, **options)

    def assert_right(self, lake: str, reference: Reference) -> None:
        taken = [reading for part in self.delivered for reading in part]
        assert_as_the_rules_say(self.folder / lake, Told(taken, reference=reference))
        opened = open_lake(self.folder / lake)
        assert verify_lake(opened, load_policy(opened.stored_policy())).violations == 0


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


def day_deliveries(point: int, days: range) -> list[Reading]:
    return [reading for day in days for reading in deliver(point, day, HOUR, 2, 2, 0, "OK", 5)]


def cells_of(paths: set[str]) -> set[tuple[str, int]]:
    """Tell days and buckets from names of files."""
    parts = [path.rpartition("local_date=")[2].partition("/") for path in paths]
    return {(day, int(name.partition("-")[0])) for day, _, name in parts}


def changed_cells(world: World, last: Reference) -> set[tuple[str, int]]:
    """Bring another reference, without readings; gives the cells of which a file was written again."""
    before = {table: set(paths_of(world.folder / "lake", table)) for table in CELL_TABLES}
    world.ingest("lake", [], last)
    gone = set().union(*(before[table] - set(paths_of(world.folder / "lake", table)) for table in CELL_TABLES))
    return cells_of(gone)


def test_just_the_cells_of_the_days_that_change_are_derived_again(world):
    world.ingest("lake", world.files(day_deliveries(TWO, range(5)), day_deliveries(ALONE, range(5))), FIRST)
    bucket = BUCKET[POINTS[ONE]]
    # The point itself is silent: a day under contract has a row in the daily datasets all the same.
    assert changed_cells(world, ENDED) == {(str(day_of(day)), bucket) for day in (2, 3, 4)}
    assert changed_cells(world, MOVED) == {(str(day_of(day)), bucket) for day in (2, 3, 4)}
    new = Reference(SITES, (*MOVED.contracts, Contract(TWO, 4, None, "C-1", 0, "K-4")))
    assert changed_cells(world, new) == {(str(day_of(4)), bucket)}
    world.assert_right("lake", new)


def test_a_point_that_becomes_known_or_moves_touches_the_days_on_which_it_is_there(world):
    unknown = Reference({number: site for number, site in SITES.items() if number == ALONE}, ())
    files = world.files(
        day_deliveries(ONE, range(1, 3)), day_deliveries(TWO, range(5)), day_deliveries(ALONE, range(5))
    )
    world.ingest("lake", files, unknown)
    bucket = BUCKET[POINTS[ONE]]
    known = Reference(unknown.sites | {ONE: SITES[ONE]}, ())
    assert changed_cells(world, known) == {(str(day_of(day)), bucket) for day in (1, 2)}
    contract = Contract(ONE, 4, None)
    silent = Reference(known.sites, (contract,))
    assert changed_cells(world, silent) == {(str(day_of(4)), bucket)}
    turned = Reference(known.sites | {ONE: ("S-9", "production")}, (contract,))
    assert changed_cells(world, turned) == {(str(day_of(day)), bucket) for day in (1, 2, 4)}
    world.assert_right("lake", turned)


MEANWHILE = {
    # What the run brings, what another one brings that commits while it works, and the reference in the end.
    "another reference, none of its own": (None, MOVED, MOVED),
    "another reference, the lake's own": (FIRST, MOVED, MOVED),
    "another reference, and its own": (ENDED, MOVED, ENDED),
    "cells by the old reference": (MOVED, None, MOVED),
}


@pytest.mark.parametrize("name", MEANWHILE)
def test_runs_at_the_same_time_end_as_one_after_the_other(world, monkeypatch, name):
    mine, other, last = MEANWHILE[name]
    first, second, third = world.files(
        day_deliveries(ONE, range(2, 4)),
        day_deliveries(ONE, range(3, 5)),
        [*day_deliveries(TWO, range(1, 3)), *deliver(ONE, 2, HOUR, 2, 1, 3, "REVISED", 9), *day_deliveries(ONE, range(6, 7))],
    )  # fmt: skip
    world.ingest("lake", [first], FIRST)
    commit = pipeline.ingest.commit_run

    def commit_after_another(*arguments: Any) -> None:
        monkeypatch.setattr(pipeline.ingest, "commit_run", commit)
        world.ingest("lake", [third], other)
        commit(*arguments)

    monkeypatch.setattr(pipeline.ingest, "commit_run", commit_after_another)
    record = world.ingest("lake", [second], mine)
    world.assert_right("lake", last)
    in_the_end = build_snapshot(world.reference(last)["reference"], world.folder / "snapshots", BUCKETS).version
    assert record["reference_version"] == newest_reference(open_lake(world.folder / "lake")).version == in_the_end


def test_the_reference_of_a_run_that_died_is_of_no_consequence(world):
    bad = day_deliveries(ONE, range(1))[0]._replace(energy=10**15)
    (good,) = world.files(day_deliveries(ONE, range(3)))
    before = world.ingest("lake", [good], FIRST)
    with suppress(MeterveilError):
        world.ingest("lake", [write_readings(world.folder / "bad.parquet", [bad])], ENDED, max_quarantined=0.0)
        raise AssertionError("too much was quarantined")
    after = world.ingest("lake", world.files(day_deliveries(TWO, range(1))))
    assert after["reference_version"] == before["reference_version"]
    world.assert_right("lake", FIRST)
