"""Horizons: the first local date that a dataset still has, by the retention of the policy.

A horizon is recorded, and only housekeeping moves it, forward alone. Runs compare with what is recorded, never with
their clock: so what a run drops depends on the lake and its input, not on the hour at which somebody looks, and a
replay of old files brings nothing back. It is recorded before the days are dropped from the tables; from then on no
run writes them, and a housekeeping that dies in between is made up for by the next one.
"""

import json
from collections.abc import Mapping

from pipeline.errors import MeterveilError
from pipeline.files import replace_file
from pipeline.lake import Lake

_FILE = "horizons.json"


def read_horizons(lake: Lake) -> dict[str, int]:
    """Read each dataset's first local date, in days since 1970-01-01; datasets that keep everything are left out.

    Raises:
        MeterveilError: the file is damaged, or gone.
    """
    path = lake.records("operational") / _FILE
    try:
        return {str(name): int(day) for name, day in json.loads(lake.read_memory(_FILE)).items()}
    except (ValueError, TypeError, AttributeError):
        raise MeterveilError("the horizons can't be read", where=str(path), remedy="restore the file") from None


def advance_horizons(lake: Lake, wanted: Mapping[str, int]) -> None:
    """Move horizons forward, for good; to be called by the sole committer."""
    have = read_horizons(lake)
    moved = have | {name: max(day, have.get(name, day)) for name, day in wanted.items()}
    if moved != have:
        replace_file(lake.records("operational") / _FILE, json.dumps(moved, indent=2).encode() + b"\n", private=True)
