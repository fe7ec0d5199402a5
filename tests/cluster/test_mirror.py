"""Mirrors of a lake: its tables in a double of Glue in a server of its own, spoken to by its own client."""

import json
import secrets
import urllib.request

import pytest
from ports import LOOPBACK, find_ports
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.utils.config import Config
from small_runs import PROGRAM, run_command

from pipeline.lake import open_lake
from pipeline.policy_file import DEFAULT_POLICY


def configure_glue(monkeypatch):
    moto = pytest.importorskip("moto.server", reason="no double of AWS: pip install '.[kms]'")
    pytest.importorskip("boto3", reason="no client of AWS: pip install '.[kms]'")
    (port,) = find_ports(1)
    server = moto.ThreadedMotoServer(ip_address=LOOPBACK, port=port, verbose=False)
    server.start()
    address = f"http://{LOOPBACK}:{port}"
    urllib.request.urlopen(f"{address}/moto-api/reset", data=b"").close()  # noqa: S310 - doubles of a process share state
    for name, value in {"TYPE": "glue", "GLUE__ENDPOINT": address}.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__MIRROR__{name}", value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, secrets.token_hex(8))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    return server.stop


def read_configuration(monkeypatch):
    """pyiceberg reads the environment once; the commands do it by themselves."""
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())


@pytest.fixture
def glue(monkeypatch):
    stop = configure_glue(monkeypatch)
    read_configuration(monkeypatch)
    yield
    stop()


def meterveil(*arguments):
    return run_command([*PROGRAM, *map(str, arguments)])


def mirror(lake, *more):
    done = meterveil("mirror", "--lake", lake, "--to", "mirror", "--json", *more)
    assert done.returncode == 0, done.stderr
    return {entry["table"]: entry["outcome"] for entry in json.loads(done.stdout)}


def assert_in_step(lake):
    """Every analytics table is read by the mirror as the lake has it, and nothing else is there."""
    catalog, opened = load_catalog("mirror"), open_lake(lake)
    names = opened.table_names(("analytics",))
    assert sorted(".".join(name) for name in catalog.list_tables("analytics")) == names
    for name in names:
        found, own = catalog.load_table(name), opened.table(name)
        assert found.metadata_location == own.metadata_location
        assert found.scan().to_arrow().equals(own.scan().to_arrow()), name


@pytest.mark.usefixtures("glue")
def test_a_mirror_has_the_rows_of_the_lake_after_every_commit_and_a_rebuild(fleet, tmp_path):
    lake = tmp_path / "lake"
    for part, outcomes in ((1, {"added"}), (2, {"moved", "as it was"})):
        done = fleet.run(lake, part)
        assert done.returncode == 0, done.stderr
        assert set(mirror(lake).values()) <= outcomes
        assert_in_step(lake)
    assert set(mirror(lake / "analytics").values()) == {"as it was"}
    text = DEFAULT_POLICY.read_text(encoding="utf-8")
    assert text.count("analytics.grid_planning:") == 1
    (tmp_path / "policy.yaml").write_text(
        text.replace("analytics.grid_planning:", "analytics.renamed:"), encoding="utf-8"
    )
    named = ("--policy", tmp_path / "policy.yaml", "--keyset", fleet.keys["keyset"], "--kek", fleet.keys["kek"])
    assert meterveil("rebuild", "--lake", lake, *named).returncode == 0
    outcomes = mirror(lake)
    assert (outcomes["analytics.grid_planning"], outcomes["analytics.renamed"]) == ("removed", "added")
    assert_in_step(lake)
    catalog = load_catalog("mirror")
    with pytest.raises(NoSuchTableError):
        catalog.load_table("analytics.grid_planning")


@pytest.mark.usefixtures("glue")
def test_a_mirror_touches_no_table_of_another_lake(fleet, tmp_path):
    for name in ("one", "other"):
        assert fleet.run(tmp_path / name, 1).returncode == 0
    assert set(mirror(tmp_path / "one").values()) == {"added"}
    refused = meterveil("mirror", "--lake", tmp_path / "other", "--to", "mirror")
    assert (refused.returncode, "not of this lake" in refused.stderr) == (1, True)
    assert set(mirror(tmp_path / "other", "--namespace", "other").values()) == {"added"}
    assert_in_step(tmp_path / "one")


def test_a_catalog_that_is_unknown_away_or_another_is_a_line(fleet, tmp_path, monkeypatch):
    assert fleet.run(tmp_path / "lake", 1).returncode == 0
    refused = meterveil("mirror", "--lake", tmp_path / "lake", "--to", "none")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith("meterveil: none: the catalog can't be brought up to date: ")
    monkeypatch.setenv("PYICEBERG_CATALOG__NONE__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__NONE__URI", f"sqlite:///{tmp_path}/mirror.db")
    refused = meterveil("mirror", "--lake", tmp_path / "lake", "--to", "none")
    assert (refused.returncode, "none: not a Glue catalog; " in refused.stderr) == (1, True)


@pytest.mark.long
@pytest.mark.usefixtures("glue")
def test_a_mirror_that_was_away_is_brought_in_step_by_the_next(fleet, tmp_path, monkeypatch):
    lake = tmp_path / "lake"
    assert fleet.run(lake, 1).returncode == 0
    mirror(lake)
    with monkeypatch.context() as patch:
        patch.setenv("PYICEBERG_CATALOG__MIRROR__GLUE__ENDPOINT", f"http://{LOOPBACK}:{find_ports(1)[0]}")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        refused = meterveil("mirror", "--lake", lake, "--to", "mirror")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert fleet.run(lake, 2).returncode == 0
    mirror(lake)
    assert_in_step(lake)
