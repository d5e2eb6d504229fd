"""Many dispatchers at one database: no Board is leased twice at any moment, every Job ends once, nothing is lost."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from farm import settle
from farm.dispatch import Dispatcher
from farm.domain import JobState, Outcome, Selector, Worker
from farm.errors import LabError, LeaseLost
from farm.store import boards, events, jobs, leases, queue, results, workers
from farm.store.db import Store, open_store
from farm.store.tables import LeaseRow, RunRow
from tests.farm.rounds import Clock, Post, dispatcher, worker
from tests.farm.store.moves import after, ended, good_board, queued

BOARDS, JOBS = 30, 100
OUTCOMES = (Outcome.OK, Outcome.OK, Outcome.OK, Outcome.NOISY, Outcome.FAILED, Outcome.BROKEN)
FAST = 200.0  # times as fast as ours goes the wall clock of those at work: cool-downs and pauses are short


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(database_url, tmp_path / "blobs", upgrade=False)
    for n in range(BOARDS):
        good_board(opened, f"pi-{n:02}", tags=(f"rack-{n % 5}",))
    for n in range(JOBS):
        tags = (f"rack-{n % 5}",) if n % 2 else ()
        queued(opened, project=f"p{n % 3}", selector=Selector(tags=tags), submitted_at=after(n - JOBS))
    yield opened
    opened.close()


@dataclass
class Hand:
    """A dispatcher and a worker in one: rounds, and what they sent, of which some is lost and some comes twice."""

    store: Store
    seed: int
    marks: Path  # one file for each Board on which somebody works now
    post: Post = field(default_factory=Post)
    done: int = 0
    checked: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def work(self, now: datetime) -> None:
        """Carry out what was sent since."""
        fresh, self.done = self.post.runs[self.done :], len(self.post.runs)
        for run_id, token, _ in fresh:
            if self.rng.random() > 0.1:
                self._carry_out(run_id, token, now)
            if self.rng.random() < 0.3:
                self._carry_out(run_id, token, now)
        looks, self.checked = self.post.checks[self.checked :], len(self.post.checks)
        for board, token, _ in looks:
            boards.checked(self.store, board, token, facts={}, note="", next_check_at=None, now=now)
            lease = leases.current(self.store, board)
            assert lease is not None
            leases.release(self.store, lease, now=now)

    def _carry_out(self, run_id: str, token: int, now: datetime) -> None:
        if not queue.begin(self.store, run_id, token, worker=f"w{self.seed}", now=now):
            return
        run = results.get_run(self.store, run_id)
        mark = self.marks / run.board
        mark.touch(exist_ok=False)  # FileExistsError: somebody else works on it
        time.sleep(0.002)
        mark.unlink()
        ended(self.store, run, self.rng.choice(OUTCOMES), now=now)
        if self.rng.random() > 0.05:
            settle.settle(run.job_id, store=self.store, cool_down_s=60.0, now=now)


def test_two_dispatchers_that_take_turns_give_every_job_its_end(store: Store, tmp_path: Path) -> None:
    post, clock = Post(), Clock()
    both = [dispatcher(store, post, clock, seed=seed) for seed in (1, 2)]
    hand = Hand(store, 7, tmp_path, post)
    for n in range(0, 8000, 8):
        clock.go_on(8.0)
        worker(store, slots=20, now=after(n))
        both[n // 8 % 2].once(after(n))
        hand.work(after(n))
        for run_id, _ in post.judged:
            settle.settle(results.get_run(store, run_id).job_id, store=store, cool_down_s=60.0, now=after(n))
        if queue.counts(store)[JobState.DONE] == JOBS:
            break
    _assert_sound(store)
    for spans in _leases(store).values():
        for (_, _, released_at), (_, granted_at, _) in pairwise(spans):
            assert released_at is not None
            assert released_at <= granted_at


def test_dispatchers_in_threads_of_their_own_give_every_job_its_end(store: Store, tmp_path: Path) -> None:
    found: list[str] = []
    started = time.time()
    threads = [threading.Thread(target=_work, args=(store, seed, tmp_path, started, found)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == []
    _assert_sound(store)


def test_dispatchers_in_processes_of_their_own_give_every_job_its_end(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    work = [(database_url, seed, tmp_path, time.time()) for seed in (1, 2)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.starmap(_process, work, chunksize=1) == [[], []]
    _assert_sound(store)


def _process(url: str, seed: int, marks: Path, started: float) -> list[str]:
    found: list[str] = []
    store = open_store(url, marks / "blobs", upgrade=False)
    try:
        _work(store, seed, marks, started, found)
    finally:
        store.close()
    return found


def _work(store: Store, seed: int, marks: Path, started: float, found: list[str]) -> None:
    """Rounds and Runs until every Job has ended; what goes wrong is found."""
    hand = Hand(store, seed, marks)
    mine = Dispatcher(
        store,
        hand.post,
        ttl_s=40.0,
        cool_down_s=60.0,
        rng=hand.rng,
        holder=f"d{seed}",
        clock=lambda: 20 * time.monotonic(),
    )
    give_up = time.monotonic() + 60.0
    while queue.counts(store)[JobState.DONE] < JOBS:
        now = after(FAST * (time.time() - started))
        try:
            workers.beat(store, Worker(f"w{seed}", "lab", 10, now), now)
            mine.once(now)
            hand.work(now)
            for run_id, _ in hand.post.judged:
                settle.settle(results.get_run(store, run_id).job_id, store=store, cool_down_s=60.0, now=now)
        except LeaseLost:
            pass  # this machine stood still for two seconds
        except (LabError, OSError) as error:
            found.append(f"{type(error).__name__}: {error}")
        if time.monotonic() > give_up:
            found.append(f"not done in time: {queue.counts(store)}")
            return
        time.sleep(0.01)


def _leases(store: Store) -> dict[str, list[tuple[int, datetime, datetime | None]]]:
    """(token, granted, released) of each Board."""
    found = defaultdict(list)
    with store.read() as session:
        for row in session.scalars(select(LeaseRow).order_by(LeaseRow.board, LeaseRow.token)):
            found[row.board].append((row.token, row.granted_at, row.released_at))
    return found


def _assert_sound(store: Store) -> None:
    assert [lease for lease in leases.unreleased(store) if not lease.is_check] == []
    found = jobs.list_jobs(store, limit=1000)
    assert Counter(job.state for job in found) == {JobState.DONE: JOBS}
    tries = 0
    for job in found:
        told = Counter(event.kind for event in events.of_job(store, job.id))
        runs = results.runs_of(store, job.id)
        assert (told["done"], events.of_job(store, job.id)[-1].kind) == (1, "done")
        assert told["granted"] == told["requeued"] + 1  # each grant was taken back, tried again, or the last
        assert told["begun"] == len(runs) <= 6
        assert runs[-1].outcome == job.outcome
        assert all(run.outcome is not None for run in runs)
        tries += len(runs)
    assert tries > JOBS
    with store.read() as session:
        leased = [(run.board, run.token) for run in session.scalars(select(RunRow))]
    spans = _leases(store)
    assert len(set(leased)) == len(leased) == tries
    assert set(leased) <= {(board, token) for board, found in spans.items() for token, *_ in found}
    assert all([token for token, *_ in found] == list(range(1, len(found) + 1)) for found in spans.values())
