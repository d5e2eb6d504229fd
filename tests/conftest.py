"""Fixtures that every test may ask for: real servers, and a fresh database on each kind of them."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from sqlalchemy import make_url
from sqlalchemy.engine import URL

from farm.store import db
from farm.store.tables import REVISION, Table
from tests import servers

settings.register_profile("farm", deadline=None)  # a slow machine is no failure
settings.load_profile("farm")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL: the URL of a database from which others can be created."""
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis."""
    with servers.redis() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any tables, on each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    admin = make_url(request.getfixturevalue("postgres_url"))
    with _postgres_database(admin) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with the farm's tables, all empty, on each kind.

    PostgreSQL's is one for all tests, emptied after each: to make one takes 0.4 s. Who changes tables asks for
    `empty_database_url`.
    """
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("_sqlite_template"), tmp_path / "farm.db")
        yield f"sqlite:///{tmp_path}/farm.db"
        return
    url = request.getfixturevalue("_postgres_migrated")
    yield url
    with _administrator(make_url(url)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for table in reversed(Table.metadata.sorted_tables):
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table.name)))
        connection.execute("UPDATE alembic_version SET version_num = %s", [REVISION])


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "farm.db"
    db.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _postgres_migrated(postgres_url: str) -> Iterator[str]:
    with _postgres_database(make_url(postgres_url)) as url:
        db.upgrade(url)
        yield url


@contextlib.contextmanager
def _postgres_database(admin: URL) -> Iterator[str]:
    name = sql.Identifier(f"farm_test_{uuid.uuid4().hex[:12]}")
    with _administrator(admin) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    yield admin.set(database=name.as_string().strip('"')).render_as_string(hide_password=False)
    with _administrator(admin) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _administrator(admin: URL) -> psycopg.Connection[tuple[object, ...]]:
    conninfo = admin.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(conninfo, autocommit=True)
