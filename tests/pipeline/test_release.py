"""Readings come back from quarantine after a fix, once, and are counted; what stands beside it waits or is refused.

That they end as if they had been delivered so, in whatever order: ``test_histories``.
"""

import csv
import io
import json
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from history_oracle import BUCKETS, HOUR, POINTS, QUARTER, WORD, day_of, deliver, spoil, write_readings
from privacy_support import make_fleet, make_policy, run
from whole_job import ingest, make_keys, query, rows_of

from pipeline import ingest as graph
from pipeline import release as release_module
from pipeline.begin import RunRequest
from pipeline.erasure import add_tombstones
from pipeline.errors import MeterveilError
from pipeline.journal import sole_committer
from pipeline.keys import open_keyset
from pipeline.lake import open_lake
from pipeline.release import Chosen, ReleaseRequest, read_corrections, run_release
from pipeline.totals import Totals
from transforms.fixes import Fix


def release(lake: Path, keys, chosen=None, fix=None):
    with patch("os.fsync"):
        return run_release(ReleaseRequest(lake, RunRequest(**keys, threads=2), chosen or Chosen(), fix or Fix()))


def keys_of(lake: Path, table: str) -> set[tuple]:
    return set(query(lake, table, "SELECT file_digest, row, position FROM t"))


FIXES = {"id": Fix(metering_point=POINTS[0]), "word": Fix(words={WORD: "OK"})}
#: All of one point, so that one id mends them.
CAME = [
    *spoil(deliver(0, 0, HOUR, 1, 2, 2, "OK", 5), ["id"]),
    *spoil(deliver(0, 0, HOUR, 1, 2, 2, "OK", 5), ["future"]),
    *spoil(deliver(0, 1, HOUR, 1, 2, 2, "OK", 5), ["word"]),
    *spoil(deliver(0, 0, QUARTER, 1, 2, 3, "OK", 2), ["word"]),
    *deliver(0, 1, HOUR, 0, 2, 1, "MISSING", 1),
]


@pytest.fixture
def begun(tmp_path):
    keys, lake = make_keys(tmp_path), tmp_path / "lake"
    file = write_readings(tmp_path / "readings.parquet", CAME)
    record = ingest(lake, [file], keys, buckets=BUCKETS)
    return lake, keys, file, record


def test_what_is_released_counts_as_delivered_and_is_told(begun):
    lake, keys, file, _ = begun
    totals = Totals(**release(lake, keys, fix=FIXES["id"])["totals"])
    assert totals.counts["delivered:from_quarantine"] == totals.count("folded") == 2
    assert totals.energy("delivered") == totals.energy("folded") == 5 + 6
    assert query(lake, "operational.releases", "SELECT reason, count(*) FROM t GROUP BY ALL") == [
        ("mangled_identifier", 2)
    ]
    again = Totals(**ingest(lake, [file], keys)["totals"])
    assert (again.count("released_before"), again.energy("released_before")) == (2, 11)
    assert "quarantined:mangled_identifier" not in {kind for kind, count in again.counts.items() if count}


def test_another_reading_of_the_input_that_takes_all_in_empties_its_quarantine(begun, tmp_path):
    """The mapping knows the word now: the file read again by it leaves nothing of what was set aside before."""
    lake = tmp_path / "mapped"
    keys = begun[1]
    file = tmp_path / "readings.csv"
    file.write_text("id,start,kwh,quality\n" + f"{POINTS[0]},2026-03-28T10:00:00Z,1.5,A\n" * 2)
    mapping = {
        "columns": {"metering_point_id": "id", "start": "start", "energy": "kwh", "status": "quality"},
        "delimiter": ",", "decimal_sign": ".", "unit": "Wh", "resolution": "PT1H",
    }  # fmt: skip
    for number, words in enumerate(({"B": "OK"}, {"A": "OK"})):
        path = tmp_path / f"mapping-{number}.yaml"
        path.write_text(json.dumps(mapping | {"status_words": words}))
        given = {"mapping": path, "registered_at": "2026-03-29T00:00:00Z", "force": False}
        ingest(lake, [file], keys, **given, **({} if number else {"buckets": BUCKETS}))
        if not number:
            # In kWh, whatever the unit of the feed.
            assert {row["energy"] for row in rows_of(lake, "operational.quarantine_readings").to_pylist()} == {
                "0.001500"
            }
    assert query(lake, "operational.quarantine_readings", "SELECT * FROM t") == []
    assert query(lake, "operational.readings", "SELECT energy::DOUBLE FROM t") == [(0.0015,)]


@pytest.mark.parametrize("rival", ["ingest", "release", "erase"])
def test_a_release_beside_another_run_on_the_same_file_is_refused_and_can_be_repeated(begun, rival):
    lake, keys, file, _ = begun

    def meanwhile(run, digest, rows, fix, try_rows=release_module.try_rows):
        with patch.object(release_module, "try_rows", try_rows):
            match rival:
                case "ingest":
                    ingest(lake, [file], keys)
                case "release":
                    release(lake, keys, fix=FIXES["word"])
                case "erase":
                    with sole_committer(opened := open_lake(lake)):
                        keyset = open_keyset(keys["keyset"], keys["kek"])
                        add_tombstones(opened, keyset, pa.array([POINTS[1]]), day_of(0), day_of(0))
        return try_rows(run, digest, rows, fix)

    with patch.object(release_module, "try_rows", meanwhile), pytest.raises(MeterveilError, match="run it again"):
        release(lake, keys, fix=FIXES["id"])
    assert release(lake, keys, fix=FIXES["id"])["outcome"] == "committed"


def test_an_ingestion_that_began_before_a_release_does_not_set_aside_again(begun):
    lake, keys, file, _ = begun
    done = []
    commit_run = graph.commit_run

    def late(run, outcome, rules):
        if not done:
            done.append(True)
            release(lake, keys, fix=FIXES["id"])
        return commit_run(run, outcome, rules)

    with patch.object(graph, "commit_run", late):
        record = ingest(lake, [file], keys)
    assert done
    assert not keys_of(lake, "operational.quarantine_readings") & keys_of(lake, "operational.releases")
    assert record["totals"]["counts"]["released_before"] == 2
    assert record["tables"]["operational.quarantine_readings"]["rows"] == len(
        keys_of(lake, "operational.quarantine_readings")
    )


def corrections(folder: Path, rows: list[dict]) -> Path:
    path = folder / "corrections.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_rows_as_listed_can_be_edited_and_given_back(tmp_path):
    """By the command line, from list to release, as a steward does it."""
    retailer = make_fleet(tmp_path)
    policy = make_policy(tmp_path / "policy.yaml", "data_steward")
    assert retailer.ingest(policy=policy, buckets=2).code == 0
    lake = ("--lake", retailer.lake)
    keys = ("--keyset", tmp_path / "keyset.json", "--kek", tmp_path / "kek.bin")
    listed = run("quarantine", "list", *lake, "--json")
    counted = json.loads(listed.out)
    record_counts = query(retailer.lake, "operational.quarantine_readings", "SELECT reason, count(*) FROM t GROUP BY 1")
    assert {
        reason: sum(row["readings"] for row in counted if row["reason"] == reason) for reason, _ in record_counts
    } == dict(record_counts)
    assert not any(word in listed.out.decode() for word in retailer.words()), "no identifier, unless it is asked for"
    grant = ("--role", "data_steward", "--purpose", "metering")
    refused = run("quarantine", "list", *lake, "--rows", "--role", "metering_operations", "--purpose", "metering")
    assert refused.code == 1
    assert "not granted" in refused.err
    assert run("quarantine", "list", *lake, "--rows").code == 2
    shown = run("quarantine", "list", *lake, "--rows", *grant, "--reason", "bad_energy")
    rows = list(csv.DictReader(io.StringIO(shown.out.decode())))
    assert {row["reason"] for row in rows} == {"bad_energy"}
    # Given back as they are they correct nothing: what the number was meant to be nobody has said.
    same = run("quarantine", "release", *lake, *keys, "--corrections", corrections(tmp_path, rows))
    assert (same.code, same.out) == (0, b"no reading in quarantine passes: nothing was changed\n")
    edited = [row | {"energy": "1.25"} for row in rows]
    done = run("quarantine", "release", *lake, *keys, "--corrections", corrections(tmp_path, edited), "--json")
    assert done.code == 0, done.err
    totals = Totals(**json.loads(done.out)["totals"])
    assert totals.count("delivered:from_quarantine") == len(rows)
    assert totals.energy("delivered") == sum(0 if row["status"] == "MISSING" else 1_250_000 for row in rows)
    assert run("quarantine", "list", *lake, "--reason", "bad_energy", "--json").out == b"[]\n"
    assert run("verify", *lake).code == 0
    assert any('"quarantine release"' in line for line in (retailer.lake / "operational" / "audit.jsonl").open())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("row,position,energy\n1,0,2\n", "lacks file_digest"),
        ("file_digest,row,position,colour\nab,1,0,red\n", "has colour"),
        ("file_digest,row,position\nab,1,0\nab,1,0\n", "twice"),
        ("file_digest,row,position\nab,one,0\n", "no CSV"),
        ("", "no CSV"),
    ],
)
def test_a_file_of_corrections_that_means_nothing_is_refused(tmp_path, text, said):
    path = tmp_path / "corrections.csv"
    path.write_text(text)
    with pytest.raises(MeterveilError, match=said):
        read_corrections(path)
