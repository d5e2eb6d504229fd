"""The servers that tests run against are real and answer."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from tests import servers


def test_postgresql_answers(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
        assert "PostgreSQL" in connection.execute(text("SELECT version()")).scalar_one()
    engine.dispose()


def test_redis_answers(redis_url: str) -> None:
    assert servers.ask_redis(redis_url, "PING") == "+PONG"


def test_a_server_that_the_environment_names_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_TEST_POSTGRES_URL", "postgresql+psycopg://tests@lab/postgres")
    monkeypatch.setenv("FARM_TEST_REDIS_URL", "redis://lab:6379/5")
    with servers.postgres() as postgres, servers.redis() as redis:
        assert (postgres, redis) == ("postgresql+psycopg://tests@lab/postgres", "redis://lab:6379/5")
