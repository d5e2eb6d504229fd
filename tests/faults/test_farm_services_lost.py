"""Redis and PostgreSQL go away under a working farm and come back, Redis without anything it held."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from farm.store import db
from tests import servers
from tests.faults import witness
from tests.faults.farmhouse import Farmhouse, farm_template, house, opened, until
from tests.faults.parts import Postgres

__all__ = ["farm_template", "house"]

PARTITION_S = 60.0 if os.environ.get("FARM_LONG_FAULTS") else 8.0


def test_messages_lost_with_a_redis_that_comes_back_empty_are_sent_again_and_nobody_is_blamed(
    house: Farmhouse,
) -> None:
    house.add_board("pi-1")
    house.add_board("pi-2")
    worker = house.worker()
    worker.send(signal.SIGSTOP)  # so that the messages wait in Redis
    jobs = [house.submit() for _ in range(3)]
    dispatcher = house.dispatcher()
    until(lambda: house.sql("SELECT count(*) AS n FROM run") == [{"n": 2}], "two runs are granted")
    time.sleep(0.5)
    dispatcher.kill()
    house.redis.stop()
    worker.send(signal.SIGCONT)
    house.redis.start()
    assert house.until_over(*jobs) == ["OK"] * 3
    assert house.sql("SELECT outcome FROM run") == [{"outcome": "OK"}] * 3
    house.check()


def test_a_redis_that_is_away_for_a_while_ends_no_run_and_work_goes_on_when_it_is_back(house: Farmhouse) -> None:
    house.add_board("pi-1")
    house.worker()
    first = house.submit(duration_s=1.0)
    house.until_told(first, "timed")
    house.redis.stop()
    second = house.submit()
    assert house.until_over(first) == ["OK"]
    house.redis.start()
    assert house.until_over(second) == ["OK"]
    assert [len(house.runs(job)) for job in (first, second)] == [1, 1]
    house.check()


def test_a_partition_from_redis_ends_no_run_and_work_goes_on_after_it(house: Farmhouse) -> None:
    house.add_board("pi-1")
    house.worker()
    first = house.submit(duration_s=1.0)
    house.until_told(first, "timed")
    house.redis.process.send(signal.SIGSTOP)
    second = house.submit()
    assert house.until_over(first) == ["OK"]
    time.sleep(PARTITION_S)
    house.redis.process.send(signal.SIGCONT)
    assert house.until_over(second) == ["OK"]
    assert [run["outcome"] for job in (first, second) for run in house.runs(job)] == ["OK", "OK"]
    house.check()


def test_a_postgres_that_crashes_and_comes_back_loses_no_job_and_doubles_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FARM_TEST_POSTGRES_URL", raising=False)
    with servers.postgres() as url, contextlib.ExitStack() as later, contextlib.ExitStack() as stack:
        db.upgrade(url)
        witness.install(url.replace("+psycopg", ""))
        house = stack.enter_context(opened(tmp_path, url, stack))
        postgres = Postgres(url, tmp_path / "postgres.log")
        house.add_board("pi-1")
        house.add_board("pi-2")
        house.worker()
        jobs = [house.submit(duration_s=1.0), *(house.submit() for _ in range(3))]
        house.until_told(jobs[0], "timed")
        postgres.stop()
        time.sleep(1.0)
        postgres.start(later)
        assert house.until_over(*jobs) == ["OK"] * 4
        house.check()
