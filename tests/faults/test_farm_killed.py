"""A worker or a dispatcher is killed with SIGKILL at any stage: whoever lives tries its Jobs again, or ends them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from tests.faults import witness
from tests.faults.farmhouse import BoardHost, Farmhouse, farm_template, house, until

__all__ = ["farm_template", "house"]

Stage = Callable[[Farmhouse, BoardHost], Iterator[str]]
"""Submits a Job and says which; then goes on once it is at the stage; then, after the kill, clears the way again."""


def connect(house: Farmhouse, host: BoardHost) -> Iterator[str]:
    host.proxy.delay(1.0)
    yield (job := house.submit(on=host.name))
    house.until_told(job, "connect")
    yield "connecting"
    host.proxy.delay(0.0)
    assert house.kinds(job)[:5] == ["submitted", "granted", "begun", "connect"]


def push(house: Farmhouse, host: BoardHost) -> Iterator[str]:
    yield (job := house.submit(house.large_model(), on=host.name))
    until(lambda: list(host.home.glob("artifacts/*/weights.part-*")), "the push of the model")
    host.proxy.delay(3.0)
    yield "pushing"
    host.proxy.delay(0.0)
    assert "hello" not in house.kinds(job)


def hello(house: Farmhouse, host: BoardHost) -> Iterator[str]:
    yield (job := house.submit(on=host.name))
    until(host.agents, "an agent starts")
    host.proxy.delay(3.0)
    yield "starting"
    host.proxy.delay(0.0)
    assert "hello" not in house.kinds(job)


def load(house: Farmhouse, host: BoardHost) -> Iterator[str]:
    yield (job := house.submit(house.model("slow", load_ms=3000), on=host.name))
    house.until_told(job, "stage", "runtime")
    yield "loading"
    assert house.kinds(job)[-1] == "stage"


def timed(house: Farmhouse, host: BoardHost) -> Iterator[str]:
    yield (job := house.submit(on=host.name, duration_s=2.0))
    house.until_told(job, "timed")
    yield "measuring"
    assert "block" not in house.kinds(job)


def at_gate(name: str) -> Stage:
    """Killed within the transaction that passes this gate."""

    def stage(house: Farmhouse, host: BoardHost) -> Iterator[str]:
        with witness.closed(house.conninfo, name) as gate:
            yield house.submit(on=host.name)
            gate.await_someone()
            yield name

    return stage


def killed_at(house: Farmhouse, *stages: Stage) -> list[str]:
    """The Jobs of a worker that was killed when it was at these stages, one on a board; another worker lives now."""
    ways = [stage(house, house.add_board(f"pi-{number}")) for number, stage in enumerate(stages)]
    jobs = [next(way) for way in ways]
    worker = house.worker()
    for way in ways:
        next(way)
    worker.kill()
    for way in ways:
        assert next(way, None) is None
    house.worker()
    return jobs


@pytest.mark.parametrize(
    "stages",
    [
        pytest.param([hello, connect], id="connect, hello"),
        pytest.param([push, at_gate("block")], id="push, pull"),
        pytest.param([load], id="load"),
        pytest.param([at_gate("finish"), timed], id="timed, finish"),
    ],
)
def test_a_worker_killed_in_the_middle_of_its_runs_loses_these_alone(house: Farmhouse, stages: list[Stage]) -> None:
    jobs = killed_at(house, *stages)
    assert house.until_over(*jobs) == ["OK"] * len(jobs)
    for job in jobs:
        first, second = house.runs(job)
        assert (first["outcome"], first["blame"], first["reasons"][0]["code"]) == ("BROKEN", "farm", "lease_expired")
        assert second["outcome"] == "OK"
        assert second["token"] > first["token"]
    assert house.sql("SELECT DISTINCT health, failures FROM board") == [{"health": "good", "failures": 0}]
    house.check()


def test_a_worker_killed_before_it_begins_a_run_has_harmed_nobody(house: Farmhouse) -> None:
    (job,) = killed_at(house, at_gate("begin"))
    assert house.until_over(job) == ["OK"]
    assert [run["outcome"] for run in house.runs(job)] == ["OK"]
    assert house.kinds(job)[:4] == ["submitted", "granted", "requeued", "granted"]
    house.check()


def test_a_run_whose_worker_was_killed_before_it_judged_is_judged_by_another_and_not_measured_again(
    house: Farmhouse,
) -> None:
    (job,) = killed_at(house, at_gate("judge"))
    assert house.until_over(job) == ["OK"]
    assert [run["outcome"] for run in house.runs(job)] == ["OK"]
    house.check()


def test_a_dispatcher_killed_while_it_grants_has_granted_nothing(house: Farmhouse) -> None:
    house.add_board("pi-1")
    worker = house.worker()
    worker.send(signal.SIGSTOP)  # so that it grants nothing itself
    with witness.closed(house.conninfo, "grant") as gate:
        job = house.submit()
        dispatcher = house.dispatcher()
        gate.await_someone()
        dispatcher.kill()
    worker.send(signal.SIGCONT)
    assert house.until_over(job) == ["OK"]
    assert house.kinds(job).count("granted") == 1
    house.check()


def test_a_dispatcher_killed_between_the_grant_and_its_message_leaves_a_run_that_is_taken_back(
    house: Farmhouse,
) -> None:
    house.add_board("pi-1")
    worker = house.worker()
    worker.send(signal.SIGSTOP)
    house.redis.process.send(signal.SIGSTOP)
    job = house.submit()
    dispatcher = house.dispatcher()
    until(lambda: house.runs(job), "the run is granted")
    dispatcher.kill()
    house.redis.process.send(signal.SIGCONT)
    worker.send(signal.SIGCONT)
    assert house.until_over(job) == ["OK"]
    assert [run["outcome"] for run in house.runs(job)] == ["OK"]
    assert house.kinds(job)[:4] == ["submitted", "granted", "requeued", "granted"]
    house.check()
