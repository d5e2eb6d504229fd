"""Rounds of a dispatcher: a stand-in for the broker, which keeps the messages; a clock that is told the time; a lab."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from farm import settle
from farm.dispatch import Dispatcher, Report
from farm.domain import Outcome, Run, Worker
from farm.errors import BrokerUnreachable
from farm.store import queue, results, workers
from farm.store.db import Store
from tests.farm.store.moves import TTL_S, after, ended
from tests.farm.store.nouns import NOW


@dataclass
class Post:
    """What was sent; see dispatch.Post."""

    runs: list[tuple[str, int, str]] = field(default_factory=list)
    checks: list[tuple[str, int, str]] = field(default_factory=list)
    judged: list[tuple[str, str]] = field(default_factory=list)
    is_down: bool = False

    def run(self, run_id: str, token: int, site: str) -> None:
        """See dispatch.Post."""
        self._look()
        self.runs.append((run_id, token, site))

    def check(self, board: str, token: int, site: str) -> None:
        """See dispatch.Post."""
        self._look()
        self.checks.append((board, token, site))

    def judge(self, run_id: str, site: str) -> None:
        """See dispatch.Post."""
        self._look()
        self.judged.append((run_id, site))

    def _look(self) -> None:
        if self.is_down:
            raise BrokerUnreachable("The broker does not answer.")


@dataclass
class Clock:
    """A monotonic clock that goes on when it is told to."""

    t_s: float = 1000.0

    def __call__(self) -> float:
        return self.t_s

    def go_on(self, seconds: float) -> None:
        """So much later."""
        self.t_s += seconds


def dispatcher(store: Store, post: Post, clock: Clock, *, seed: int = 1, cool_down_s: float = 60.0) -> Dispatcher:
    """A dispatcher with these hands."""
    return Dispatcher(
        store, post, ttl_s=TTL_S, cool_down_s=cool_down_s, rng=random.Random(seed), clock=clock, holder=f"d{seed}"
    )


def worker(store: Store, site: str = "lab", *, slots: int = 16, now: datetime = NOW, draining: bool = False) -> str:
    """A worker of a site beats."""
    name = f"pc-{site}:1:aa"
    workers.beat(store, Worker(name, site, slots, NOW, draining=draining), now)
    return name


@dataclass
class Lab:
    """A store, a dispatcher, and the time on its clock and on the wall."""

    store: Store
    post: Post = field(default_factory=Post)
    clock: Clock = field(default_factory=Clock)
    wall_s: float = 0.0

    def __post_init__(self) -> None:
        self.dispatcher = dispatcher(self.store, self.post, self.clock)

    @property
    def now(self) -> datetime:
        """The time on the wall."""
        return after(self.wall_s)

    def round(self, later_s: float = 0.0, *, beat: str | None = "lab") -> Report:
        """A round so much later; the site's worker beats before it."""
        self.clock.go_on(later_s)
        self.wall_s += later_s
        if beat:
            worker(self.store, beat, now=self.now)
        return self.dispatcher.once(self.now)

    def begin(self) -> Run:
        """The worker takes the last message up."""
        run_id, token, _ = self.post.runs[-1]
        assert queue.begin(self.store, run_id, token, worker="w1", now=self.now)
        return results.get_run(self.store, run_id)

    def ran(self, outcome: Outcome, **changes: Any) -> Run:
        """The last message is carried out, and its Job moved on by the worker."""
        run = ended(self.store, self.begin(), outcome, now=self.now, **changes)
        settle.settle(run.job_id, store=self.store, cool_down_s=60.0, now=self.now)
        return run
