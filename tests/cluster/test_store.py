"""A lake in an object store, with its catalogs in PostgreSQL: the same rows as a lake on the disk, and no secret anywhere."""

import base64
import json
import random
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count, product
from pathlib import Path

import pytest
from cluster import run_cluster
from jobs import read_job
from servers import BUCKET
from small_runs import PROCESSES, PROGRAM, find_wrong, run_command
from sqlalchemy.exc import SQLAlchemyError
from store_faults import Begun
from whole_job import ingest

from pipeline import ingest as graph
from pipeline.cells import rewrite_cell
from pipeline.commit import commit_run
from pipeline.context import OpenRun
from pipeline.errors import MeterveilError
from pipeline.journal import sole_committer
from pipeline.lake import create_lake, is_lake, open_lake
from pipeline.lock import commit_lock
from pipeline.maintain import maintain
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.records import held_session
from pipeline.stores import locate

long = pytest.mark.long
_NUMBERS = count()


class Stored:
    """A lake to be made in the store: its place, and the options that make it."""

    def __init__(self, served):
        name = f"lake{next(_NUMBERS)}"
        self.place = locate(f"s3://{BUCKET}/{name}")
        self.catalog = served.catalog(name)
        self.options = ("--catalog", self.catalog)
        self.files = served.objects / name


@pytest.fixture(scope="module")
def fleet(fleet, served):
    fleet.objects[f"s3://{BUCKET}"] = served.objects
    return fleet


@pytest.fixture
def stored(served):
    return Stored(served)


@pytest.fixture(scope="module")
def done(fleet, served):
    """A lake that holds both parts; it is not to be changed."""
    stored = Stored(served)
    for part in (1, 2):
        assert_done(fleet.run(stored.place, part, *(stored.options if part == 1 else ())))
    return stored


def assert_done(done):
    assert done.returncode == 0, done.stderr


def assert_as_expected(fleet, lake):
    assert find_wrong(lake, done=True) == []
    assert fleet.compare(lake) == []


def meterveil(*arguments):
    return run_command([*PROGRAM, *map(str, arguments)])


def test_rows_are_those_of_a_lake_on_the_disk(fleet, done):
    assert_as_expected(fleet, done.place)


@long
def test_rows_are_the_same_with_several_processes(fleet, stored):
    for part in (1, 2):
        assert_done(fleet.run(stored.place, part, *PROCESSES, *(stored.options if part == 1 else ())))
    assert_as_expected(fleet, stored.place)


def test_queries_answer_as_of_a_lake_on_the_disk(fleet, done):
    sql = """SELECT local_date, count(*) AS rows, count(DISTINCT site) AS sites, sum(energy) AS kwh, min(site) AS first
             FROM analytics.daily WHERE local_date >= '2026-03-29' GROUP BY local_date ORDER BY local_date"""
    asked = ("--role", "analyst", "--purpose", "load_research", "--format", "json")
    answers = [meterveil("query", "--lake", lake, *asked, sql) for lake in (done.place, fleet.folder / "expected")]
    assert_done(answers[0])
    assert len(json.loads(answers[0].stdout)) == 2
    assert answers[0].stdout == answers[1].stdout


def test_a_query_reaches_nothing_but_its_tables(done):
    asked = ("query", "--lake", done.place, "--role", "analyst", "--purpose", "load_research")
    other = f"SELECT * FROM read_parquet('s3://{BUCKET}/**/*.parquet')"
    for sql in (other, "SELECT * FROM operational.readings", 'SELECT * FROM "objects of operational.readings"'):
        refused = meterveil(*asked, sql)
        assert (refused.returncode, refused.stdout) == (1, "")


@long
def test_the_past_can_be_asked_for_until_housekeeping_forgets_it(fleet, stored):
    assert_done(fleet.run(stored.place, 1, *stored.options))
    lake = open_lake(stored.place)
    between = datetime.now(UTC).isoformat()
    time.sleep(0.01)
    assert_done(fleet.run(stored.place, 2))
    asked = ("query", "--lake", stored.place, "--role", "analyst", "--purpose", "load_research")
    asked = (*asked, "--format", "csv", "SELECT count(*) AS rows FROM analytics.readings")
    (now, before) = (int(meterveil(*asked, *more).stdout.split()[-1]) for more in ((), ("--as-of", between)))
    assert 0 < before < now
    files = len(list(stored.files.rglob("*.parquet")))
    plan = load_policy(lake.stored_policy())
    later = datetime.now(UTC) + timedelta(days=3)
    chores = {chore.what: chore.count for chore in maintain(lake, plan, keep_days=1, now=later)}
    assert chores["snapshots that expire"] > 0
    assert chores["files that nothing needs"] > 0
    assert len(list(stored.files.rglob("*.parquet"))) < files
    assert meterveil(*asked, "--as-of", between).returncode == 1
    assert_as_expected(fleet, stored.place)


@long
def test_runs_at_the_same_time_end_as_if_one_had_come_after_the_other(fleet, stored):
    assert_done(fleet.run(stored.place, 1, *stored.options))
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda part: fleet.run(stored.place, part, "--force"), (1, 2)):
            assert_done(done)
    assert_as_expected(fleet, stored.place)


def take_lock(lake, patience_s):
    """Take and give back the committer's lock in another thread, which has a session of its own."""

    def take():
        with commit_lock(lake, patience_s):
            pass

    with ThreadPoolExecutor(1) as pool:
        pool.submit(take).result()


def test_one_session_commits_at_a_time_whoever_asks(stored):
    lake = create_lake(stored.place, bucket_count=1, catalog=stored.catalog)
    with commit_lock(lake), pytest.raises(MeterveilError, match=r"committing for more than 0 s"):
        take_lock(lake, patience_s=0)
    take_lock(lake, patience_s=0)


@long
def test_whoever_has_lost_the_lock_changes_nothing_any_more(fleet, served, stored):
    assert_done(fleet.run(stored.place, 1, *stored.options))
    lake = open_lake(stored.place)
    before = {name: lake.state(name).file for name in lake.table_names()}
    late = lake.records("operational") / "journal" / "late.json"
    with sole_committer(lake):
        table = lake.table("operational.runs")
        served.ask(f"SELECT pg_terminate_backend({held_session(stored.catalog).info.backend_pid})")
        take_lock(lake, patience_s=5)  # by now somebody else had it
        with pytest.raises(MeterveilError, match="the catalog server fails"):
            late.write_bytes(b"{}")
        with pytest.raises(SQLAlchemyError), table.transaction() as change:
            change.set_properties(late="yes")
    assert not late.exists()
    assert {name: lake.state(name).file for name in lake.table_names()} == before
    assert_done(fleet.run(stored.place, 2))
    assert_as_expected(fleet, stored.place)


@long
def test_a_killed_run_leaves_what_the_next_one_deletes(fleet, stored):
    assert_done(fleet.run(stored.place, 1, *stored.options))
    with subprocess.Popen(fleet.command(stored.place, 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while not list(stored.files.glob("operational/staging/*/*.frames")) and run.poll() is None:
            time.sleep(0.02)
        run.kill()
    assert list(stored.files.glob("operational/staging/*/*.frames"))
    assert_done(fleet.run(stored.place, 2))
    assert_as_expected(fleet, stored.place)


@long
def test_attempts_at_once_commit_once_and_stragglers_change_nothing(fleet, stored, monkeypatch):
    attempts = []

    def commit_twice_at_once(run, outcome, rules):
        attempts.extend((OpenRun(run.context), outcome, rules))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda opened: commit_run(opened, outcome, rules), (run, OpenRun(run.context))))

    with monkeypatch.context() as patched:
        patched.setattr(graph, "commit_run", commit_twice_at_once)
        options = {"reference": fleet.folder / "reference", "buckets": 4, "catalog": stored.catalog}
        ingest(stored.place, [fleet.folder / "readings" / "*"], fleet.keys, **options)
    lake, (late, outcome, rules) = open_lake(stored.place), attempts
    before = {name: lake.state(name).file for name in lake.table_names()}
    assert lake.state("operational.runs").summary()["total-data-files"] == "1"
    for work in outcome.cells:
        rewrite_cell(late, work.cell, ())
        with pytest.raises(FileNotFoundError):  # what was staged is gone
            rewrite_cell(late, work.cell, work.frames)
    with pytest.raises(FileNotFoundError):  # so is the run's policy
        commit_run(late, outcome, rules)
    assert {name: lake.state(name).file for name in lake.table_names()} == before
    maintain(lake, load_policy(lake.stored_policy()))  # what they wrote is named by no table
    assert_as_expected(fleet, stored.place)


def test_no_secret_is_in_the_store_the_catalog_or_the_lake(served, done):
    secrets = [served.environment[name].encode() for name in ("AWS_SECRET_ACCESS_KEY", "PGPASSWORD")]
    contents = [path.read_bytes() for path in done.files.rglob("*") if path.is_file()]
    name = done.catalog.rpartition("/")[2]
    tables = product(("operational", "analytics"), ("records", "lines", "iceberg_tables"))
    contents += [served.ask(f"SELECT t::text FROM {zone}.{table} t", name).encode() for zone, table in tables]
    assert len(contents) > 100
    assert not any(secret in content for secret in secrets for content in contents)


def test_a_lake_in_a_store_is_refused_without_a_catalog_for_many_machines(fleet, stored):
    refused = fleet.run(stored.place, 1)
    assert refused.returncode == 1
    assert "SQLite is not" in refused.stderr
    assert "--catalog postgresql://" in refused.stderr
    assert not is_lake(stored.place)
    assert not stored.files.exists()


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://me:word@host/lake",
        "postgresql://me@host/lake",
        "postgresql://host/lake?password=word",
        "mysql://host/lake",
        "postgresql:///lake",
    ],
)
def test_an_address_of_a_catalog_holds_no_credentials(stored, uri):
    with pytest.raises(MeterveilError) as refused:
        create_lake(stored.place, bucket_count=1, catalog=uri)
    assert "word" not in str(refused.value).replace("password", "")


def test_a_database_holds_one_lake(stored):
    create_lake(stored.place, bucket_count=1, catalog=stored.catalog)
    with pytest.raises(MeterveilError, match="make a database for each lake"):
        create_lake(stored.place.with_name("another"), bucket_count=1, catalog=stored.catalog)
    assert not is_lake(stored.place.with_name("another"))


@long
def test_a_folder_that_several_machines_mount_may_have_a_catalog_server(fleet, stored, tmp_path):
    for part in (1, 2):
        assert_done(fleet.run(tmp_path / "lake", part, *(stored.options if part == 1 else ())))
    assert not list(tmp_path.rglob("catalog.db*"))
    assert_as_expected(fleet, tmp_path / "lake")


def test_keys_are_not_made_in_a_store(tmp_path):
    for keyset, kek in ((f"s3://{BUCKET}/keyset.json", tmp_path / "kek"), (tmp_path / "keyset", f"s3://{BUCKET}/kek")):
        refused = meterveil("keys", "create", "--keyset", keyset, "--kek", kek)
        assert (refused.returncode, "keys are made on a disk" in refused.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_an_analyst_needs_the_analytics_schema_alone(served, done):
    name = done.catalog.rpartition("/")[2]
    served.ask("CREATE ROLE analyst LOGIN PASSWORD 'of a test'", name)
    served.ask("GRANT USAGE ON SCHEMA analytics TO analyst", name)
    served.ask("GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO analyst", name)
    asked = ("--role", "analyst", "--purpose", "load_research", "SELECT count(*) FROM analytics.daily")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGUSER", "analyst")
        patch.setenv("PGPASSWORD", "of a test")
        answer = meterveil("query", "--lake", done.place, *asked)
        assert_done(answer)
        assert "can't write the audit log" in answer.stderr
        assert not open_lake(done.place).reaches("operational")
    served.ask("GRANT INSERT ON analytics.lines TO analyst", name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGUSER", "analyst")
        patch.setenv("PGPASSWORD", "of a test")
        answer = meterveil("query", "--lake", done.place, *asked)
        assert (answer.returncode, answer.stderr) == (0, "")
    lines = (open_lake(done.place).records("analytics") / "audit.jsonl").read_lines()
    assert [json.loads(line)["role"] for line in lines] == ["analyst"]
    assert find_wrong(done.place, done=True) == []


@long
def test_a_run_outlives_what_fails_or_the_next_one_completes_it(fleet, served, stored):
    begun = Begun(served, fleet, stored.place, stored.catalog)
    for number in range(3):
        what, _, wrong = begun.fail_once(random.Random(number))
        assert wrong == [], what


@pytest.fixture
def apart(fleet, served, stored):
    """Options of an ingestion that names nothing of this machine: all is in the store, the KEK in the environment."""
    inputs = served.objects / "inputs" / stored.place.name
    shutil.copytree(fleet.folder / "readings", inputs / "readings")
    shutil.copytree(fleet.folder / "reference", inputs / "reference")
    shutil.copy(DEFAULT_POLICY, inputs / "policy.yaml")
    shutil.copy(fleet.keys["keyset"], inputs / "keyset.json")
    at = f"s3://{BUCKET}/inputs/{stored.place.name}"
    named = {"readings": "readings/*", "reference": "reference", "policy": "policy.yaml", "keyset": "keyset.json"}
    options = [part for option, name in named.items() for part in (f"--{option}", f"{at}/{name}")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEK", base64.urlsafe_b64encode(Path(fleet.keys["kek"]).read_bytes()).decode())
        yield [*options, "--kek", "env:KEK", "--lake", stored.place, "--buckets", 4, *stored.options]


@long
def test_readings_reference_policy_and_keys_may_be_in_the_store(fleet, stored, apart):
    ingested = meterveil("ingest", *apart, *PROCESSES, "--json")
    assert_done(ingested)
    names = {entry["name"] for entry in json.loads(ingested.stdout)["inputs"]}
    assert names == {path.name for path in (fleet.folder / "readings").iterdir()}
    assert_as_expected(fleet, stored.place)
    assert not list(Path(tempfile.gettempdir()).glob("meterveil-input-*"))


@long
def test_a_cluster_has_nothing_but_the_store_the_catalog_and_its_environment(flink, fleet, stored, apart):  # noqa: ARG001
    with run_cluster() as cluster:
        ingested = meterveil("ingest", *apart, *cluster.options(2))
        assert_done(ingested)
        assert read_job(cluster).state == "FINISHED"
    assert_as_expected(fleet, stored.place)


@long
def test_a_bad_file_in_the_store_is_told_by_its_address(fleet, served, stored):
    bad = served.objects / "inputs" / "cut.parquet"
    bad.parent.mkdir(exist_ok=True)
    bad.write_bytes(next((fleet.folder / "readings").iterdir()).read_bytes()[:-9])
    command = fleet.command(stored.place, 1, *stored.options)
    command.insert(command.index("--readings") + 1, f"s3://{BUCKET}/inputs/cut.parquet")
    refused = run_command(command)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith(f"meterveil: s3://{BUCKET}/inputs/cut.parquet: ")


@long
def test_a_rebuild_by_another_policy_is_that_of_a_lake_on_the_disk(fleet, stored, tmp_path):
    for part in (1, 2):
        assert_done(fleet.run(stored.place, part, *(stored.options if part == 1 else ())))
    text = DEFAULT_POLICY.read_text(encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(text.replace("k: 5", "k: 7"), encoding="utf-8")
    assert text.count("k: 5")
    keys = ("--keyset", fleet.keys["keyset"], "--kek", fleet.keys["kek"])
    assert_done(meterveil("rebuild", "--lake", stored.place, "--policy", tmp_path / "policy.yaml", *keys))
    assert find_wrong(stored.place, done=True) == []
    on_disk = tmp_path / "lake"
    for part in (1, 2):
        more = ("--policy", str(tmp_path / "policy.yaml")) if part == 1 else ()
        assert_done(fleet.run(on_disk, part, *more))
    expected, found = fleet.read_tables(on_disk), fleet.read_tables(stored.place)
    assert [name for name in expected if not expected[name].equals(found[name])] == []
