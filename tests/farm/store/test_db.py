"""Opening, transactions and the database's errors in our words."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import insert, make_url, select, text

from farm.errors import FarmBug, InputError, StoreError
from farm.store import db
from farm.store.db import Store, open_store
from farm.store.tables import REVISION, BoardRow, ProjectRow


@pytest.mark.parametrize("url", ["", "not a url", "mysql://root:hunter2@host/farm", "sqlite://", "sqlite:///:memory:"])
def test_a_url_of_another_kind_is_refused_and_its_password_not_shown(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Database URL") as caught:
        open_store(url, tmp_path, upgrade=True)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql://ann:hunter2@127.0.0.1:1/farm", "postgresql+psycopg://ann@127.0.0.1:1/farm?password=hunter2"],
)
def test_an_unreachable_postgresql_is_named_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"Database postgresql\+psycopg://ann.*does not answer.*Check that it"
    ) as caught:
        open_store(url, tmp_path, upgrade=True)
    assert "hunter2" not in str(caught.value)


def test_a_database_that_postgresql_does_not_have_is_an_error_of_the_store(postgres_url: str, tmp_path: Path) -> None:
    url = make_url(postgres_url).set(database="nowhere").render_as_string(hide_password=False)
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        open_store(url, tmp_path, upgrade=True)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "farm.db"
    path.write_bytes(b"a letter to a friend" * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        open_store(f"sqlite:///{path}", tmp_path / "blobs", upgrade=True)
    assert path.read_bytes() == b"a letter to a friend" * 100


def test_a_folder_that_cannot_be_made_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made: File exists"):
        open_store(f"sqlite:///{tmp_path}/file/farm.db", tmp_path, upgrade=True)


def test_a_database_without_tables_says_what_to_run(empty_database_url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=rf"which needs version {REVISION}. Run `farm db upgrade`"):
        open_store(empty_database_url, tmp_path, upgrade=False)


def test_an_older_database_says_what_to_run(store: Store, database_url: str, tmp_path: Path) -> None:
    with store.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(StoreError, match=rf"is at version 0000, this farm needs {REVISION}. Run `farm db upgrade`"):
        open_store(database_url, tmp_path, upgrade=False)


@pytest.mark.parametrize("upgrade", [True, False])
def test_a_newer_database_is_never_touched(store: Store, database_url: str, tmp_path: Path, upgrade: bool) -> None:
    with store.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    with pytest.raises(StoreError, match=f"is at version 0099, this farm needs {REVISION}: a newer farm made it"):
        open_store(database_url, tmp_path, upgrade=upgrade)


def test_two_upgrades_at_once_make_one_set_of_tables(empty_database_url: str, tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def upgrade() -> None:
        try:
            db.upgrade(empty_database_url)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    open_store(empty_database_url, tmp_path, upgrade=False).close()


def test_a_transaction_that_fails_writes_nothing(store: Store) -> None:
    def fail() -> None:
        with store.write() as session:
            session.add(ProjectRow(name="vision"))
            session.flush()
            raise KeyError("vision")

    with pytest.raises(KeyError):
        fail()
    with store.read() as session:
        assert session.scalars(select(ProjectRow.name)).all() == []


def test_a_reading_transaction_cannot_write(store: Store) -> None:
    with pytest.raises(StoreError, match="cannot be used"), store.read() as session:
        session.execute(insert(ProjectRow).values(name="vision"))
    with store.write() as session:
        session.add(ProjectRow(name="audio"))
    with store.read() as session:
        assert session.scalars(select(ProjectRow.name)).all() == ["audio"]


def test_what_the_database_forbids_is_our_bug(store: Store) -> None:
    with pytest.raises(FarmBug, match="refused a statement"), store.write() as session:
        session.add_all([ProjectRow(name="vision"), ProjectRow(name="vision")])


def test_a_datetime_comes_back_aware_and_in_utc(store: Store) -> None:
    tokyo = timezone(timedelta(hours=9))
    with store.write() as session:
        session.add(_board(datetime(2026, 3, 1, 21, 0, 0, 123456, tokyo)))
    with store.read() as session:
        saved_at = session.scalars(select(BoardRow.saved_at)).one()
    assert saved_at == datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)
    assert saved_at.tzinfo is UTC or saved_at.utcoffset() == timedelta(0)


def test_a_datetime_without_a_time_zone_is_refused(store: Store) -> None:
    with pytest.raises(FarmBug, match="has no time zone"), store.write() as session:
        session.add(_board(datetime(2026, 3, 1, 12)))  # noqa: DTZ001 - what is refused


def test_a_nan_in_json_is_refused_on_every_database(store: Store) -> None:
    row = _board(datetime(2026, 3, 1, tzinfo=UTC))
    row.facts = {"temp_c": float("nan")}
    with pytest.raises(FarmBug, match="JSON"), store.write() as session:
        session.add(row)


def test_a_locked_sqlite_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "BUSY_TIMEOUT_S", 0.05)
    store = open_store(f"sqlite:///{tmp_path}/farm.db", tmp_path / "blobs", upgrade=True)
    other = sqlite3.connect(tmp_path / "farm.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"is locked: database is locked.*See which other process"), store.write():
        pass
    other.close()
    with store.write() as session:
        session.add(ProjectRow(name="vision"))
    store.close()


def test_sqlite_has_a_write_ahead_log_and_checks_foreign_keys(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/new/farm.db", tmp_path / "blobs", upgrade=True)
    with store.read() as session:
        assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert session.execute(text("PRAGMA foreign_keys")).scalar() == 1
    store.close()


def test_twenty_threads_that_read_and_then_write_meet_no_lock(store: Store) -> None:
    errors: list[Exception] = []

    def write(name: str) -> None:
        try:
            for i in range(5):
                with store.write() as session:
                    n = len(session.scalars(select(ProjectRow.id)).all())
                    session.add(ProjectRow(name=f"{name}-{i}-{n}"))
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(f"p{i}",)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as session:
        assert len(session.scalars(select(ProjectRow.id)).all()) == 100
    assert errors == []


def _board(saved_at: datetime) -> BoardRow:
    words = {"site": "lab", "transport": "local", "address": "", "is_virtual": False, "entry": {}, "facts": {}}
    return BoardRow(name="orin-3", saved_at=saved_at, **words)
