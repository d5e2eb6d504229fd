"""Locks: one order among all moves; what a database ends as a deadlock all the same is a StoreError."""

from __future__ import annotations

import random
import threading

import pytest
from sqlalchemy import select

from farm import settle
from farm.domain import BoardState, Health, Outcome
from farm.errors import BoardBusy, Conflict, LeaseLost, StoreError
from farm.store import boards, events, jobs, leases, queue, results
from farm.store.db import Store
from farm.store.tables import BoardRow
from tests.farm.store.moves import TTL_S, at_once, ended, good_board, queued
from tests.farm.store.nouns import NOW

NAMES = ("pi-0", "pi-1", "pi-2")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_deadlock_is_a_store_error_and_its_transaction_is_undone(store: Store) -> None:
    for name in NAMES[:2]:
        good_board(store, name)
    both_have_one = threading.Barrier(2)

    def lock(first: str, second: str) -> None:
        with store.write() as session:
            for name in (first, second):
                row = session.scalars(select(BoardRow).where(BoardRow.name == name).with_for_update()).one()
                row.note = f"{row.note}{first} "
                session.flush()
                if name == first:
                    both_have_one.wait()

    found = at_once(lambda: lock("pi-0", "pi-1"), lambda: lock("pi-1", "pi-0"))
    (error,) = [one for one in found if one is not None]
    assert type(error) is StoreError
    assert "deadlock detected" in str(error)
    assert boards.status(store, "pi-0").note == boards.status(store, "pi-1").note != ""


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_all_moves_at_once_never_lock_each_other_out(store: Store) -> None:
    for name in NAMES:
        good_board(store, name)
    found = at_once(*(lambda seed=seed: _moves(store, random.Random(seed)) for seed in range(6)))
    assert found == [None] * 6


def _moves(store: Store, rng: random.Random) -> None:
    """What dispatchers, workers and persons do, in any order."""
    for _ in range(8):
        board = rng.choice(NAMES)
        job = queued(store)
        try:
            run = queue.grant(store, job.id, board, holder="d", ttl_s=TTL_S, now=NOW, host=None)
        except BoardBusy:
            _disturb(store, board, rng)
            continue
        if rng.random() < 0.2:
            for lease in [one for one in leases.unreleased(store) if one.board == board]:
                queue.withdraw(store, lease, why="late", now=NOW)
        elif queue.begin(store, run.id, run.token, worker="w", now=NOW):
            events.tell_of_run(store, run.id, kind="note", at=NOW, data={})
            try:
                ended(store, results.get_run(store, run.id), rng.choice(list(Outcome)))
            except LeaseLost:
                continue  # somebody else has expired it
            settle.settle(job.id, store=store, cool_down_s=0.0, now=NOW)


def _disturb(store: Store, board: str, rng: random.Random) -> None:
    """What others do meanwhile with a Board that somebody holds, and with any Job."""
    held = leases.unreleased(store)
    leases.renew_all(store, rng.sample(held, len(held)), now=NOW)
    for lease in held[:1] if rng.random() < 0.2 else []:
        leases.expire(store, lease, now=NOW)
    boards.set_health(store, board, Health.GOOD, note="", by="ann", now=NOW)
    boards.set_state(store, board, BoardState.READY, note="", by="ann", now=NOW)
    try:
        queue.cancel(store, rng.choice(jobs.list_jobs(store, limit=10)).id, by="ann", now=NOW)
    except Conflict:
        pass
    for run in queue.unsettled(store):
        settle.settle(run.job_id, store=store, cool_down_s=0.0, now=NOW)
    queue.give_up(store, NOW)
