import hashlib
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from small_lake import ANALYTICS, DAILY, DAY, OPERATIONAL, PLAN, reading_rows, write_readings

from pipeline.access import User
from pipeline.errors import MeterveilError
from pipeline.iceberg import replace_files
from pipeline.lake import create_lake, open_lake
from pipeline.query import run_query

OLLI = User("olli", frozenset())
HELSINKI = ZoneInfo("Europe/Helsinki")


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    lake = create_lake(tmp_path_factory.mktemp("query") / "lake's", bucket_count=4)
    lake.ensure_tables(PLAN)
    for of in (ANALYTICS, OPERATIONAL):
        files = [
            write_readings(lake, of, f"{DAY + day}/0000{bucket}", seed=bucket) for day in (0, 1) for bucket in (0, 1)
        ]
        replace_files(lake.table(of.name), files, [], {})
    return lake


def ask(lake, sql: str, role: str = "analyst", purpose: str = "load_research", user: User = OLLI) -> pa.Table:
    return run_query(lake, PLAN, role, purpose, sql, user)


def last_entry(lake) -> dict:
    return json.loads((lake.operational / "audit.jsonl").read_text().splitlines()[-1])


def test_rows_are_those_that_were_written(lake):
    result = ask(
        lake, "SELECT * FROM analytics.readings WHERE local_date = '2026-03-29' ORDER BY metering_point, start"
    )
    written = [reading_rows(ANALYTICS, seed=seed) for seed in (0, 1)]
    tuples = sorted(
        (str(UUID(bytes=point)), start.astimezone(HELSINKI), energy, status)
        for part in written
        for point, start, energy, status in zip(
            *(part.column(name).to_pylist() for name in ("metering_point", "start", "energy", "status")), strict=True
        )
    )
    points, starts = result.column("metering_point").to_pylist(), result.column("start").to_pylist()
    energies = [value and int(value.scaleb(6)) for value in result.column("energy").to_pylist()]
    assert list(zip(points, starts, energies, result.column("status").to_pylist(), strict=True)) == tuples
    assert result.schema.field("energy").type == pa.decimal128(14, 6)


def test_times_are_local_and_sums_exact(lake):
    result = ask(
        lake,
        "SELECT hour(start) AS local_hour, count(*) AS n, sum(energy) AS energy FROM analytics.readings"
        " WHERE local_date = '2026-03-29' GROUP BY 1 ORDER BY 1",
    )
    # The rows start at 00:00 UTC, 02:00 in Helsinki; at 03:00 clocks go to 04:00, so no row is in local hour 3.
    assert 3 not in result.column("local_hour").to_pylist()
    energy = pc.sum(pa.concat_tables([reading_rows(ANALYTICS, seed=seed) for seed in (0, 1)]).column("energy")).as_py()
    assert int(pc.sum(result.column("energy")).as_py().scaleb(6)) == energy
    first = ask(lake, "SELECT min(start) AS start FROM analytics.readings").column("start")[0].as_py()
    assert first.isoformat() == "2026-03-29T02:00:00+02:00"
    assert first == datetime(2026, 3, 29, 2, tzinfo=HELSINKI)


def test_an_empty_table_has_its_columns(lake):
    result = ask(lake, "SELECT * FROM analytics.daily", purpose="product_development")
    assert result.num_rows == 0
    assert result.schema.names == [column.name for column in DAILY.columns]
    assert result.schema.field("energy").type == pa.decimal128(18, 6)


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("FROM analytics.readings LIMIT 1", ["analytics.readings"]),
        ('WITH r AS (SELECT * FROM "analytics"."readings") SELECT count(*) FROM r', ["analytics.readings"]),
        ("SELECT * FROM query('SELECT count(*) FROM analytics.readings')", ["analytics.readings"]),
        ("SELECT count(*) FROM Analytics.READINGS", ["analytics.readings"]),
        (
            "SELECT count(*) FROM analytics.readings AS r JOIN analytics.readings b USING (start)",
            ["analytics.readings"],
        ),
        ("SUMMARIZE analytics.readings", ["analytics.readings"]),
        ("DESCRIBE analytics.readings", ["analytics.readings"]),
        ("SELECT 1", []),
    ],
)
def test_the_log_names_the_tables_of_a_query(lake, sql, tables):
    rows = ask(lake, sql).num_rows
    entry = last_entry(lake)
    assert (entry["tables"], entry["outcome"], entry["user"], entry["role"]) == (tables, "done", "olli", "analyst")
    assert entry["details"] == {"query_sha256": hashlib.sha256(sql.encode()).hexdigest(), "rows": rows}


@pytest.mark.parametrize(
    ("role", "purpose", "sql", "text"),
    [
        ("metering_operations", "operations", "SELECT 1", "not granted the role 'metering_operations'"),
        ("analyst", "operations", "SELECT 1", "nothing for the purpose 'operations'"),
        (
            "analyst",
            "load_research",
            "FROM operational.readings",
            r"readings: not among.*analytics.readings$",
        ),
        ("analyst", "load_research", "FROM analytics.daily", "daily: not among"),
        ("analyst", "load_research", "SELECT * FROM query('FROM operational.readings')", "readings: not among"),
        ("analyst", "load_research", "FROM readings", "readable, by these names: analytics.readings"),
    ],
)
def test_what_is_not_granted_is_refused_and_logged(lake, role, purpose, sql, text):
    with pytest.raises(MeterveilError, match=text) as refusal:
        ask(lake, sql, role, purpose)
    assert "\n" not in str(refusal.value)
    entry = last_entry(lake)
    assert (entry["outcome"], entry["role"], entry["purpose"], entry["tables"]) == ("refused", role, purpose, [])


def test_a_grant_opens_the_operational_table(lake):
    result = ask(
        lake,
        "SELECT count(*) AS n FROM operational.readings",
        "metering_operations",
        "operations",
        User("mari", frozenset()),
    )
    assert result.to_pylist() == [{"n": 4 * 3 * 92}]


def test_queries_of_two_roles_at_once_see_no_table_of_each_other(lake):
    mari = User("mari", frozenset())
    count, told = "SELECT count(*) AS n FROM operational.readings", "SELECT table_name AS n FROM duckdb_tables()"

    def allowed(_: int) -> list[dict]:
        return ask(lake, count, "metering_operations", "operations", mari).to_pylist()

    def refused(_: int) -> str:
        with pytest.raises(MeterveilError) as refusal:
            ask(lake, count)
        return str(refusal.value)

    with ThreadPoolExecutor(4) as pool:
        answers, refusals = pool.map(allowed, range(8)), pool.map(refused, range(8))
        assert [*answers] == [[{"n": 4 * 3 * 92}]] * 8
        assert all("not among the tables that this role may read" in text for text in refusals)
    assert ask(lake, told).to_pylist() == []


def escapes(lake) -> list[str]:
    own = next(lake.analytics.rglob("*.parquet"))
    other = next(lake.operational.rglob("*.parquet"))
    names = [f"'{str(path).replace(chr(39), chr(39) * 2)}'" for path in (own, other, lake.operational / "catalog.db")]
    own_name, other_name, catalog = names
    return [
        "FROM read_parquet('/etc/passwd')",
        "FROM read_text('/etc/passwd')",
        "FROM read_csv('/etc/passwd')",
        "SELECT * FROM query('FROM read_csv(''/etc/passwd'')')",
        "FROM '/etc/passwd'",
        f"FROM read_parquet({other_name})",
        f"FROM read_parquet({own_name})",
        f"FROM {own_name}",
        f"FROM read_blob({other_name})",
        f"FROM read_blob({catalog})",
        f"FROM sqlite_scan({catalog}, 'iceberg_tables')",
        "FROM glob('/*')",
        f"FROM glob('{lake.root.parent}/*')",
        f"COPY (SELECT 1) TO '{lake.root.parent}/out.csv'",
        f"COPY (SELECT 1 AS a) TO {own_name} (FORMAT parquet, USE_TMP_FILE false)",
        f"ATTACH '{lake.root.parent}/new.db'",
        f"ATTACH {catalog} (TYPE sqlite)",
        "INSTALL httpfs",
        "LOAD httpfs",
        "FROM 'https://localhost:1/x.parquet'",
        "SET enable_external_access = true",
        "SET TimeZone = 'UTC'",
        "PRAGMA enable_profiling",
        "RESET lock_configuration",
        "CREATE TABLE t AS SELECT 1",
        "EXPORT DATABASE '/nowhere'",
        "SELECT getenv('HOME')",
        "FROM lake",
        "FROM tables",
        "SELECT 1; SELECT 2",
        "EXPLAIN ANALYZE SELECT 1",
        "",
    ]


def test_nothing_else_on_the_disk_can_be_reached(lake):
    ask(lake, "SELECT 1")  # makes the audit log, should no test before this one have done so
    before = {path: path.stat().st_mtime_ns for path in lake.root.parent.rglob("*") if path.name != "audit.jsonl"}
    for sql in escapes(lake):
        for with_table in (sql, f"{sql} , analytics.readings") if sql.startswith("FROM") else (sql,):
            with pytest.raises(MeterveilError) as refusal:
                ask(lake, with_table)
            assert "\n" not in str(refusal.value), with_table
    assert before == {
        path: path.stat().st_mtime_ns for path in lake.root.parent.rglob("*") if path.name != "audit.jsonl"
    }


def test_an_error_of_the_query_is_one_line_without_values(lake):
    with pytest.raises(MeterveilError, match="syntax error") as syntax:
        ask(lake, "SELEC 1")
    with pytest.raises(MeterveilError, match="nothing_such") as binder:
        ask(lake, "SELECT nothing_such FROM analytics.readings")
    with pytest.raises(MeterveilError) as conversion:
        ask(lake, "SELECT CAST(metering_point::VARCHAR AS INTEGER) FROM analytics.readings")
    assert str(conversion.value) == "query: Conversion Error"
    for error in (syntax, binder, conversion):
        assert "\n" not in str(error.value)
    assert last_entry(lake)["outcome"] == "failed"


def test_only_files_of_the_dates_asked_for_are_opened(lake):
    others = {path: path.read_bytes() for path in lake.analytics.rglob("local_date=2026-03-30/*.parquet")}
    for path in others:
        path.write_bytes(b"no Parquet")
    try:
        count = "SELECT count(*) AS n, sum(energy) AS e FROM analytics.readings"
        assert ask(lake, f"{count} WHERE local_date < '2026-03-30'").column("n").to_pylist() == [2 * 3 * 92]
        with pytest.raises(MeterveilError):
            ask(lake, count)
    finally:
        for path, content in others.items():
            path.write_bytes(content)


def test_analysts_need_the_analytics_zone_alone(lake):
    away = lake.operational.rename(lake.root.parent / "away")
    try:
        for path in (lake.root, lake.analytics):
            alone = open_lake(path)
            assert ask(alone, "SELECT count(*) AS n FROM analytics.readings").to_pylist() == [{"n": 4 * 3 * 92}]
            with pytest.raises(MeterveilError, match="may read the operational zone"):
                ask(alone, "FROM operational.readings", "metering_operations", "operations", User("mari", frozenset()))
    finally:
        away.rename(lake.operational)
    outcomes = [json.loads(line)["outcome"] for line in (lake.analytics / "audit.jsonl").read_text().splitlines()]
    assert outcomes == ["done", "failed"] * 2


AS_ANALYST = """
import os, sys
sys.path.insert(0, sys.argv[2])
from small_lake import PLAN
from pipeline.access import current_user
from pipeline.lake import open_lake
from pipeline.query import run_query
ask = lambda lake, sql: run_query(lake, PLAN, "analyst", "load_research", sql, current_user())
ask(open_lake(sys.argv[1]), "FROM analytics.readings")  # loads what Python keeps where only root can read
os.setgroups([]), os.setgid(65534), os.setuid(65534)
lake = open_lake(sys.argv[1])
print(lake.reaches("operational"))
print(ask(lake, "SELECT count(*) AS n FROM analytics.readings"))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_file_modes_leave_an_analyst_the_analytics_zone_alone():
    with tempfile.TemporaryDirectory() as folder:  # not below the private folder of pytest
        Path(folder).chmod(0o755)
        lake = create_lake(Path(folder) / "lake", bucket_count=4)
        lake.ensure_tables(PLAN)
        replace_files(lake.table(ANALYTICS.name), [write_readings(lake, ANALYTICS)], [], {})
        command = [sys.executable, "-c", AS_ANALYST, str(lake.root), str(Path(__file__).parent)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "False" in done.stdout, done.stderr
    assert "n: [[276]]" in done.stdout
    assert "can't write the audit log" in done.stderr


def test_text_of_a_query_reaches_no_log(lake):
    ask(lake, "SELECT * FROM analytics.readings WHERE status = 'a very secret word'")
    logs = "".join(path.read_text() for path in Path(lake.root).rglob("audit.jsonl"))
    assert "secret" not in logs


def test_a_plan_without_the_dataset_gives_nothing(lake):
    plan = replace(PLAN, datasets={DAILY.name: DAILY})
    with pytest.raises(MeterveilError, match="its purposes: product_development"):
        run_query(lake, plan, "analyst", "load_research", "FROM analytics.readings", OLLI)
