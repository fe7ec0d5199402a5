"""What can be said of places without a server; ``tests/cluster/test_store.py`` has real ones."""

import pickle
from pathlib import Path

import pytest

from pipeline.errors import MeterveilError, name_fault
from pipeline.lake import create_lake
from pipeline.records import RecordPath, check_server
from pipeline.stores import ObjectPath, local_copy, local_folder, locate, look_at_each, measure

OBJECT = "s3://bucket/lake/operational/readings/data/local_date=2026-03-29/00007-x.parquet"
RECORD = "postgresql://host:5432/lake/operational/journal/x.json"


@pytest.mark.parametrize(
    ("text", "kind"),
    [(OBJECT, ObjectPath), (OBJECT.replace("s3", "gs"), ObjectPath), (RECORD, RecordPath), ("data/lake", Path)],
)
def test_a_place_is_what_its_address_says_and_survives_text_and_pickle(text, kind):
    place = locate(text)
    assert isinstance(place, kind)
    for same in (locate(str(place)), pickle.loads(pickle.dumps(place)), place.parent / place.name):  # noqa: S301
        assert (str(same), type(same), hash(same)) == (text, type(place), hash(place))
        assert same == place


def test_what_servers_are_asked_for():
    place, record = locate(OBJECT), locate(RECORD)
    assert place.key == OBJECT.removeprefix("s3://")
    assert (record.server, record.zone, record.key) == ("postgresql://host:5432/lake", "operational", "journal/x.json")


def test_an_address_of_this_machine_is_a_path():
    assert locate("file:///data/lake") == Path("/data/lake")


def test_an_unknown_store_is_refused():
    with pytest.raises(MeterveilError, match=r"^azure://: no such store is known; name a path, s3:// or gs://$"):
        locate("azure://account/lake")


def test_a_lake_in_a_store_is_refused_without_a_catalog_before_the_store_is_asked():
    with pytest.raises(MeterveilError, match="which SQLite is not; name a server"):
        create_lake("s3://bucket/lake", bucket_count=1)


def test_a_catalog_is_a_server_and_a_database():
    assert check_server("postgresql://host/lake") == "postgresql://host/lake"
    for more in ("postgresql://me:word@host/lake", "postgresql://host/lake?password=word"):
        with pytest.raises(MeterveilError, match="by the environment") as refused:
            check_server(more)
        assert "word@" not in str(refused.value)
        assert "=word" not in str(refused.value)


def test_files_of_this_machine_are_taken_where_they_are(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"123")
    with local_copy(str(file)) as copy, local_folder(tmp_path) as folder:
        assert (copy, folder) == (file, tmp_path)
    assert look_at_each(measure, [str(file), str(tmp_path / "none")]) == [3, None]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("When: AWS Error UNKNOWN (HTTP status 503) during Put\nmore"), "the object store says 503"),
        (OSError("AWS Error ACCESS_DENIED during HeadObject"), "the object store says ACCESS_DENIED"),
        (FileNotFoundError(2, "No such file or directory", "x"), "No such file or directory"),
        (OSError("odd"), "OSError"),
    ],
)
def test_what_a_store_says_is_told_in_its_word(error, words):
    assert name_fault(error) == words
