"""Mirrors of a lake: in a double of Glue, and in Iceberg's own REST catalog, each in a server and spoken to by its client."""

import json
import secrets
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import rest_server
from ports import LOOPBACK, find_ports
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError, ServerError
from pyiceberg.utils.config import Config
from small_runs import PROGRAM, run_command

from pipeline.errors import MeterveilError
from pipeline.lake import open_lake
from pipeline.policy_file import DEFAULT_POLICY

#: What says where the catalog is, by its type.
ADDRESS = {"glue": "PYICEBERG_CATALOG__MIRROR__GLUE__ENDPOINT", "rest": "PYICEBERG_CATALOG__MIRROR__URI"}


def configure(monkeypatch, kind, address, **more):
    for name, value in {"TYPE": kind, **more}.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__MIRROR__{name}", value)
    monkeypatch.setenv(ADDRESS[kind], address)
    # pyiceberg reads the environment once; the commands do it by themselves.
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", Config())


@contextmanager
def run_glue(monkeypatch):
    moto = pytest.importorskip("moto.server", reason="no double of AWS: pip install '.[kms]'")
    pytest.importorskip("boto3", reason="no client of AWS: pip install '.[kms]'")
    (port,) = find_ports(1)
    server = moto.ThreadedMotoServer(ip_address=LOOPBACK, port=port, verbose=False)
    server.start()
    address = f"http://{LOOPBACK}:{port}"
    urllib.request.urlopen(f"{address}/moto-api/reset", data=b"").close()  # noqa: S310 - doubles of a process share state
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, secrets.token_hex(8))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    configure(monkeypatch, "glue", address)
    yield
    server.stop()


@contextmanager
def run_rest(monkeypatch, classes, **options):
    with rest_server.run_rest_catalog(classes, **options) as running:
        configure(monkeypatch, "rest", running.address, TOKEN=running.token)
        yield running


@pytest.fixture(scope="session")
def rest_classes(tmp_path_factory):
    if missing := rest_server.find_missing():
        pytest.skip(missing)
    try:
        return rest_server.compile_server(tmp_path_factory.mktemp("rest"))
    except MeterveilError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["glue", pytest.param("rest", marks=pytest.mark.long)])
def kind(request, monkeypatch):
    """The type of a catalog that runs and that pyiceberg's configuration names."""
    running = (
        run_glue(monkeypatch)
        if request.param == "glue"
        else run_rest(monkeypatch, request.getfixturevalue("rest_classes"))
    )
    with running:
        yield request.param


@pytest.fixture
def rest(monkeypatch, rest_classes):
    with run_rest(monkeypatch, rest_classes) as running:
        yield running


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


@pytest.mark.long
@pytest.mark.usefixtures("kind")
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


@contextmanager
def away(monkeypatch, kind):
    """Have nothing answer where the catalog was."""
    with monkeypatch.context() as patch:
        patch.setenv(ADDRESS[kind], f"http://{LOOPBACK}:{find_ports(1)[0]}")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield


@pytest.mark.long
def test_a_mirror_that_is_kept_is_in_step_after_every_commit(fleet, tmp_path, kind, monkeypatch):
    lake = tmp_path / "lake"
    assert fleet.run(lake, 1).returncode == 0
    mirror(lake, "--always")
    with away(monkeypatch, kind):
        refused = meterveil("mirror", "--lake", lake, "--to", "mirror")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        done = fleet.run(lake, 2)
        assert (done.returncode, "a mirror is late" in done.stderr) == (0, True)
    assert meterveil("maintain", "--lake", lake, "--yes").returncode == 0
    assert_in_step(lake)
    mirror(lake, "--no-always")
    with away(monkeypatch, kind):
        again = fleet.run(lake, 1, "--force")
        assert (again.returncode, "mirror" in again.stderr) == (0, False)


@pytest.mark.long
@pytest.mark.usefixtures("kind")
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
    assert (refused.returncode, "none: neither a Glue nor a REST catalog; " in refused.stderr) == (1, True)


def pointer(table):
    return load_catalog("mirror").load_table(f"analytics.{table}").metadata_location


@pytest.fixture
def lake(fleet):
    """A lake that others read too: no test changes it."""
    return fleet.folder / "expected"


def find_earlier(lake, table):
    """Metadata that a table of the lake had once."""
    return open_lake(lake).table(f"analytics.{table}").metadata.metadata_log[-1].metadata_file


@contextmanager
def gone(file):
    aside = Path(file).rename(f"{file}.aside")
    try:
        yield
    finally:
        aside.rename(file)


@pytest.mark.long
@pytest.mark.usefixtures("rest")
def test_a_table_that_the_server_cannot_open_is_mended_if_it_was_brought(lake):
    brought = mirror(lake)
    catalog, earlier, own = load_catalog("mirror"), find_earlier(lake, "daily"), pointer("daily")
    catalog.register_table("analytics.daily", earlier, overwrite=True)
    for name in ("analytics.old", "analytics.foreign"):
        catalog.register_table(name, earlier)
    catalog.update_namespace_properties("analytics", updates={"meterveil.old": f"{Path(earlier).parent}/"})
    with gone(earlier):
        with pytest.raises(ServerError):
            pointer("daily")
        outcomes = mirror(lake)
        changed = {"analytics.daily": "moved", "analytics.old": "removed"}
        assert outcomes == dict.fromkeys(brought, "as it was") | changed
        assert pointer("daily") == own
    assert pointer("foreign") == earlier  # what nobody knows while it can't be opened is left alone
    assert "meterveil.old" not in catalog.load_namespace_properties("analytics")
    catalog.drop_table("analytics.foreign")
    assert_in_step(lake)


@pytest.mark.long
@pytest.mark.usefixtures("rest")
def test_a_table_that_the_server_cannot_open_is_not_taken_if_it_was_not_brought(lake):
    catalog, earlier = load_catalog("mirror"), find_earlier(lake, "daily")
    catalog.create_namespace("analytics")
    catalog.register_table("analytics.daily", earlier)
    with gone(earlier):
        refused = meterveil("mirror", "--lake", lake, "--to", "mirror")
        assert (refused.returncode, "not of this lake" in refused.stderr) == (1, True)
    assert pointer("daily") == earlier


@pytest.mark.long
def test_a_server_that_does_not_overwrite_is_a_line_and_its_tables_stay(lake, monkeypatch, rest_classes):
    with run_rest(monkeypatch, rest_classes, overwrites=False):
        catalog, earlier = load_catalog("mirror"), find_earlier(lake, "daily")
        catalog.create_namespace("analytics")
        catalog.register_table("analytics.daily", earlier)
        refused = meterveil("mirror", "--lake", lake, "--to", "mirror")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "does not register over a table" in refused.stderr
        assert pointer("daily") == earlier
        catalog.drop_table("analytics.daily")
        assert mirror(lake)["analytics.daily"] == "added"
        assert_in_step(lake)


@pytest.mark.long
def test_a_token_that_is_refused_is_a_line_without_it(lake, monkeypatch, rest):
    monkeypatch.setenv("PYICEBERG_CATALOG__MIRROR__TOKEN", "wrong-secret")
    refused = meterveil("mirror", "--lake", lake, "--to", "mirror")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "wrong-secret" not in refused.stderr
    monkeypatch.setenv("PYICEBERG_CATALOG__MIRROR__TOKEN", rest.token)
    assert set(mirror(lake).values()) == {"added"}
