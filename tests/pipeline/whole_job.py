"""Runs of the whole job and looks at its tables: what the tests of ``ingest`` share."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa

from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions
from pipeline.iceberg import current_files
from pipeline.keys import create_keyset
from pipeline.lake import open_lake
from pipeline.launch import IngestRequest, run_ingest
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.sources.base import ReadOptions

#: Tables that hold data: all of the default policy but the log of runs.
DATA_TABLES = tuple(sorted(set(load_policy(DEFAULT_POLICY).datasets) - {"operational.runs"}))
CELL_TABLES = ("operational.readings", "operational.billing_daily", "analytics.readings", "analytics.daily")


def make_keys(folder: Path) -> dict[str, object]:
    """Make a keyset in a folder; the arguments of a request that name it."""
    keyset, kek = folder / "keyset.json", folder / "kek.bin"
    create_keyset(keyset, str(kek), active_from=date(2000, 1, 1))
    return {"keyset": keyset, "kek": str(kek)}
