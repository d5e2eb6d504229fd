"""Opening the store: an engine for SQLite or PostgreSQL, transactions, the schema's version, errors in our words."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

import farm
from farm.errors import FarmBug, FarmError, InputError, StoreError
from farm.store.blobs import Blobs, disk_full, open_blobs
from farm.store.tables import REVISION, Table

BUSY_TIMEOUT_S = 30.0
_DANGLING = "PRAGMA foreign_key_check"
_UPGRADE_LOCK = 7_146_912_830  # any number, the same for every farm: one upgrade at a time on PostgreSQL


class Store:
    """An open database and its blobs. Safe to be shared by threads; a child process opens its own."""

    def __init__(self, engine: Engine, blobs: Blobs) -> None:
        self.engine = engine
        self.blobs = blobs

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that writes: all of it is committed at the end, or nothing. SQLite has one at a time."""
        with _edge(self.engine.url), Session(self.engine.execution_options(farm_writes=True)) as session:
            with session.begin():
                session.connection()  # begins now: SQLite's lock is ours from here on
                yield session

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that cannot write."""
        with _edge(self.engine.url), Session(self.engine) as session:
            yield session

    def check(self) -> None:
        """Raise StoreError where the database does not answer, or its tables are of another version."""
        with _edge(self.engine.url):
            found = _revision(self.engine)
        if found != REVISION:
            raise _wrong_revision(self.engine.url, found)

    def close(self) -> None:
        """Give every connection back."""
        self.engine.dispose()


def open_store(url: str, blobs: Path, *, upgrade: bool, blobs_url: str | None = None) -> Store:
    """Open the database at `url` and the folder of its blobs; with `upgrade`, bring its tables up to date first.

    Where `blobs_url` names a bucket, the folder is its cache.
    Raises StoreError where it cannot be reached or its tables are of another version, InputError for a wrong url.
    """
    engine = _engine(url)
    try:
        with _edge(engine.url):
            found = _revision(engine)
            if upgrade and found != REVISION:
                found = _upgrade(engine, found)
        if found != REVISION:
            raise _wrong_revision(engine.url, found)
        return Store(engine, open_blobs(blobs_url, blobs))
    except BaseException:
        engine.dispose()
        raise


def upgrade(url: str) -> None:
    """Bring the tables of the database at `url` up to date; nothing happens where they are."""
    engine = _engine(url)
    try:
        with _edge(engine.url):
            _upgrade(engine, _revision(engine))
    finally:
        engine.dispose()


def insert_new(session: Session, table: type[Table], *rows: Mapping[str, Any]) -> None:
    """Insert rows, but for those whose key is there already."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    if rows:
        session.execute(insert(Table.metadata.tables[table.__tablename__]).on_conflict_do_nothing(), rows)


def migrations_folder() -> Path:
    """Where Alembic's scripts are: inside the wheel, else beside the sources."""
    package = Path(farm.__file__).parent
    shipped = package / "_migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # their message may quote a password
        raise InputError(
            "Database URL cannot be read. Give one such as sqlite:////var/lib/farm/farm.db "
            "or postgresql+psycopg://user:password@host/farm."
        ) from None
    backend = parsed.drivername.partition("+")[0]
    if backend in ("postgresql", "postgres"):
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10} if "connect_timeout" not in parsed.query else {},
            json_serializer=_to_json,
            hide_parameters=True,
        )
        event.listen(engine, "begin", _begin_postgresql)
        return engine
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        path = Path(parsed.database)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"Database {_shown(parsed)} cannot be made: {error.strerror}. Check its path, owner and permissions."
            ) from None
        engine = create_engine(
            parsed, connect_args={"timeout": BUSY_TIMEOUT_S}, json_serializer=_to_json, hide_parameters=True
        )
        event.listen(engine, "connect", _connect_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    raise InputError(f"Database URL {_shown(parsed)} is neither PostgreSQL nor a file of SQLite. Give one of these.")


def _connect_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # the driver begins nothing by itself; see _begin_sqlite
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself where two connections make this first change to a new file at once.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once where another wrote in between.
    options = connection.get_execution_options()
    writes = options.get("farm_writes", False)
    if options.get("farm_upgrades", False):  # a table that is made anew is dropped first; see _upgrade
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    driver: Any = connection.connection.dbapi_connection
    writes = connection.get_execution_options().get("farm_writes", False)
    driver.read_only = None if writes else True  # part of its BEGIN, and no statement more


def _to_json(data: Any) -> str:
    return json.dumps(data, allow_nan=False)  # SQLite would keep a NaN, PostgreSQL refuses it


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(engine: Engine, found: str | None) -> str:
    if found is not None and found > REVISION:
        raise _wrong_revision(engine.url, found)
    from alembic import command  # only an upgrade needs it, and it takes 0.2 s
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    with engine.execution_options(farm_writes=True, farm_upgrades=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _UPGRADE_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if connection.dialect.name == "sqlite" and (broken := connection.exec_driver_sql(_DANGLING).first()):
            raise FarmBug(f"Database {_shown(engine.url)} would point nowhere after its upgrade: {broken}.")
    engine.dispose()  # the connection on which SQLite's foreign keys were off
    return REVISION


def _wrong_revision(url: URL, found: str | None) -> StoreError:
    where = f"Database {_shown(url)}"
    if found is None:
        return StoreError(f"{where} has no tables of the farm, which needs version {REVISION}. Run `farm db upgrade`.")
    if found > REVISION:
        return StoreError(
            f"{where} is at version {found}, this farm needs {REVISION}: a newer farm made it. Upgrade this farm."
        )
    return StoreError(f"{where} is at version {found}, this farm needs {REVISION}. Run `farm db upgrade`.")


def _shown(url: URL) -> str:
    """The URL as it may be shown: without a password, wherever it stands."""
    return url.set(query={}).render_as_string(hide_password=True)


@contextlib.contextmanager
def _edge(url: URL) -> Iterator[None]:
    """Turn the database's errors into ours."""
    try:
        yield
    except FarmError:
        raise
    except (SQLAlchemyError, sqlite3.Error, psycopg.Error, ValueError) as error:
        raise _translated(url, error) from error


def _translated(url: URL, error: Exception) -> FarmError:
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    seen = " ".join(str(cause).split()) or type(cause).__name__
    for secret in (url.password, url.query.get("password")):
        seen = seen.replace(str(secret), "***") if secret else seen
    where = f"Database {_shown(url)}"
    state = getattr(cause, "sqlstate", None) or ""
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL or state == "53100":
        return disk_full(where, seen)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or state[:2] in ("55", "40"):
        return StoreError(f"{where} is locked: {seen}. See which other process holds it and end that, or try again.")
    is_closed = state == "25006" or state.startswith("28")  # read-only; not authorized
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM) or is_closed:
        return StoreError(f"{where} cannot be used: {seen}. Check its path, owner and permissions.")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR):
        return StoreError(f"{where} cannot be read or written: {seen}. Check its disk; restore the file from a backup.")
    if isinstance(error, (OperationalError, InterfaceError, PoolTimeout, sqlite3.Error, psycopg.OperationalError)):
        return StoreError(f"{where} does not answer: {seen}. Check that it runs, its URL and the network.")
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return StoreError(f"{where} broke the connection: {seen}. Check that it runs, then try again.")
    return FarmBug(f"{where} refused a statement: {seen}. Please report this with the traceback.")
