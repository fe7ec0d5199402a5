import json
import subprocess
import sys

import pytest

#: What takes long to import, and what it is for.
ENGINE = {"apache_beam", "grpc"}
CATALOG = {"pyiceberg", "sqlalchemy", "pydantic"}
COLUMNS = {"pyarrow", "numpy", "duckdb", "datafusion"}
CONNECTORS = {"pymongo", "requests"}
COMMAND = """
import json, sys
from pipeline.cli import main
code = 0
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]), file=sys.stderr)
"""


def imports_of(*arguments):
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(modules)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["ingest", "--help"], ["query", "--help"]])
def test_help_imports_nothing_that_works(arguments):
    assert not imports_of(*arguments) & (ENGINE | CATALOG | COLUMNS)


@pytest.mark.parametrize(
    "command",
    [
        ["query", "--role", "analyst", "--purpose", "load_research", "SELECT count(*) FROM analytics.daily"],
        ["tables", "--role", "analyst"],
    ],
    ids=lambda command: command[0],
)
def test_who_reads_tables_imports_nothing_that_changes_them(command, fleet_run):
    modules = imports_of(*command, "--lake", fleet_run.lake)
    assert "pyarrow" in modules
    assert not modules & (ENGINE | CATALOG)


def test_who_inspects_files_waits_for_no_engine_and_no_catalog(fleet_run):
    modules = imports_of("inspect", next((fleet_run.folder / "readings").iterdir()))
    assert "pyarrow" in modules
    assert not modules & (ENGINE | CATALOG)


def test_the_engine_comes_without_its_connectors(fleet_run):
    keys = ["--keyset", fleet_run.keys["keyset"], "--kek", fleet_run.keys["kek"]]
    readings = next((fleet_run.folder / "readings").iterdir())
    modules = imports_of("ingest", "--dry-run", "--readings", readings, "--lake", fleet_run.lake, *keys)
    assert "apache_beam" in modules
    assert not modules & CONNECTORS


def test_a_connector_can_be_imported_afterwards():
    program = """
import gc
from pipeline.imports import quick_imports
with quick_imports():
    assert not gc.isenabled()
    import apache_beam
assert gc.isenabled()
import apache_beam.io.gcp.bigquery, pymongo
"""
    subprocess.run([sys.executable, "-c", program], check=True)
