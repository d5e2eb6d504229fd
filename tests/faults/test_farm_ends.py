"""Jobs and workers that are asked to end, and results that come too late."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

from farm.store import queue, workers
from tests.faults import witness
from tests.faults.conftest import processes_of
from tests.faults.farmhouse import Farmhouse, Process, farm_template, house, until

__all__ = ["farm_template", "house"]


def cancel(house: Farmhouse, job: str) -> None:
    queue.cancel(house.store, job, by="tests", now=datetime.now(UTC))


def test_a_cancelled_job_is_off_its_board_within_two_seconds(house: Farmhouse) -> None:
    host = house.add_board("pi-1")
    jobs = [house.submit(duration_s=60.0) for _ in range(3)]
    house.worker()
    took_s = []
    for job in jobs:
        house.until_told(job, "timed")
        since = time.monotonic()
        cancel(house, job)
        until(lambda: not any("subject" in words for words in processes_of(host.home).values()), "the subject is gone")
        took_s.append(time.monotonic() - since)
    assert statistics.median(took_s) < 2.0, took_s  # what the farm promises
    assert house.until_over(*jobs) == ["CANCELLED"] * 3
    house.check()


def test_a_result_that_is_stored_while_its_job_is_cancelled_counts_once(house: Farmhouse) -> None:
    house.add_board("pi-1")
    with witness.closed(house.conninfo, "finish") as gate:
        job = house.submit()
        house.worker()
        gate.await_someone()
        cancel(house, job)
    assert house.until_over(job) == ["OK"]  # all of it was measured before anybody heard of the cancellation
    assert [run["outcome"] for run in house.runs(job)] == ["OK"]
    house.check()


def test_a_result_that_comes_after_its_job_was_cancelled_is_refused(house: Farmhouse) -> None:
    house.add_board("pi-1")
    job = house.submit(duration_s=1.0)
    frozen = house.worker()
    house.dispatch_often()
    house.until_told(job, "timed")
    frozen.send(signal.SIGSTOP)
    cancel(house, job)
    house.worker()
    assert house.until_over(job) == ["CANCELLED"]
    before = house.writes(job)
    frozen.send(signal.SIGCONT)
    frozen.send(signal.SIGTERM)
    frozen.wait()
    assert house.writes(job) == before
    assert [run["outcome"] for run in house.runs(job)] == ["BROKEN"]
    house.check()


def test_a_worker_that_gets_sigterm_finishes_what_it_has_and_takes_nothing_new_while_another_goes_on(
    house: Farmhouse,
) -> None:
    def drain(worker: Process) -> None:
        worker.send(signal.SIGTERM)
        until(lambda: house.sql("SELECT 1 FROM worker WHERE draining"), "it drains")

    drains(house, drain, duration_s=2.0)


def test_a_worker_that_a_person_asks_to_drain_does_the_same(house: Farmhouse) -> None:
    def drain(worker: Process) -> None:
        workers.drain(house.store, str(house.worker_id(worker)), by="tests", now=datetime.now(UTC))
        until(lambda: "asked to drain" in worker.log.read_text(), "it hears of that with its next beat")

    drains(house, drain, duration_s=6.0)


def test_a_worker_that_gets_sigterm_twice_gives_up_what_it_has_and_its_job_is_tried_again(house: Farmhouse) -> None:
    host = house.add_board("pi-1")
    job = house.submit(duration_s=3.0)
    worker = house.worker()
    house.until_told(job, "timed")
    worker.send(signal.SIGTERM)
    until(lambda: house.sql("SELECT 1 FROM worker WHERE draining"), "it drains")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert host.agents() == []
    house.worker()
    assert house.until_over(job) == ["OK"]
    given_up, second = house.runs(job)
    assert (given_up["outcome"], given_up["blame"], given_up["reasons"][0]["code"]) == ("BROKEN", "farm", "lease_lost")
    assert second["outcome"] == "OK"
    house.check()


def drains(house: Farmhouse, drain: Callable[[Process], None], *, duration_s: float) -> None:
    house.add_board("pi-1")
    house.add_board("pi-2")
    first = house.submit(duration_s=duration_s)
    draining = house.worker()
    house.dispatch_often()
    house.until_told(first, "timed")
    drain(draining)
    later = [house.submit() for _ in range(2)]
    house.worker()
    assert house.until_over(first, *later) == ["OK"] * 3
    assert draining.wait() == 0
    assert house.worker_id(draining) is None
    took = [str(draining.pid) in str(run["worker"]) for job in (first, *later) for run in house.runs(job)]
    assert took == [True, False, False]
    house.check()
