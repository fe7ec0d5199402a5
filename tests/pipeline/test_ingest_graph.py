"""The graph as a runner gets it, and a commit that refuses what does not add up."""

import re
from dataclasses import replace

import apache_beam as beam
import pytest
from graphs import OF_READINGS, coders_between, find_secrets, is_pickled, steps_of, wire_ingest
from whole_job import DATA_TABLES, assert_same_rows, ingest, paths_of

from pipeline import launch, steps
from pipeline.errors import MeterveilError
from pipeline.lake import open_lake
from pipeline.totals import Totals, add_totals


@pytest.fixture(scope="module")
def graph(fleet_run):
    pipeline = beam.Pipeline()
    wire_ingest(pipeline, fleet_run)
    return pipeline.to_runner_api(return_context=True)


def test_no_element_between_the_steps_is_pickled(graph):
    between = coders_between(*graph)
    assert between.keys() >= OF_READINGS | {"PlanFiles", "SpreadSplits", "DeriveEntities", "Commit"}
    assert not [(step, found) for step, found in between.items() for coder in found if is_pickled(coder)]


def test_a_pickled_element_would_be_found():
    pipeline = beam.Pipeline()
    _ = pipeline | "Untyped" >> beam.Create([object()])
    proto, context = pipeline.to_runner_api(return_context=True)
    assert any(is_pickled(context.coders[values.coder_id]) for values in proto.components.pcollections.values())


def test_the_graph_names_the_keys_and_holds_none(graph, fleet_run):
    proto, _ = graph
    told = steps_of(proto) + proto.SerializeToString()
    assert str(fleet_run.keys["keyset"]).encode() in told  # so a key would be found
    assert not find_secrets(told, fleet_run)


def lose_a_frame(part):
    return replace(part, frames=part.frames[1:])


def repeat_a_frame(part):
    return replace(part, frames=[*part.frames, part.frames[0]])


def forget_the_quarantined(part):
    counts = {name: count for name, count in part.totals.counts.items() if not name.startswith("quarantined")}
    return replace(part, totals=Totals(counts, part.totals.energies))


def miscount(count: int, energy: int):
    return lambda work: replace(work, totals=add_totals([work.totals, Totals.of(after=(count, energy))]))


def write_another_row(work):
    return replace(work, files=tuple(replace(file, rows=file.rows + 1) for file in work.files))


@pytest.fixture(scope="module")
def begun(tmp_path_factory, fleet_run):
    """A lake with the first files of a fleet, and the files that are to come; what is refused leaves it as it was."""
    files = sorted((fleet_run.folder / "readings").iterdir(), key=lambda path: path.stem.rpartition("-")[2])
    lake = tmp_path_factory.mktemp("begun") / "lake"
    ingest(lake, files[:3], fleet_run.keys, reference=fleet_run.folder / "reference", buckets=4)
    return lake, files[3:]


def state_of(lake) -> dict[str, tuple]:
    opened = open_lake(lake)
    return {
        name: (getattr(opened.table(name).current_snapshot(), "snapshot_id", None), paths_of(lake, name))
        for name in (*DATA_TABLES, "operational.runs")
    }


BREAKS = {
    "a frame is lost": ("read_part", lose_a_frame, "delivered = folded"),
    "a frame comes twice": ("read_part", repeat_a_frame, "delivered = folded"),
    "quarantined readings are not counted": ("read_part", forget_the_quarantined, "delivered = folded"),
    "a reading too many": ("rewrite_cell", miscount(1, 0), "folded . before = after"),
    "a milliwatt-hour too many": ("rewrite_cell", miscount(0, 1), "folded . before = after"),
    "a row too many in the file": ("rewrite_cell", write_another_row, "the files gain"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_does_not_add_up_is_not_committed(begun, fleet_run, monkeypatch, name):
    lake, files = begun
    before = state_of(lake)
    step, breaking, message = BREAKS[name]
    sound = getattr(steps, step)
    with monkeypatch.context() as patched:
        patched.setattr(steps, step, lambda *args: breaking(sound(*args)))
        with pytest.raises(MeterveilError, match=message) as refused:
            ingest(lake, files, fleet_run.keys)
    assert "\n" not in str(refused.value)
    assert not re.search(r"64300\d{13}", str(refused.value))
    assert state_of(lake) == before


def test_too_many_quarantined_are_not_committed(begun, fleet_run):
    lake, files = begun
    before = state_of(lake)
    with pytest.raises(MeterveilError, match="readings quarantined"):
        ingest(lake, files, fleet_run.keys, max_quarantined=1e-6)
    assert state_of(lake) == before


def test_a_run_after_a_refused_one_completes_it(tmp_path, fleet_run, monkeypatch):
    files, lake = [fleet_run.folder / "readings" / "*"], tmp_path / "lake"
    options = {"reference": fleet_run.folder / "reference", "buckets": 4}
    with monkeypatch.context() as patched:
        patched.setattr(steps, "read_part", lambda *args: lose_a_frame(launch.read_part(*args)))
        with pytest.raises(MeterveilError, match="delivered = folded"):
            ingest(lake, files, fleet_run.keys, **options)
    assert not any(snapshot for snapshot, _ in state_of(lake).values())
    ingest(lake, files, fleet_run.keys, **options)
    assert_same_rows(lake, fleet_run.lake)
