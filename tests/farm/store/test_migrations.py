"""The migrations lead to exactly tables.py, by DDL: Alembic's own comparison misses a lost index WHERE."""

from __future__ import annotations

import re

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from farm.store import db
from farm.store.tables import REVISION, Table


def test_a_fresh_schema_equals_the_migrated_one(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        Table.metadata.create_all(connection)
        fresh = _ddl(connection)
        Table.metadata.drop_all(connection)
    db.upgrade(empty_database_url)
    with engine.connect() as connection:
        migrated = _ddl(connection)
    engine.dispose()
    assert len(fresh) > 100
    assert migrated == fresh


def test_the_comparison_sees_a_lost_index_where(empty_database_url: str) -> None:
    db.upgrade(empty_database_url)
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        before = _ddl(connection)
        connection.execute(text("DROP INDEX uq_lease_one_unreleased"))
        connection.execute(text("CREATE UNIQUE INDEX uq_lease_one_unreleased ON lease (board)"))
        assert _ddl(connection) != before
    engine.dispose()


def test_the_newest_migration_is_the_revision_that_the_farm_asks_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(db.migrations_folder()))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def _ddl(connection: Connection) -> list[str]:
    """Every column, constraint and index as the database itself words it."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
        lines = [f"{table}: {line}" for table, sql in rows for line in _words(sql)]
        order = "SELECT m.name || '.' || c.cid || ' ' || c.name FROM sqlite_master m, pragma_table_info(m.name) c"
        lines += connection.execute(text(order + " WHERE m.type = 'table'")).scalars()
    else:
        columns = """SELECT table_name || '.' || ordinal_position || ' ' || column_name || ' ' || data_type || ' '
            || coalesce(character_maximum_length::text, '') || is_nullable || coalesce(column_default, '')
            FROM information_schema.columns WHERE table_schema = 'public'"""
        constraints = """SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace"""
        indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
        lines = [
            line for query in (columns, constraints, indexes) for line in connection.execute(text(query)).scalars()
        ]
    return sorted(line for line in lines if "alembic_version" not in line)


def _words(sql: str) -> list[str]:
    """A statement's columns and constraints, without the quotes and brackets that SQLite's changed tables get."""
    plain = re.sub(r"DEFAULT \(([^()]*)\)", r"DEFAULT \1", sql.replace('"', "")).removesuffix("\n)").strip()
    return re.split(r",?\s*\n\s*|, (?=\w+ [A-Z]{4})", plain)
