"""Queries by the command line on a generated lake: what each role sees, and that nothing else can be reached."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from privacy_support import make_fleet, make_policy, run

from pipeline.audit import verify_chain
from pipeline.leaks import Tokens

RESEARCH = ("analyst", "load_research")
SERVICE = ("customer_service", "customer_service")


@pytest.fixture(scope="module")
def retailer(tmp_path_factory):
    """A lake whose policy grants two operational roles, billing not among them, to whoever runs this."""
    made = make_fleet(tmp_path_factory.mktemp("query"), faults="none")
    customers = made.folder / "fleet" / "reference" / "customers.parquet"
    table = pq.read_table(customers)
    restricted = pa.array([number % 10 == 3 for number in range(len(table))])
    field = "information_restriction"
    pq.write_table(table.set_column(table.column_names.index(field), table.schema.field(field), restricted), customers)
    policy = make_policy(made.folder / "policy.yaml", "customer_service", "metering_operations")
    done = made.ingest(policy=policy)
    assert done.code == 0, done.err
    return made


def ask(lake, sql: str, role: str = "analyst", purpose: str = "load_research"):
    return run("query", "--lake", lake, "--role", role, "--purpose", purpose, "--format", "json", sql)


def rows(done) -> list[dict]:
    assert done.code == 0, done.err
    return json.loads(done.out)


def customers_of(retailer) -> list[dict]:
    return pq.read_table(retailer.folder / "fleet" / "reference" / "customers.parquet").to_pylist()


def entries(zone) -> list[dict]:
    return [json.loads(line) for line in (zone / "audit.jsonl").read_text().splitlines()]


def test_an_analyst_sees_readings_and_nobody(retailer):
    done = ask(retailer.lake, "SELECT * FROM analytics.readings")
    assert len(rows(done)) == rows(ask(retailer.lake, "SELECT count(*) AS n FROM analytics.readings"))[0]["n"] > 5000
    assert Tokens(retailer.words()).find(done.out) is None
    daily = ask(retailer.lake, "SELECT * FROM analytics.daily")
    # Of so few sites an area is cut until enough share what is told of them, or left out.
    assert {len(row["postal_area"] or "") for row in rows(daily)} <= {0, 1, 2, 3}
    assert Tokens(retailer.words()).find(daily.out) is None


def test_pseudonyms_of_two_domains_do_not_meet(retailer):
    sql = "SELECT count(*) AS n FROM analytics.readings r JOIN analytics.daily d USING (metering_point)"
    assert rows(ask(retailer.lake, sql)) == [{"n": 0}]


def test_customer_service_sees_its_customers_and_no_identity_code(retailer):
    done = ask(retailer.lake, "SELECT * FROM operational.customer_service", *SERVICE)
    seen = rows(done)
    restricted = [customer for customer in customers_of(retailer) if customer["information_restriction"]]
    open_to_all = [customer for customer in customers_of(retailer) if not customer["information_restriction"]]
    assert restricted
    assert {row["customer_id"] for row in seen} == {customer["customer_id"] for customer in open_to_all}
    assert {row["name"] for row in seen} >= {customer["name"] for customer in open_to_all}
    hidden = {
        code for customer in customers_of(retailer) if (code := customer["identity_code"] or customer["business_id"])
    }
    for field in ("customer_id", "name", "phone", "email"):
        hidden |= {customer[field] for customer in restricted if customer[field]}
    assert Tokens(hidden).find(done.out) is None
    assert not {"identity_code", "business_id"} & seen[0].keys()


@pytest.mark.parametrize(
    ("role", "purpose", "sql", "word"),
    [
        ("billing", "billing", "SELECT 1", "not granted the role 'billing'"),
        ("nobody", "billing", "SELECT 1", "not granted the role 'nobody'"),
        ("customer_service", "load_research", "SELECT 1", "nothing for the purpose 'load_research'"),
        ("analyst", "metering", "SELECT 1", "nothing for the purpose 'metering'"),
        ("analyst", "load_research", "FROM operational.readings", "not among the tables"),
        ("analyst", "load_research", "FROM operational.customer_service", "not among the tables"),
        ("analyst", "load_research", "FROM operational.runs", "not among the tables"),
        ("customer_service", "customer_service", "FROM operational.readings", "not among the tables"),
        ("customer_service", "customer_service", "FROM analytics.readings", "not among the tables"),
        ("metering_operations", "metering", "FROM operational.customer_service", "not among the tables"),
    ],
)
def test_what_is_not_granted_is_refused(retailer, role, purpose, sql, word):
    done = ask(retailer.lake, sql, role, purpose)
    assert (done.code, done.out) == (1, b"")
    assert word in done.err
    assert done.err.count("\n") == 1
    entry = entries(retailer.lake / "operational")[-1]
    assert (entry["outcome"], entry["role"], entry["purpose"], entry["tables"]) == ("refused", role, purpose, [])


def ways_out(lake) -> list[str]:
    data = next((lake / "operational" / "readings").rglob("*.parquet"))
    own = next((lake / "analytics" / "readings").rglob("*.parquet"))
    catalog, log = lake / "operational" / "catalog.db", lake / "operational" / "audit.jsonl"
    new = lake.parent / "stolen"
    return [
        *(f"FROM read_parquet('{path}')" for path in (data, f"{lake}/*/readings/data/*/*.parquet", f"{own}/../{data}")),
        *(f"FROM '{path}'" for path in (data, own.relative_to(lake.parent), f"file://{data}")),
        f'FROM "{data}"',
        *(f"FROM {function}('{data}')" for function in ("parquet_metadata", "parquet_schema", "parquet_kv_metadata")),
        *(f"FROM {function}('{log}')" for function in ("read_text", "read_blob", "read_csv", "read_json", "sniff_csv")),
        f"FROM glob('{lake}/**')",
        f"FROM sqlite_scan('{catalog}', 'iceberg_tables')",
        f"FROM iceberg_scan('{lake}/operational/readings')",
        *(f"ATTACH '{path}' AS stolen" for path in (catalog, new)),
        *(f"COPY (FROM analytics.readings) TO '{new}{end}'" for end in ("", ".csv", ".parquet")),
        f"COPY analytics.readings FROM '{data}'",
        f"EXPORT DATABASE '{new}'",
        *(f"{verb} {name}" for verb in ("INSTALL", "LOAD", "FORCE INSTALL") for name in ("httpfs", "sqlite", f"'{new}'")),
        *(f"{verb} enable_external_access = true" for verb in ("SET", "SET GLOBAL", "PRAGMA")),
        f"SET allowed_paths = ['{data}']",
        f"SET home_directory = '{new}'",
        "RESET enable_external_access",
        "PRAGMA database_list",
        f"PRAGMA enable_profiling; SET profiling_output = '{new}'",
        "CALL pragma_version()",
        "SELECT getenv('HOME')",
        "SELECT * FROM duckdb_secrets()",
        "CREATE SECRET (TYPE s3)",
        "CREATE OR REPLACE VIEW analytics.readings AS SELECT 1",
        "DROP VIEW analytics.readings",
        "INSERT INTO analytics.readings VALUES (1)",
        "SELECT 1; SELECT 2",
        f"SELECT 1; COPY (SELECT 1) TO '{new}'",
        f"WITH x AS (SELECT * FROM read_text('{log}')) SELECT * FROM x",
        f"SELECT (SELECT content FROM read_text('{log}')) FROM analytics.readings",
        "SELECT * FROM query('FROM operational.customer_service')",
        f"SELECT * FROM query('FROM read_text(''{log}'')')",
        "SELECT * FROM query_table('operational.customer_service')",
        f"SELECT json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{log}'')'))",
        f"SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{log}'')'))",
        "SELECT '\udcff'",
        "(" * 3000,
        "",
    ]  # fmt: skip


def test_there_is_no_way_out_of_a_query(retailer):
    tokens = Tokens(retailer.words())
    before = {path for path in retailer.folder.rglob("*") if path.is_file()}
    statements = ways_out(retailer.lake)
    count = len(entries(retailer.lake / "operational"))
    for sql in statements:
        done = ask(retailer.lake, sql)
        assert (done.code, done.out) == (1, b""), sql
        assert done.err.count("\n") == 1, done.err
        assert tokens.find(done.err.encode()) is None, sql
    assert {path for path in retailer.folder.rglob("*") if path.is_file()} == before
    assert len(entries(retailer.lake / "operational")) == count + len(statements)


def test_what_duckdb_tells_of_itself_names_no_table_of_another_role(retailer):
    for sql in (
        "FROM duckdb_tables()", "FROM duckdb_views()", "FROM information_schema.columns", "SHOW ALL TABLES",
        "SELECT current_setting('allowed_paths')", "FROM duckdb_settings()",
    ):  # fmt: skip
        done = ask(retailer.lake, f"WITH r AS (FROM analytics.readings) {sql}" if sql.startswith("FROM") else sql)
        assert done.code == 0, done.err
        assert not re.search(rb"operational/|customer_service|catalog\.db", done.out), sql


def test_an_ordinary_query_may_be_anything_that_selects(retailer):
    sql = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 10) SELECT max(n) AS n FROM t"
    assert rows(ask(retailer.lake, sql)) == [{"n": 10}]
    window = "SELECT DISTINCT max(energy) OVER (PARTITION BY metering_point) AS e FROM analytics.readings LIMIT 3"
    assert len(rows(ask(retailer.lake, window))) == 3


@pytest.mark.parametrize("form", ["csv", "json", "table", "parquet"])
def test_a_result_that_can_not_be_written_is_told_in_a_line(retailer, form):
    asked = ("query", "--lake", retailer.lake, "--role", "analyst", "--purpose", "load_research", "--format", form)
    done = run(*asked, "SELECT INTERVAL 1 DAY AS d")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"can't be written as {form}; cast it" in done.err
    done = run(*asked, "--out", retailer.folder / "nothing" / "out", "SELECT 1 AS a")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "No such file or directory" in done.err


def test_the_analytics_folder_alone_can_be_queried(retailer):
    away = retailer.folder / "away"
    (retailer.lake / "operational").rename(away)
    try:
        for lake in (retailer.lake, retailer.analytics):
            assert rows(ask(lake, "SELECT count(*) > 0 AS some FROM analytics.readings")) == [{"some": True}]
            done = ask(lake, "SELECT 1 FROM operational.customer_service", *SERVICE)
            assert done.code == 1
            assert "may read the operational zone" in done.err
            assert run("tables", "--lake", lake).code == 0
    finally:
        away.rename(retailer.lake / "operational")
    assert [entry["outcome"] for entry in entries(retailer.analytics)] == ["done", "failed"] * 2
    assert verify_chain(retailer.analytics / "audit.jsonl")[0] == 4


def test_the_log_has_a_line_of_everything_and_holds_together(retailer):
    log = retailer.lake / "operational" / "audit.jsonl"
    before = len(entries(log.parent))
    secret = next(word for word in retailer.words() if len(word) >= 10)
    quoted = secret.replace("'", "''")
    assert ask(retailer.lake, f"SELECT * FROM operational.customer_service WHERE name = '{quoted}'", *SERVICE).code == 0
    assert ask(retailer.lake, "SELECT nothing").code == 1
    assert ask(retailer.lake, "SELECT 1", "billing", "billing").code == 1
    assert retailer.ingest(policy=retailer.folder / "policy.yaml").code == 0
    assert retailer.ingest(policy=retailer.folder / "policy.yaml", max_quarantined=0).code in (0, 1)
    added = entries(log.parent)[before:]
    assert [(entry["command"], entry["outcome"]) for entry in added][:4] == [
        ("query", "done"), ("query", "refused"), ("query", "refused"), ("ingest", "done"),
    ]  # fmt: skip
    assert added[0]["tables"] == ["operational.customer_service"]
    assert len(added) == 5
    assert verify_chain(log)[0] == before + 5
    assert Tokens(retailer.words()).find(log.read_bytes()) is None
