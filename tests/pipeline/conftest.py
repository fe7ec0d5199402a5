import json
from datetime import date
from typing import Any, NamedTuple

import pytest
from whole_job import ingest, make_keys

from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions


class FleetRun(NamedTuple):
    """A generated fleet with every fault, and a lake that took it in by one run; not to be changed."""

    folder: Any  # with readings/ and reference/
    truth: dict[str, Any]
    keys: dict[str, Any]
    lake: Any
    record: dict[str, Any]


@pytest.fixture(scope="session")
def fleet_run(tmp_path_factory) -> FleetRun:
    folder = tmp_path_factory.mktemp("fleet")
    # Several files a day, for runs in another order.
    options = FleetOptions(points=240, days=3, start=date(2026, 3, 28), format="parquet", file_points=90)
    truth = json.loads(generate_fleet(options, folder).read_text())
    keys = make_keys(folder)
    record = ingest(folder / "lake", [folder / "readings" / "*"], keys, reference=folder / "reference", buckets=4)
    return FleetRun(folder, truth, keys, folder / "lake", record)
