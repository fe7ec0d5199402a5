"""The comparison of a run with the truth: silent about nothing that differs."""

import copy
import json

import pytest

from pipeline.fleet.compare import compare_run, main

TRUTH = {
    "readings_delivered": 106,
    "energy_delivered_mwh": 5_000_001,
    "rows_final": 100,
    "energy_final_mwh": 4_500_001,
    "superseded_by_kind": {"identical": {"count": 3, "energy_mwh": 300_000}, "older": {"count": 0, "energy_mwh": 0}},
    "quarantined": {"future": {"count": 3, "energy_mwh": 200_000}},
    "dates": {"2026-03-29": {"consumption": {"count": 100, "energy_mwh": 4_500_001}}},
}
RECORD = {
    "totals": {
        "counts": {"delivered": 106, "folded": 103, "after": 100, "superseded:identical": 3, "quarantined:future": 3},
        "energies": {
            "delivered": 5_000_001,
            "folded": 4_800_001,
            "after": 4_500_001,
            "superseded:identical": 300_000,
            "quarantined:future": 200_000,
        },
    }
}
DAYS = [{"local_date": "2026-03-29", "kwh": "4.500001"}]


def differing(truth, record, days) -> set[str]:
    return {figure.name.strip() for figure in compare_run(truth, record, days) if not figure.agrees}


def test_a_run_that_is_right_agrees():
    assert differing(TRUTH, RECORD, DAYS) == set()


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("counts", "delivered", {"delivered, readings"}),
        ("energies", "after", {"in the tables, kWh"}),
        ("counts", "superseded:identical", {"superseded, readings", "identical"}),
        ("counts", "superseded:older", {"superseded, readings", "older"}),
        ("energies", "quarantined:future", {"quarantined, kWh"}),
        ("counts", "quarantined:off_grid", {"quarantined, readings", "off_grid"}),
    ],
)
def test_one_reading_or_milliwatt_hour_more_is_noticed(kind, name, expected):
    record = copy.deepcopy(RECORD)
    record["totals"][kind][name] = record["totals"][kind].get(name, 0) + 1
    assert differing(TRUTH, record, DAYS) == expected


@pytest.mark.parametrize("days", [[], [{"local_date": "2026-03-29", "kwh": "4.500002"}]])
def test_a_day_that_is_absent_or_wrong_is_noticed(days):
    assert differing(TRUTH, RECORD, days) == {"consumed on 2026-03-29, kWh"}


@pytest.mark.parametrize(("kwh", "code", "line"), [("4.500001", 0, "12 of 12"), ("4.5", 1, "11 of 12")])
def test_the_exit_code_says_it_too(tmp_path, capsys, kwh, code, line):
    paths = []
    for name, content in (("truth", TRUTH), ("run", RECORD), ("week", [])):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(content))
    # As a query writes it: a number with all its digits.
    paths[-1].write_text(json.dumps(DAYS).replace('"4.500001"', kwh))
    assert main(*map(str, paths)) == code
    assert f"{line} figures agree" in capsys.readouterr().out
