"""Mirrors that are kept: which are brought and when. What is brought there: ``tests/cluster/test_mirror.py``."""

import logging
from dataclasses import astuple
from unittest.mock import patch

import pytest

from pipeline.errors import MeterveilError
from pipeline.kept_mirrors import Mirror, keep_mirror, list_kept, mirrored
from pipeline.lake import create_lake

ONE, OTHER = Mirror("analytics", "warehouse", "meterveil"), Mirror("operational", "inner", "metering")


@pytest.fixture
def lake(tmp_path):
    return create_lake(tmp_path / "lake", bucket_count=2)


@pytest.fixture
def brought():
    """The mirrors that were brought."""
    found = []

    def bring(_, zone, name, namespace):
        if name == "away":
            raise MeterveilError("it does not answer", where=name)
        found.append((zone, name, namespace))

    with patch("pipeline.kept_mirrors.bring_tables", bring):
        yield found


def test_each_is_brought_once_a_commit_from_when_it_is_kept_until_it_is_no_more(lake, brought):
    for kept in ([ONE], [ONE, OTHER], [ONE, OTHER], [OTHER], []):
        for mirror in (ONE, OTHER):
            keep_mirror(lake, mirror, always=mirror in kept)
        assert sorted(map(astuple, list_kept(lake))) == sorted(map(astuple, kept))
        brought.clear()
        with mirrored(lake):
            assert brought == []
        assert sorted(brought) == sorted(map(astuple, kept))


def test_a_block_that_fails_brings_nothing(lake, brought):
    keep_mirror(lake, ONE, always=True)
    with pytest.raises(RuntimeError), mirrored(lake):
        raise RuntimeError
    assert brought == []


@pytest.mark.parametrize("damage", [b"{", b'[{"name": "x"}]', b"7"])
def test_what_can_not_be_brought_is_a_line_in_the_log(lake, brought, caplog, damage):
    keep_mirror(lake, Mirror("analytics", "away", "x"), always=True)
    keep_mirror(lake, ONE, always=True)
    with mirrored(lake):
        pass
    assert brought == [astuple(ONE)]
    (lake.records("operational") / "mirrors.json").write_bytes(damage)
    with mirrored(lake):
        pass
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert ["away: it does not answer" in said[0], "the list of mirrors can't be read" in said[1]] == [True, True]
