"""The moves of the queue with literal content: a good Board, a queued Job, a granted, begun and ended Run; threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import update

from farm.domain import Board, Health, Job, Lease, Outcome, Reason, Run
from farm.errors import FarmError
from farm.store import boards, events, jobs, leases, queue, results
from farm.store.db import Store
from farm.store.tables import BoardRow
from tests.farm.store.nouns import BOARD, NOW, a_job

T = TypeVar("T")
TTL_S = 30.0


def after(seconds: float) -> datetime:
    """So long after NOW."""
    return NOW + timedelta(seconds=seconds)


def good_board(store: Store, name: str = "orin-3", **changes: Any) -> Board:
    """A Board that may be given out; without facts, so that it fits whatever only a probe could tell."""
    board = replace(BOARD, **{"name": name, "facts": {}, **changes})
    boards.save_board(store, board, NOW)
    with store.write() as session:
        session.execute(update(BoardRow).where(BoardRow.name == name).values(health=Health.GOOD))
    return board


def queued(store: Store, **changes: Any) -> Job:
    """A Job in the queue."""
    return jobs.save_job(store, a_job(**changes))


def granted(store: Store, job: Job, board: str = "orin-3", *, now: datetime = NOW, host: str | None = None) -> Run:
    """A Run of it that nobody has taken up."""
    return queue.grant(store, job.id, board, holder="dispatcher", ttl_s=TTL_S, now=now, host=host)


def begun(store: Store, job: Job, board: str = "orin-3", *, now: datetime = NOW) -> Run:
    """A Run of it that a worker has taken up."""
    run = granted(store, job, board, now=now)
    assert queue.begin(store, run.id, run.token, worker="w1", now=now)
    return results.get_run(store, run.id)


def ended(store: Store, run: Run, outcome: Outcome = Outcome.OK, *, now: datetime = NOW, **changes: Any) -> Run:
    """The same Run with its Outcome, and its Board free again; its Job does not know of it yet."""
    blame = "board" if outcome is Outcome.BROKEN else None
    reasons = () if outcome is Outcome.OK else (Reason("because", "It did so."),)
    over = replace(run, outcome=outcome, ended_at=now, **{"blame": blame, "reasons": reasons, **changes})
    results.finish_run(store, over, run.token)
    lease = leases.current(store, run.board)
    assert lease is not None
    leases.release(store, lease, now=now)
    return over


def state(store: Store, job_id: str) -> tuple[str, str | None]:
    """Where a Job is, and its outcome."""
    job = jobs.get_job(store, job_id)
    return job.state, job.outcome


def kinds(store: Store, job_id: str) -> list[str]:
    """What happened to a Job."""
    return [event.kind for event in events.of_job(store, job_id)]


def lease_of(store: Store, board: str = "orin-3") -> Lease:
    """The Lease that a Board has now."""
    lease = leases.current(store, board)
    assert lease is not None
    return lease


def at_once(*actions: Callable[[], T]) -> list[T | FarmError | None]:
    """What each gives back or raises, all begun at the same moment in threads of their own."""
    barrier = threading.Barrier(len(actions))
    found: list[T | FarmError | None] = [None] * len(actions)

    def go(place: int) -> None:
        barrier.wait()
        try:
            found[place] = actions[place]()
        except FarmError as error:
            found[place] = error

    threads = [threading.Thread(target=go, args=(place,)) for place in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
