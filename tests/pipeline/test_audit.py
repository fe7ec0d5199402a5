import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audit import AuditEntry, append_entry, record_event, verify_chain
from pipeline.errors import MeterveilError
from pipeline.lake import create_lake

ENTRY = AuditEntry(
    datetime(2026, 3, 29, 12, tzinfo=UTC), "mari", "query", "done", "analyst", "load_research", ("analytics.daily",)
)


def write_log(path, count: int, note: str = "") -> None:
    for number in range(count):
        append_entry(
            path, AuditEntry(ENTRY.at, "mari", "query", "done", details={"number": number, "note": note}), private=True
        )


@settings(max_examples=20)
@given(count=st.integers(2, 6), length=st.integers(0, 9000), data=st.data())
def test_any_change_of_a_log_is_noticed(tmp_path_factory, count, length, data):
    path = tmp_path_factory.mktemp("log") / "audit.jsonl"
    write_log(path, count, "x" * length)
    entries, head = verify_chain(path)
    assert entries == count
    lines = path.read_bytes().splitlines(keepends=True)
    at = data.draw(st.integers(0, count - 2))
    change = data.draw(st.sampled_from(["edit", "remove", "swap", "repeat"]))
    match change:
        case "edit":
            lines[at] = lines[at].replace(b"mari", b"olli")
        case "remove":
            del lines[at]
        case "swap":
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
        case "repeat":
            lines.insert(at, lines[at])
    path.write_bytes(b"".join(lines))
    with pytest.raises(MeterveilError, match="does not follow"):
        verify_chain(path)
    path.write_bytes(b"".join(lines[:0]))
    assert verify_chain(path)[1] != head


def test_concurrent_writers_keep_one_chain(tmp_path):
    path = tmp_path / "audit.jsonl"
    with ThreadPoolExecutor(4) as pool:  # the lock belongs to the open file, so threads contend like processes
        list(pool.map(write_log, [path] * 4, [50] * 4))
    assert verify_chain(path)[0] == 200


def test_a_torn_line_is_cut_off_by_the_next(tmp_path):
    path = tmp_path / "audit.jsonl"
    write_log(path, 2)
    with path.open("ab") as file:
        file.write(b'{"at": "2026')
    with pytest.raises(MeterveilError, match="line 3"):
        verify_chain(path)
    write_log(path, 1)
    assert verify_chain(path)[0] == 3


def test_an_entry_says_who_what_and_when(tmp_path):
    lake = create_lake(tmp_path / "lake", bucket_count=1)
    record_event(lake, ENTRY)
    path = lake.operational / "audit.jsonl"
    assert json.loads(path.read_text()) == {
        "at": "2026-03-29T12:00:00+00:00",
        "user": "mari",
        "command": "query",
        "outcome": "done",
        "role": "analyst",
        "purpose": "load_research",
        "tables": ["analytics.daily"],
        "details": {},
        "previous": "0" * 64,
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_analytics_has_a_log_of_its_own_where_it_is_alone(tmp_path):
    lake = create_lake(tmp_path / "lake", bucket_count=1)
    lake.operational.rename(tmp_path / "away")
    record_event(lake, ENTRY)
    assert verify_chain(lake.analytics / "audit.jsonl")[0] == 1
    assert not lake.operational.exists()


def test_a_log_that_cannot_be_written_stops_the_operational_side_only(tmp_path, capsys):
    lake = create_lake(tmp_path / "lake", bucket_count=1)
    for folder in (lake.operational, lake.analytics):
        (folder / "audit.jsonl").mkdir()  # root may write any file, but no folder
    with pytest.raises(MeterveilError, match="nothing is done unlogged"):
        record_event(lake, ENTRY)
    lake.operational.rename(tmp_path / "away")
    record_event(lake, ENTRY)
    assert "can't write the audit log" in capsys.readouterr().err
