"""The packages depend on each other in one direction, and the map in ARCHITECTURE.md is true."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: What each package of ours may import of ours.
LAYERS = {"schemas": set(), "transforms": {"schemas"}, "pipeline": {"schemas", "transforms"}}
#: What the core must not know: engines, tables, files, clocks.
FOREIGN = {"apache_beam", "pyiceberg", "duckdb", "fastavro", "os", "pathlib", "io", "time", "logging"}
MAP = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def imports_of(module: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in named}


@pytest.mark.parametrize("package", LAYERS)
def test_packages_import_in_one_direction(package):
    for module in (ROOT / package).rglob("*.py"):
        strange = imports_of(module) & LAYERS.keys() - LAYERS[package] - {package}
        assert not strange, module


def test_the_core_knows_no_engine_no_file_and_no_clock():
    for module in (ROOT / "transforms").glob("*.py"):
        assert not imports_of(module) & FOREIGN, module


@pytest.mark.parametrize("package", LAYERS)
def test_the_map_has_every_module(package):
    modules = {path.name for path in (ROOT / package).glob("*.py")} - {"__init__.py"}
    assert not {name for name in modules if f"`{name}`" not in MAP and f", {name}`" not in MAP}


def test_every_test_that_is_named_is_there():
    named = set(re.findall(r"`(test_\w+\.py)`", MAP))
    assert named
    assert named <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}
