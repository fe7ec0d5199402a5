"""Runs that die at an instant leave the lake as before or as after; the campaign (``make faults``) has many more."""

import random

import pytest
from kills import Stage, kill_once, race_once
from whole_job import large


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return Stage.build(tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize("number", [pytest.param(n, marks=() if n in {0, 6} else large) for n in range(8)])
def test_a_run_that_is_killed_is_made_good_by_the_next(stage, number):
    _, wrong = kill_once(stage, stage.scenarios[number % len(stage.scenarios)], random.Random(number))
    assert wrong == []


def test_runs_at_once_end_as_one_after_the_other(stage):
    _, wrong = race_once(stage, random.Random(1))
    assert wrong == []
