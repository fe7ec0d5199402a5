"""A lake in a store that speaks as Google Cloud Storage does: all is there, and the rows are those of a lake on the disk."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from servers import BUCKET, run_google
from small_runs import PROCESSES, PROGRAM, find_wrong, run_command

from pipeline.errors import MeterveilError
from pipeline.lake import open_lake
from pipeline.maintain import maintain
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.stores import delete_tree, locate, upload

#: Its server is built first.
pytestmark = pytest.mark.long

ROOT = f"gs://{BUCKET}"


@pytest.fixture(scope="module")
def google(fleet):
    """Run the store, which this process and all that it starts can use; gives its folder of objects."""
    try:
        with run_google() as (objects, environment), pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            fleet.objects[ROOT] = objects
            yield objects
    except MeterveilError as missing:
        if missing.where in {"Google store", "fake-gcs-server"}:
            pytest.skip(str(missing))
        raise


@pytest.fixture
def place(google, request):  # noqa: ARG001 - it has to run
    return locate(f"{ROOT}/{request.node.name}")


def meterveil(*arguments):
    return run_command([*PROGRAM, *map(str, arguments)])


def test_a_place_lists_and_deletes_what_is_below_as_a_folder_does(place, tmp_path):
    names = ["one/a.txt", "one/deeper/b.txt", "two/c.txt", "two/d.json", "e.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        for root in (tmp_path, place):
            (root / name).write_bytes(name.encode())
    for pattern in ("*", "*/*", "*/c.txt", "one/*", "**/*.txt", "*/deeper", "none/*", "e.txt"):
        found = {path.relative_to(place).as_posix() for path in place.glob(pattern)}
        assert found == {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob(pattern)}, pattern
    assert [path.name for path in sorted(place.iterdir())] == ["e.txt", "one", "two"]
    delete_tree(place / "one")
    delete_tree(place / "none")
    assert not (place / "one").exists()
    assert {path.relative_to(place).as_posix() for path in place.rglob("*")} == set(names[2:])
    with pytest.raises(FileNotFoundError):
        (place / "one" / "a.txt").read_bytes()


def put_inputs(fleet, place) -> str:
    """Put readings, reference, policy and keyset beside a lake."""
    at = place.with_name(f"inputs-of-{place.name}")
    for kind in ("readings", "reference"):
        upload((fleet.folder / kind).iterdir(), at / kind)
    upload([DEFAULT_POLICY], at)
    upload([Path(fleet.keys["keyset"])], at)
    return str(at)


def test_a_lake_with_all_that_it_is_made_of_has_the_rows_of_one_on_the_disk(fleet, served, google, place, monkeypatch):
    at = put_inputs(fleet, place)
    monkeypatch.setenv("KEK", base64.urlsafe_b64encode(Path(fleet.keys["kek"]).read_bytes()).decode())
    named = {"readings": "readings/*", "reference": "reference", "policy": DEFAULT_POLICY.name}
    named["keyset"] = Path(fleet.keys["keyset"]).name
    options = [part for option, name in named.items() for part in (f"--{option}", f"{at}/{name}")]
    made = ("--buckets", 4, "--catalog", served.catalog("google"))
    done = meterveil("ingest", *options, "--kek", "env:KEK", "--lake", place, *made, *PROCESSES, "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["inputs"]) == len(list((fleet.folder / "readings").iterdir()))
    assert find_wrong(place, done=True) == []
    assert fleet.compare(place) == []
    assert not list((google / place.name).glob("operational/staging/*/*"))


def test_a_night_of_corrections_a_query_and_housekeeping_go_as_on_the_disk(fleet, served, place):
    for part in (1, 2):
        done = fleet.run(place, part, *(("--catalog", served.catalog("google_night")) if part == 1 else ()))
        assert done.returncode == 0, done.stderr
    asked = ("--role", "analyst", "--purpose", "load_research", "--format", "csv")
    asked = (*asked, "SELECT local_date, count(*), sum(energy) FROM analytics.daily GROUP BY 1 ORDER BY 1")
    answers = [meterveil("query", "--lake", lake, *asked) for lake in (place, fleet.folder / "expected")]
    assert answers[0].returncode == 0, answers[0].stderr
    assert answers[0].stdout == answers[1].stdout
    lake = open_lake(place)
    plan, later = load_policy(lake.stored_policy()), datetime.now(UTC) + timedelta(days=3)
    chores = {chore.what: chore.count for chore in maintain(lake, plan, keep_days=1, now=later)}
    assert chores["snapshots that expire"] > 0
    assert chores["files that nothing needs"] > 0
    assert find_wrong(place, done=True) == []
    assert fleet.compare(place) == []
