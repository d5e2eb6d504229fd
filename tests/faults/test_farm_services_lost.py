"""Redis and PostgreSQL go away under a working farm and come back, Redis without anything it held."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from farm.store import db
from tests import servers, sshd
from tests.faults import witness
from tests.faults.farmhouse import Farmhouse, farm_template, house, opened, until
from tests.faults.parts import Postgres

__all__ = ["farm_template", "house"]

# Longer than every timeout of the farm's towards Redis: 10 s for an answer, 11 s for a worker that waits for messages.
PARTITION_S = float(os.environ.get("FARM_TEST_PARTITION_S", "12"))


def messages_in(house: Farmhouse) -> int:
    """How many messages Redis was given for workers since it started."""
    with redis.Redis.from_url(house.redis.url) as asked:
        told: Any = asked.info("commandstats")
    return int(told.get("cmdstat_lpush", {}).get("calls", 0))


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
    until(lambda: messages_in(house) == 2, "both messages are sent")
    dispatcher.kill()
    house.redis.stop()
    worker.send(signal.SIGCONT)
    house.redis.start()
    assert house.until_over(*jobs) == ["OK"] * 3
    assert house.sql("SELECT outcome FROM run") == [{"outcome": "OK"}] * 3
    house.check()


def test_a_redis_that_is_away_for_a_while_ends_no_run_and_work_goes_on_when_it_is_back(house: Farmhouse) -> None:
    house.add_board("pi-1")
    first = house.submit(duration_s=1.0)
    house.worker()
    house.until_told(first, "timed")
    house.redis.stop()
    second = house.submit()
    assert house.until_over(first) == ["OK"]
    house.redis.start()
    assert house.until_over(second) == ["OK"]
    assert [len(house.runs(job)) for job in (first, second)] == [1, 1]
    house.check()


def test_a_partition_from_redis_ends_no_run_and_work_goes_on_after_it_over_new_connections(house: Farmhouse) -> None:
    house.add_board("pi-1")
    first = house.submit(duration_s=1.0)
    with sshd.proxy(house.redis.port) as proxy:
        house.redis.url = f"redis://127.0.0.1:{proxy.port}/0"
        worker = house.worker()
        house.until_told(first, "timed")
        proxy.delay(3600.0)  # for what is said in that time nobody gets an answer, also when it is over
        second = house.submit()
        assert house.until_over(first) == ["OK"]
        time.sleep(PARTITION_S)
        proxy.delay(0.0)
        assert house.until_over(second) == ["OK"]
        assert worker.is_alive()
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
        jobs = [house.submit(duration_s=1.0), house.submit()]
        worker = house.worker()
        house.dispatch_often()
        house.until_told(jobs[0], "timed")
        postgres.stop()
        until(lambda: "does not answer" in worker.log.read_text(), "the worker misses it")
        postgres.start(later)
        assert house.until_over(*jobs) == ["OK"] * 2
        house.check()
