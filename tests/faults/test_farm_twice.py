"""What comes twice, late, or from somebody who was taken for dead: it changes nothing."""

from __future__ import annotations

import signal

from farm.services import celery_app
from farm.worker import CeleryPost
from tests.faults.farmhouse import Farmhouse, farm_template, house, until

__all__ = ["farm_template", "house"]


def test_many_dispatchers_and_workers_under_load_never_grant_a_board_twice(house: Farmhouse) -> None:
    for name in ("pi-1", "pi-2", "pi-3"):
        house.add_board(name)
    jobs = [house.submit() for _ in range(5)]
    programs = [house.dispatcher(), house.start_worker(), house.start_worker()]  # each has a dispatcher
    assert house.until_over(*jobs) == ["OK"] * 5
    assert all(program.is_alive() for program in programs)
    assert house.sql("SELECT count(*) AS n FROM run") == [{"n": 5}]
    house.check()


def test_a_message_that_comes_twice_is_carried_out_once_and_one_that_comes_late_not_at_all(house: Farmhouse) -> None:
    house.add_board("pi-1")
    jobs = [house.submit(), house.submit()]
    for worker in [house.start_worker() for _ in range(2)]:
        house.until_known(worker)
    house.dispatch_often()
    post = CeleryPost(celery_app(house.redis.url))
    tokens: dict[str, int] = {}

    def double() -> bool:
        for run in house.sql("SELECT id, token FROM run"):
            if run["id"] not in tokens:
                tokens[run["id"]] = run["token"]
                post.run(run["id"], run["token"], "default")
                post.run(run["id"], run["token"], "default")
        return not house.sql("SELECT 1 FROM job WHERE ended_at IS NULL")

    until(double, "every job is over")
    before = [house.writes(job) for job in jobs]
    for run_id, token in tokens.items():
        post.run(run_id, token, "default")
        post.judge(run_id, "default")
        post.check("pi-1", token, "default")
    last = house.submit()  # its message comes after those
    assert house.until_over(last) == ["OK"]
    assert [house.writes(job) for job in jobs] == before
    assert [run["outcome"] for job in (*jobs, last) for run in house.runs(job)] == ["OK"] * 3
    house.check()


def test_a_worker_that_was_frozen_past_its_lease_writes_nothing_when_it_wakes_and_its_agent_is_gone(
    house: Farmhouse,
) -> None:
    house.add_board("pi-1")
    house.add_board("pi-2")
    job = house.submit(duration_s=2.0)
    frozen = house.worker()
    house.dispatch_often()
    house.until_told(job, "timed")
    (first,) = house.runs(job)
    was_on = house.boards[first["board"]]
    frozen.send(signal.SIGSTOP)
    house.worker()
    until(lambda: not was_on.agents(), "the agent leaves the board when the seconds of its lease are over")
    assert house.until_over(job) == ["OK"]
    assert [(run["outcome"], run["blame"]) for run in house.runs(job)] == [("BROKEN", "farm"), ("OK", None)]
    before = house.writes(job)
    frozen.send(signal.SIGCONT)
    frozen.send(signal.SIGTERM)  # it ends when it is done with all that it has
    frozen.wait()
    assert house.writes(job) == before
    house.check()
