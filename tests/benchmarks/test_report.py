import io

import pytest
from rich.console import Console

from benchmarks.chart import draw_results
from benchmarks.report import compare_two, take_turns


def make_run(wall, peak, readings=1000):
    return {"wall": wall, "cpu": wall, "peak_bytes": peak, "readings": readings}


def test_variants_take_turns():
    order = []
    variants = {name: lambda turn, name=name: order.append((turn, name)) or make_run(1.0, 1) for name in "ab"}
    runs = take_turns(2, variants, Console(file=io.StringIO()))
    assert order == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    assert {name: len(of) for name, of in runs.items()} == {"a": 2, "b": 2}


@pytest.mark.parametrize(("what", "ratio"), [("wall", 1.5), ("peak_bytes", 2.0)])
def test_the_second_variant_is_measured_by_the_first(what, ratio, capsys):
    runs = {"first": [make_run(wall, 100) for wall in (1.0, 2.0, 9.0)], "second": [make_run(6.0, 200, readings=2000)]}
    assert compare_two("title", what, runs, 1.1)["ratio"] == ratio
    assert "second over first" in capsys.readouterr().out


def test_the_chart_has_a_bar_for_everybody_but_the_start():
    runs = {name: [{"seconds": 1.0 + place, "readings": 10}] for place, name in enumerate(("meterveil", "start", "x"))}
    drawn = draw_results({"titles": {"meterveil": "meterveil", "x": "a < b"}, "runs": runs, "cores": 2})
    assert drawn.count("<rect") == 1 + 2
    assert "a &lt; b" in drawn
