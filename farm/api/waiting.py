"""Where a queued Job stands, and what it waits for: an estimate, as the queue is fair between Projects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from farm import schemas, selector
from farm.domain import BoardState, BoardStatus, Health, Job
from farm.store import queue
from farm.store.db import Store


def place(job: Job, statuses: Sequence[BoardStatus], *, store: Store, now: datetime) -> schemas.QueuePlace:
    """Its place among those that want the same Boards."""
    runtimes = {arm.plan.runtime for arm in job.arms}
    known = [one for one in statuses if one.state is not BoardState.RETIRED]
    fitting = [one for one in known if selector.fits(job.selector, one.board, runtimes)]
    pool = [one for one in fitting if one.state is BoardState.READY and one.health is Health.GOOD]
    rivals, work_s = 0, 0.0
    for wanted, theirs, n, their_s in queue.ahead(store, job.id):
        if any(selector.fits(wanted, one.board, theirs) for one in pool or fitting):
            rivals, work_s = rivals + n, work_s + their_s
    wait_s = _wait_s(work_s, pool, queue.left_s(store, now)) if pool else None
    if wait_s is not None and job.not_before is not None:
        wait_s = max(wait_s, (job.not_before - now).total_seconds())
    return schemas.QueuePlace(
        position=rivals + 1, expected_wait_s=wait_s, waits_for=_waits_for(job, fitting, pool, now)
    )


def _wait_s(work_s: float, pool: Sequence[BoardStatus], left_s: dict[str, float]) -> float:
    """Until a Board of the pool is free for it: what they still have to do, and what comes before it, shared out."""
    busy_s = [left_s.get(one.board.name, 0.0) for one in pool]
    return (sum(busy_s) + work_s) / len(pool) if work_s else min(busy_s)


def _waits_for(job: Job, fitting: Sequence[BoardStatus], pool: Sequence[BoardStatus], now: datetime) -> str:
    if not pool:
        seen = ", ".join(f"{one.board.name} is {_seen(one)}" for one in fitting[:3])
        return f"a board that can be given out: {seen or 'none fits any more'}"
    if job.not_before is not None and job.not_before > now:
        return f"its next attempt, not before {job.not_before:%H:%M:%S} UTC"
    leased = sum(one.lease is not None for one in pool)
    if leased == len(pool):
        return f"a free board: all {len(pool)} that fit are measuring" if leased > 1 else f"board {pool[0].board.name}"
    return "the next round of the dispatcher, and a worker with a free slot"


def _seen(status: BoardStatus) -> str:
    return f"in state {status.state}" if status.state is not BoardState.READY else f"of health {status.health}"
