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

HANGS_S = 600.0  # longer than any of these tests
PATIENT = {"FARM_KEEPALIVE_S": "300", "FARM_CONNECT_TIMEOUT_S": "300"}  # a worker that does not give up such a way
LOST = ["BROKEN", "OK"]


def connect(house: Farmhouse, host: BoardHost) -> Iterator[str]:
    host.proxy.delay(HANGS_S)
    yield (job := house.submit(on=host.name))
    house.until_told(job, "connect")
    yield "connecting"
    come_back(host)
    assert house.kinds(job)[:5] == ["submitted", "granted", "begun", "connect"]


def push(house: Farmhouse, host: BoardHost) -> Iterator[str]:
    yield (job := house.submit(house.large_model(), on=host.name))
    until(lambda: list(host.home.glob("artifacts/*/weights.part-*")), "the push of the model")
    host.proxy.delay(HANGS_S)
    yield "pushing"
    come_back(host)
    assert "hello" not in house.kinds(job)


def hello(house: Farmhouse, host: BoardHost) -> Iterator[str]:
    yield (job := house.submit(on=host.name))
    until(host.agents, "an agent starts")
    host.proxy.delay(HANGS_S)
    yield "starting"
    come_back(host)
    assert "hello" not in house.kinds(job)


def load(house: Farmhouse, host: BoardHost) -> Iterator[str]:
    yield (job := house.submit(house.model("slow", load_ms=4000), on=host.name, processes=1))
    house.until_told(job, "stage", "runtime")
    yield "loading"
    assert house.kinds(job)[-1] == "stage"


def timed(house: Farmhouse, host: BoardHost) -> Iterator[str]:
    yield (job := house.submit(on=host.name, duration_s=4.0, processes=1))
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


def come_back(host: BoardHost) -> None:
    """The way to a board is as it was; what was on it is gone with its worker."""
    host.proxy.delay(0.0)
    host.proxy.cut()


# What comes of the Runs of a worker that is killed there. One that it had not begun is taken back; what was measured
# and stored is judged by another worker, not measured again.
STAGES: dict[str, tuple[Stage, list[str]]] = {
    "begin": (at_gate("begin"), ["OK"]),
    "connect": (connect, LOST),
    "push": (push, LOST),
    "hello": (hello, LOST),
    "load": (load, LOST),
    "timed": (timed, LOST),
    "save a block": (at_gate("block"), LOST),
    "save the run": (at_gate("finish"), LOST),
    "judge": (at_gate("judge"), ["OK"]),
}


@pytest.mark.parametrize(
    "names",  # on a board each, in the order in which they come to their stage
    [
        pytest.param(["connect", "load", "begin"], id="connect, load, begin"),
        pytest.param(["push", "save a block"], id="push, save a block"),
        pytest.param(["judge", "hello"], id="hello, judge"),
        pytest.param(["save the run", "timed"], id="timed, save the run"),
    ],
)
def test_a_worker_killed_at_any_stage_loses_no_job_and_another_carries_on(house: Farmhouse, names: list[str]) -> None:
    worker = house.worker(**PATIENT)
    house.dispatch_often()
    jobs, ways = [], []
    for number, name in enumerate(names):
        ways.append(way := STAGES[name][0](house, house.add_board(f"pi-{number}")))
        jobs.append(next(way))
        next(way)
    worker.kill()
    for way in ways:
        assert next(way, None) is None
    house.worker()
    assert house.until_over(*jobs) == ["OK"] * len(jobs)
    for name, job in zip(names, jobs, strict=True):
        runs = house.runs(job)
        assert [run["outcome"] for run in runs] == STAGES[name][1], name
        assert [run["token"] for run in runs] == sorted(run["token"] for run in runs)
        if STAGES[name][1] == LOST:
            assert (runs[0]["blame"], runs[0]["reasons"][0]["code"]) == ("farm", "lease_expired")
    begun = ["submitted", "granted", *(["requeued", "granted"] if "begin" in names else ["begun"])]
    assert house.kinds(jobs[-1])[: len(begun)] == begun
    assert house.sql("SELECT DISTINCT health, failures FROM board") == [{"health": "good", "failures": 0}]
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
