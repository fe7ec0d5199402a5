"""Analysts' SQL: DuckDB over the tables that a role may read for a purpose, and nothing else on the disk."""

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pyarrow as pa

from pipeline.access import User, authorise
from pipeline.audit import AuditEntry, record_event
from pipeline.errors import MeterveilError
from pipeline.history import find_instant, snapshots_at
from pipeline.lake import Lake
from pipeline.narrow import find_points, narrow_files, plan_plainly
from pipeline.stores import ObjectPath, locate
from pipeline.table_state import CurrentFile, is_cell_dataset
from transforms.plan import Dataset, Plan, Zone

try:
    import duckdb
except ModuleNotFoundError as missing:
    raise MeterveilError("queries need DuckDB", remedy="install meterveil[query]") from missing

#: Nothing is loaded, looked up in this process or spilled to a disk where identified rows would outlive the query.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}
#: Errors whose text repeats the query at most; the text of others may hold a value of a row.
_PLAIN_ERRORS = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException, duckdb.PermissionException)

_MISSING_TABLE = re.compile(r"Table with name \"?(.+?)\"? does not exist")

_SQL_TYPES: dict[pa.DataType, str] = {
    pa.string(): "VARCHAR",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.date32(): "DATE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
    pa.uuid(): "UUID",
}


def run_query(lake: Lake, plan: Plan, role: str, purpose: str, sql: str, user: User, as_of: str = "") -> pa.Table:
    """Run one SELECT over the tables that the role may read for the purpose; leaves a line in the audit log.

    Only the tables that the query names exist for it, each with the files of one snapshot, by today's grants. Local
    times are in the lake's time zone; UUIDs come out as text.

    Args:
        lake: the lake; its analytics zone alone is enough for analytics tables.
        plan: the policy that grants.
        role: the role that the user acts in.
        purpose: what the rows are read for.
        sql: one SELECT statement; tables are named ``analytics.readings``.
        user: who asks.
        as_of: a time or a run (``pipeline.history``) whose state of the tables is asked; empty for the present.

    Raises:
        MeterveilError: refused, out of reach, or an error of the query in one line.
    """
    tables: tuple[str, ...] = ()
    outcome, rows = "refused", 0
    try:
        granted = authorise(plan, user, role, purpose)
        with _database_errors(), _connect_ahead(lake.settings.time_zone) as opened:
            with _borrow_planner(lake.settings.time_zone) as empty:
                tables = _find_tables(empty, sql, granted)
                needed = {name: granted[name] for name in tables}
                points = find_points(empty, sql, needed)
            outcome = "failed"
            instant = find_instant(lake, plan.datasets.values(), as_of) if as_of else None
            result = _fetch(opened.result(), lake, needed, points, sql, instant)
        outcome, rows = "done", result.num_rows
    finally:
        details: dict[str, str | int] = {
            "query_sha256": hashlib.sha256(sql.encode(errors="surrogatepass")).hexdigest(),
            "rows": rows,
            **({"as_of": as_of} if as_of else {}),
        }
        at = datetime.now(UTC)
        record_event(lake, AuditEntry(at, user.name, "query", outcome, role, purpose, tables, details))
    return result


def _find_tables(connection: duckdb.DuckDBPyConnection, sql: str, granted: Mapping[str, Dataset]) -> tuple[str, ...]:
    """Check that the SQL is one SELECT over granted tables, by binding it to empty ones; give those that it needs."""
    statements = connection.extract_statements(sql)
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise MeterveilError("a query is one SELECT statement", where="query", remedy="nothing else can be run here")
    named: list[str] = []
    with suppress(duckdb.BinderException):  # it can't tell of some queries as long as their tables are not there
        named = sorted(connection.get_table_names(sql, qualified=True) & granted.keys())
    for name in named:
        _create_empty_table(connection, granted[name])
    if _binds(connection, sql):
        return tuple(named)
    # It is wrong, or names a table in a way of its own.
    for name in granted.keys() - named:
        _create_empty_table(connection, granted[name])
    try:
        connection.execute(f"EXPLAIN {sql}")
    except duckdb.CatalogException as error:
        if not (strange := _MISSING_TABLE.search(str(error))):
            raise
        raise MeterveilError(
            f"{strange[1]}: not among the tables that this role may read for this purpose",
            where="query",
            remedy=f"readable, by these names: {', '.join(sorted(granted))}",
        ) from None
    return tuple(name for name in sorted(granted) if _is_needed(connection, granted[name], sql))


def _binds(connection: duckdb.DuckDBPyConnection, sql: str) -> bool:
    """Tell whether a query is right, with the tables that there are."""
    try:
        connection.execute(f"EXPLAIN {sql}")
    except duckdb.Error:
        return False
    return True


def _is_needed(connection: duckdb.DuckDBPyConnection, dataset: Dataset, sql: str) -> bool:
    """Tell whether a query can't be bound without a table: however its name is hidden, and whatever its alias."""
    connection.execute(f"DROP TABLE {dataset.name}")
    needed = not _binds(connection, sql)
    _create_empty_table(connection, dataset)
    return needed


def _fetch(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    datasets: Mapping[str, Dataset],
    points: Mapping[str, frozenset[str]],
    sql: str,
    instant: datetime | None,
) -> pa.Table:
    files = _list_files(lake, datasets) if instant is None else _list_files_at(lake, datasets, instant)
    for name, dataset in datasets.items():
        if name in points:
            files[name] = narrow_files(files[name], points[name], lake.settings.bucket_count)
        if files[name]:
            _create_view(connection, dataset, files[name])
        else:
            _create_empty_table(connection, dataset)
    here = isinstance(lake.root, Path)  # what is in a store is read by pyarrow, and DuckDB reaches nothing at all
    _lock(connection, [file.path for some in files.values() for file in some] if here else [])
    return connection.sql(sql).to_arrow_table()


def _list_files(lake: Lake, datasets: Mapping[str, Dataset]) -> dict[str, list[CurrentFile]]:
    return {name: lake.state(name).files() for name in datasets}


def _list_files_at(lake: Lake, datasets: Mapping[str, Dataset], instant: datetime) -> dict[str, list[CurrentFile]]:
    for name, dataset in datasets.items():
        if dataset.withholds:
            raise MeterveilError(
                "shows only whom it may show today", where=name, remedy="leave out --as-of for this table"
            )
    tables = {name: lake.state(name) for name in datasets}
    return {
        name: tables[name].files(snapshot) if snapshot else []
        for name, snapshot in snapshots_at(tables, instant).items()
    }


@contextmanager
def _connect_ahead(time_zone: str) -> Iterator[Future[duckdb.DuckDBPyConnection]]:
    """Open the database that runs a query while another one looks at it; opening takes as long as a small query."""
    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(_connect, time_zone)
        try:
            yield opened
        finally:
            opened.result().close()


@contextmanager
def _borrow_planner(time_zone: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give the database that looks at queries, empty; for one query at a time, whose tables go with it.

    What a database may reach can't be widened once it is locked, so it can't run them.
    """
    connection, alone = _open_planner(time_zone)
    with alone:
        try:
            yield connection
        finally:  # the next query may be another role's
            tables = connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
            for schema, name in tables:
                connection.execute(f'DROP TABLE {schema}."{name}"')


@cache
def _open_planner(time_zone: str) -> tuple[duckdb.DuckDBPyConnection, threading.Lock]:
    """Open the database that looks at queries, which reaches no file, and its lock; once for a process."""
    connection = _connect(time_zone)
    plan_plainly(connection)
    _lock(connection, [])
    return connection, threading.Lock()


def _connect(time_zone: str) -> duckdb.DuckDBPyConnection:
    """Open an empty database in memory."""
    zones: tuple[Zone, ...] = ("operational", "analytics")
    connection = duckdb.connect(":memory:", config=_CONFIG)
    connection.execute(f"SET TimeZone = {_quote(time_zone)}")
    for zone in zones:
        connection.execute(f"CREATE SCHEMA {zone}")
    return connection


@contextmanager
def _database_errors() -> Iterator[None]:
    """Tell of errors in one line without values."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise MeterveilError("this is no text in UTF-8", where="query") from error
    except duckdb.OutOfMemoryException as error:
        raise MeterveilError("out of memory", where="query", remedy="aggregate, or select fewer rows") from error
    except duckdb.Error as error:
        line = str(error).partition("\n")[0]
        problem = line if isinstance(error, _PLAIN_ERRORS) else line.partition(":")[0]
        raise MeterveilError(problem, where="query") from error


def _lock(connection: duckdb.DuckDBPyConnection, paths: list[str]) -> None:
    """Leave the connection no way to other files, extensions or settings; for good."""
    connection.execute(f"SET allowed_paths = {_quote_list(paths)}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _create_empty_table(connection: duckdb.DuckDBPyConnection, dataset: Dataset) -> None:
    columns = ", ".join(f'"{column.name}" {_sql_type(column.type)}' for column in dataset.columns)
    connection.execute(f"CREATE TABLE {dataset.name} ({columns})")


def _create_view(connection: duckdb.DuckDBPyConnection, dataset: Dataset, files: list[CurrentFile]) -> None:
    if isinstance(locate(files[0].path), ObjectPath):
        _create_scan(connection, dataset, [file.path for file in files])
        return
    columns = ", ".join(f'"{column.name}"' for column in dataset.columns)
    # The date stands in the path: a reader opens the files of the dates it wants, and no others.
    dates = ", hive_partitioning = true, hive_types = {'local_date': DATE}" if is_cell_dataset(dataset) else ""
    paths = _quote_list([file.path for file in files])
    rows = f"SELECT {columns} FROM read_parquet({paths}{dates})"  # noqa: S608 - quoted, from the plan
    connection.execute(f"CREATE VIEW {dataset.name} AS {rows}")


def _create_scan(connection: duckdb.DuckDBPyConnection, dataset: Dataset, paths: list[str]) -> None:
    """Let pyarrow read a dataset's objects: of the dates, columns and row groups that DuckDB asks it for."""
    from pyarrow.dataset import dataset as scan
    from pyarrow.dataset import partitioning

    places = [place for path in paths if isinstance(place := locate(path), ObjectPath)]
    dates = partitioning(pa.schema([("local_date", pa.date32())]), flavor="hive") if is_cell_dataset(dataset) else None
    objects = scan(
        [place.key for place in places], filesystem=places[0].filesystem, format="parquet", partitioning=dates
    )
    connection.register(f"objects of {dataset.name}", objects)
    # Parquet's UUIDs are bytes to pyarrow.
    columns = ", ".join(
        f'hex("{column.name}")::UUID AS "{column.name}"' if column.type == pa.uuid() else f'"{column.name}"'
        for column in dataset.columns
    )
    rows = f'SELECT {columns} FROM "objects of {dataset.name}"'  # noqa: S608 - from the plan
    connection.execute(f"CREATE VIEW {dataset.name} AS {rows}")


def _sql_type(kind: pa.DataType) -> str:
    return f"DECIMAL({kind.precision}, {kind.scale})" if pa.types.is_decimal(kind) else _SQL_TYPES[kind]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quote_list(texts: list[str]) -> str:
    return f"[{', '.join(map(_quote, texts))}]"
