import pytest

from benchmarks.source_decoders import WAYS, decode_series
from benchmarks.sources import _MAPPING, FORMATS, _make
from pipeline.fleet.generate import generate_fleet
from pipeline.fleet.options import FleetOptions
from pipeline.sources.base import ReadOptions


@pytest.mark.parametrize("name", FORMATS)
def test_both_ways_find_the_same(tmp_path, monkeypatch, name):
    one = FORMATS[name]
    monkeypatch.setattr("benchmarks.sources.generate", generate_here)
    file = _make(one, tmp_path, 30)
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(_MAPPING)
    options = ReadOptions(registered_at="file-name", mapping=str(mapping) if one.mapped else None)
    ours = decode_series(str(file), options)
    assert ours[0] > 24 * 9
    package = {"lxml iterparse": "lxml", "nemreader": "nemreader"}.get(one.other)
    if package:
        pytest.importorskip(package)
    assert WAYS[one.other](str(file)) == ours


def generate_here(out, **options):
    options.pop("faults")
    generate_fleet(FleetOptions(**options, faults=frozenset()), out)
