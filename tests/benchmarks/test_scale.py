"""The model of other sizes against what was measured."""

import json

import pytest

from benchmarks.report import RESULTS
from benchmarks.scale import BEGIN, END, PAGE, POINTS, draw_table, foresee, read_rates


def test_the_whole_country_is_foreseen_within_a_quarter() -> None:
    *_, country = json.loads((RESULTS / "national.json").read_text())["days"]
    day = foresee(country["points"], read_rates())
    assert country["points"] == 3_900_000
    assert day.readings == country["readings"]
    measured = country["ingest"]["whole policy"]
    assert day.seconds == pytest.approx(measured["wall"], rel=0.25)
    assert day.gigabytes * 1e9 == pytest.approx(measured["bytes_out"], rel=0.25)
    assert day.buckets == measured["buckets"]
    assert read_rates().memory == pytest.approx(measured["peak_bytes"], rel=0.25)


def test_the_page_says_what_the_model_does() -> None:
    table = draw_table([foresee(points, read_rates()) for points in POINTS])
    assert PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip() == table.strip()
