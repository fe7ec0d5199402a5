"""A catalog server: a PostgreSQL database that holds what the committer alone may change, for lakes of many machines.

It takes the place of what a lake of one machine keeps in small files and locks of the kernel. In a schema for each zone
it has, beside Iceberg's own catalog tables:

* ``records``: small files that are replaced: the journal, leases, the ledger of inputs, the policy (``RecordPath``);
* ``lines``: files that are appended to: the audit log.

The committer's lock is one of its session: the server releases it when the session ends, however that comes. All that
changes under the lock goes through that very session (``hold``). So whoever has lost the lock, and doesn't know it yet,
can change nothing any more: their session is gone.

User, password and certificates come from the environment as libpq has it (``PGUSER``, ``PGPASSWORD``, ``PGPASSFILE``,
``PGSSLMODE`` …); a place names server and database alone.
"""

import errno
import fnmatch
import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from pipeline.errors import MeterveilError

if TYPE_CHECKING:
    from psycopg import Connection

_CONNECT_S = 10
#: Waits, in seconds, before a session is asked for again: a server that starts, or has many workers at once.
_AGAIN_S = (0.2, 0.5, 1.0, 2.0, 4.0)
#: A server that a dead machine's session is on notices it in about a minute, and releases its lock.
_NOTICE_DEATH = (
    "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; "
    "SET tcp_user_timeout = 60000"
)
_POLL_S = 0.05
_TABLES = """
CREATE SCHEMA IF NOT EXISTS {zone};
CREATE TABLE IF NOT EXISTS {zone}.records (
    path text PRIMARY KEY, content bytea NOT NULL, written_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS {zone}.lines (
    path text NOT NULL, number bigint NOT NULL, line bytea NOT NULL, PRIMARY KEY (path, number));
"""
#: The sessions that this thread holds the lock with, by server.
_HELD: ContextVar[dict[str, "Connection[Any]"]] = ContextVar("held sessions", default={})  # noqa: B039 - replaced, never changed


@dataclass(frozen=True, slots=True)
class RecordStat:
    """What ``Path.stat`` says: size in bytes, time of the last write in s by the clock of this machine."""

    st_size: int
    st_mtime: float
    st_mtime_ns: int


class RecordPath(PurePosixPath):
    """A small file in a catalog server: ``postgresql://host:port/database/zone/journal/x.json``.

    Methods are those of ``Path``, errors too.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    @property
    def server(self) -> str:
        """The server and its database."""
        return f"postgresql://{self.parts[1]}/{self.parts[2]}"

    @property
    def zone(self) -> str:
        """The schema."""
        return self.parts[3]

    @property
    def key(self) -> str:
        """The file's name in the schema."""
        return "/".join(self.parts[4:])

    def resolve(self) -> Self:
        """Give the place itself: there are no links."""
        return self

    def read_bytes(self) -> bytes:
        """Read a record."""
        return bytes(self._find("content"))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Read a record of text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb") -> io.BytesIO:
        """Open a record to read it."""
        assert mode == "rb"
        return io.BytesIO(self.read_bytes())

    def write_bytes(self, content: bytes | memoryview) -> None:
        """Write a record, or replace it."""
        self._execute(
            "INSERT INTO {zone}.records (path, content) VALUES (%s, %s) "
            "ON CONFLICT (path) DO UPDATE SET content = excluded.content, written_at = now()",
            self.key,
            bytes(content),
        )

    def touch(self) -> None:
        """Note that a record is as good as written now."""
        if not self._execute("UPDATE {zone}.records SET written_at = now() WHERE path = %s", self.key):
            raise self._missing()

    def stat(self) -> RecordStat:
        """Look at a record."""
        size, age = self._find("length(content), extract(epoch FROM now() - written_at)::float8")
        written = time.time() - age
        return RecordStat(size, written, int(written * 1e9))

    def exists(self) -> bool:
        """Tell whether there is such a record."""
        return self.is_file()

    def is_file(self) -> bool:
        """Tell whether there is such a record."""
        try:
            self._find("1")
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Tell that nothing here is a folder."""
        return False

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Delete a record."""
        if not self._execute("DELETE FROM {zone}.records WHERE path = %s", self.key) and not missing_ok:
            raise self._missing()

    def glob(self, pattern: str) -> Iterator[Self]:
        """List the records right below whose name fits."""
        prefix = f"{self.key}/" if self.key else ""
        query = "SELECT path FROM {zone}.records WHERE starts_with(path, %s) ORDER BY path"
        with session(self.server) as connection:
            names = [row[0].removeprefix(prefix) for row in connection.execute(_of_zone(query, self), [prefix])]
        return (self / name for name in names if "/" not in name and fnmatch.fnmatchcase(name, pattern))

    def append_line(self, make_line: Callable[[bytes], bytes]) -> None:
        """Append a line, made of the last one (empty for none), with nobody else's in between."""
        with session(self.server) as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_number(str(self))])
            query = "SELECT number, line FROM {zone}.lines WHERE path = %s ORDER BY number DESC LIMIT 1"
            number, last = connection.execute(_of_zone(query, self), [self.key]).fetchone() or (0, b"")
            insert = "INSERT INTO {zone}.lines (path, number, line) VALUES (%s, %s, %s)"
            connection.execute(_of_zone(insert, self), [self.key, number + 1, make_line(bytes(last))])

    def read_lines(self) -> list[bytes]:
        """Read all lines that were appended."""
        query = "SELECT line FROM {zone}.lines WHERE path = %s ORDER BY number"
        with session(self.server) as connection:
            return [bytes(row[0]) for row in connection.execute(_of_zone(query, self), [self.key])]

    def _find(self, what: str) -> Any:
        query = _of_zone(f"SELECT {what} FROM {{zone}}.records WHERE path = %s", self)  # noqa: S608 - ours
        with session(self.server) as connection:
            row = connection.execute(query, [self.key]).fetchone()
        if row is None:
            raise self._missing()
        return row if len(row) > 1 else row[0]

    def _execute(self, query: str, *values: object) -> int:
        with session(self.server) as connection, connection.transaction():
            return connection.execute(_of_zone(query, self), values).rowcount

    def _missing(self) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))


def check_server(uri: str) -> str:
    """Check what a user calls a catalog server, and give it as lakes keep it.

    Raises:
        MeterveilError: it is none, or holds what belongs into the environment.
    """
    parts = urlsplit(uri)
    if parts.scheme != "postgresql" or not parts.hostname or parts.path.count("/") != 1 or len(parts.path) < 2:
        raise MeterveilError("not a catalog server", where="--catalog", remedy="write postgresql://HOST:PORT/DATABASE")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise MeterveilError(
            "it holds more than server and database",
            where="--catalog",
            remedy="give user, password and options by the environment: PGUSER, PGPASSFILE, PGSSLMODE …",
        )
    return uri


def make_zone(zone: RecordPath, lake: str) -> None:
    """Make a zone's schema and tables, those that are missing.

    Raises:
        MeterveilError: the database holds another lake than the one at this place.
    """
    with session(zone.server) as connection, connection.transaction():
        connection.execute(_of_zone(_TABLES, zone))
    owner = zone / "lake"
    if not owner.exists():
        owner.write_bytes(lake.encode())
    elif (other := owner.read_text()) != lake:
        raise MeterveilError(
            f"the database holds the lake at {other}", where=zone.server, remedy="make a database for each lake"
        )


def reaches_zone(zone: RecordPath) -> bool:
    """Tell whether this user may use a zone's schema."""
    query = "SELECT has_schema_privilege(oid, 'usage') FROM pg_namespace WHERE nspname = %s"
    with session(zone.server) as connection:
        row = connection.execute(query, [zone.zone]).fetchone()
    return bool(row and row[0])


def list_locations(zone: RecordPath) -> dict[str, str]:
    """List a zone's tables, by name, with the places of their metadata."""
    query = "SELECT table_namespace || '.' || table_name, metadata_location FROM {zone}.iceberg_tables"
    with session(zone.server) as connection:
        return dict(connection.execute(_of_zone(query, zone)).fetchall())


def find_location(zone: RecordPath, namespace: str, table: str) -> str | None:
    """Find the place of a table's metadata; None where the catalog has no such table."""
    query = "SELECT metadata_location FROM {zone}.iceberg_tables WHERE table_namespace = %s AND table_name = %s"
    with session(zone.server) as connection:
        row = connection.execute(_of_zone(query, zone), [namespace, table]).fetchone()
    return str(row[0]) if row else None


@contextmanager
def session(server: str) -> Iterator["Connection[Any]"]:
    """Give a session: the one that this thread holds the lock with, or else a short one that commits by itself.

    Raises:
        MeterveilError: the server can't be reached, or refuses.
    """
    held = _HELD.get().get(server)
    with _server_faults(server):
        if held is not None:
            try:
                yield held
            except BaseException:
                if not held.closed:
                    held.rollback()
                raise
            held.commit()  # what only reads begins a transaction too
        else:
            connection = _connect(server, autocommit=True)
            try:
                yield connection
            finally:
                connection.close()


@contextmanager
def hold(server: str, patience_s: float, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of the committer, in this thread.

    Args:
        server: the server; one lake a database.
        patience_s: how long to wait, in seconds.
        on_wait: told once if somebody else holds it.

    Raises:
        MeterveilError: another session still holds it, or the server fails.
    """
    with _server_faults(server):
        connection = _connect(server, autocommit=False)
    try:
        with _server_faults(server):
            connection.execute(_NOTICE_DEATH)
            connection.commit()
            deadline, waited = time.monotonic() + patience_s, False
            while not _try_lock(connection):
                if not waited:
                    on_wait()
                    waited = True
                if time.monotonic() >= deadline:
                    raise MeterveilError(
                        f"another run has been committing for more than {patience_s:.0f} s",
                        where=server,
                        remedy="wait for it or end it, then run this again",
                    )
                time.sleep(_POLL_S)
        token = _HELD.set({**_HELD.get(), server: connection})
        try:
            yield
        finally:
            _HELD.reset(token)
    finally:
        connection.close()


def held_session(server: str) -> "Connection[Any] | None":
    """Give the session that this thread holds the lock with, if it does."""
    return _HELD.get().get(server)


def connect(server: str) -> "Connection[Any]":
    """Open a session, for SQLAlchemy."""
    return _connect(server, autocommit=False)


def _of_zone(query: str, place: RecordPath) -> bytes:
    return query.format(zone=place.zone).encode()


def _try_lock(connection: "Connection[Any]") -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [_number("committer")]).fetchone()
    connection.commit()
    return bool(row and row[0])


def _number(name: str) -> int:
    """Make the number of an advisory lock."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _connect(server: str, *, autocommit: bool) -> "Connection[Any]":
    psycopg = _import_driver()
    for wait in _AGAIN_S:
        with suppress(psycopg.OperationalError):
            return psycopg.connect(server, autocommit=autocommit, connect_timeout=_CONNECT_S)  # type: ignore[no-any-return]
        time.sleep(wait)
    return psycopg.connect(server, autocommit=autocommit, connect_timeout=_CONNECT_S)  # type: ignore[no-any-return]


def _import_driver() -> Any:
    try:
        import psycopg
    except ModuleNotFoundError as missing:
        raise MeterveilError("catalog servers need psycopg", remedy="install meterveil[server]") from missing
    return psycopg


@contextmanager
def _server_faults(server: str) -> Iterator[None]:
    """Say in a line what a server refuses; its own words may hold values."""
    psycopg = _import_driver()
    try:
        yield
    except psycopg.errors.InsufficientPrivilege:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), server) from None
    except psycopg.Error as error:
        raise explain_server_fault(error, server) from None


def explain_server_fault(error: BaseException, server: str) -> MeterveilError:
    """Say in a line what a server's error means."""
    psycopg = _import_driver()
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        return MeterveilError("the database holds no lake", where=server, remedy="restore it from a backup")
    state = getattr(error, "sqlstate", None)
    problem = f"the catalog server fails ({type(error).__name__}{f' {state}' if state else ''})"
    return MeterveilError(problem, where=server, remedy="see that it runs and lets this user in, then run it again")
