"""VERB 2: give boards to jobs: expire leases, assign, grant, send. Any number of dispatchers may work at once.

The truth is in the store; a message that is lost, late or doubled changes nothing. A lease is expired when our own
monotonic clock has seen no renewal for its time to live, so that a stepped clock ends no lease.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from farm import assign, domain, selector, settle
from farm.domain import BoardState, Health
from farm.errors import BoardBusy, FarmError, LabError
from farm.store import boards, leases, queue, results, workers
from farm.store.db import Store

CHECKED = (Health.UNKNOWN, Health.SUSPECT)  # such Boards are looked at before they are given out
WORKER_LIVES_S = 20.0  # without a beat
UNSETTLED_S = 10.0  # before we take it that the worker that ended a Run will not settle it
FORGET_WORKER_S = 600.0
CHECK_RETRY_S = 30.0  # after a health check that came to nothing
CHECK_WITHIN_S = 600.0  # what is later than that was put off by a clock that has been stepped back since
CHECKS_RATIO = 0.25  # of a site's slots, at least one: a dead lab must not hold up the living Boards
TIDY_EVERY_S = 1.0  # to look after old Leases and Runs: a round that was kicked is for a Job that waits
GIVE_UP_EVERY_S = 5.0  # to look at all that is queued takes longer than to assign a Board
MOST_KNOWN = 10_000  # demands of which we remember whether a Board fits
POST_PAUSE_S = 5.0  # after a message that could not be sent

log = logging.getLogger(__name__)


class Post(Protocol):
    """How messages reach the workers of a site. Raises LabError where they cannot be sent now."""

    def run(self, run_id: str, token: int, site: str) -> None:
        """Carry out this Run."""

    def check(self, board: str, token: int, site: str) -> None:
        """Look at this Board's health."""

    def judge(self, run_id: str, site: str) -> None:
        """Judge this Run, which has ended."""


class Unchanged:
    """For how long things have not changed, by our own monotonic clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[Hashable, tuple[object, float, bool]] = {}

    def look(self, now: Iterable[tuple[Hashable, object]]) -> dict[Hashable, float]:
        """Seconds since each (name, value) was first seen with this value; what is not among them is forgotten."""
        at = self._clock()
        fresh: dict[Hashable, tuple[object, float, bool]] = {}
        for name, value in now:
            before = self._seen.get(name)
            fresh[name] = before if before is not None and before[0] == value else (value, at, before is not None)
        self._seen = fresh
        return {name: at - since for name, (_, since, _) in fresh.items()}

    def has_changed(self, name: Hashable) -> bool:
        """Whether its value has ever changed while we looked."""
        return name in self._seen and self._seen[name][2]

    def forget(self, name: Hashable) -> None:
        """Let its time begin anew."""
        self._seen.pop(name, None)


@dataclass(slots=True)
class Report:
    """What one round did."""

    expired: list[domain.Lease] = field(default_factory=list)
    granted: list[domain.Run] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    timed_out: list[str] = field(default_factory=list)


class Dispatcher:
    """One dispatcher. `once` is a round; it may be called from one thread at a time."""

    def __init__(
        self,
        store: Store,
        post: Post,
        *,
        ttl_s: float,
        cool_down_s: float,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
        holder: str = "dispatcher",
    ) -> None:
        self.store, self.post, self.ttl_s, self.cool_down_s = store, post, ttl_s, cool_down_s
        self._rng, self._holder, self._clock = rng, holder, clock
        self._silent_until = clock()
        self._began: tuple[datetime, float] | None = None
        self._leases, self._workers, self._unsettled = Unchanged(clock), Unchanged(clock), Unchanged(clock)
        self._boards: dict[str, tuple[object, domain.Board]] = {}
        self._known: dict[str, tuple[object, domain.BoardStatus]] = {}
        self._held: list[domain.Lease] = []
        self._usage: dict[str, float] = {}
        self._asked: dict[str, queue.Asked] = {}
        self._fits: dict[str, dict[str, bool]] = {}  # Board -> demand
        self._tidied, self._gave_up = clock() - TIDY_EVERY_S, clock() - GIVE_UP_EVERY_S

    def once(self, now: datetime) -> Report:
        """Expire, settle, give up, drain, check, assign, grant, send."""
        report = Report()
        held = self._held = leases.unreleased(self.store, self._held)
        is_time = self._clock() - self._tidied >= TIDY_EVERY_S
        if is_time:
            self._tidied = self._clock()
            report.expired = self._expire(held, now)
            self._usage = queue.usage(self.store, now)
        if self._clock() - self._gave_up >= GIVE_UP_EVERY_S:
            report.timed_out, self._gave_up = queue.give_up(self.store, self._unstepped(now)), self._clock()
        over = {(lease.board, lease.token) for lease in report.expired}
        kept = {lease.board: lease for lease in held if (lease.board, lease.token) not in over}
        statuses = self._statuses(kept)
        for status in statuses:
            if status.state is BoardState.DRAINING and status.lease is None:
                boards.drained(self.store, status.board.name, now=now)
        slots = self._slots(statuses, now)
        if is_time:
            self._settle(sorted(slots), now)
        if any(slots.values()) and self._clock() >= self._silent_until:
            report.checks = self._check(statuses, slots, now)
            statuses = [status for status in statuses if status.board.name not in report.checks]
            report.granted = self._assign(statuses, slots, now)
        return report

    def _unstepped(self, now: datetime) -> datetime:
        """The time, but no later than by our own monotonic clock since the first round: a step ends no Job."""
        self._began = self._began or (now, self._clock())
        began_at, began = self._began
        return min(now, began_at + timedelta(seconds=self._clock() - began))

    def _expire(self, held: list[domain.Lease], now: datetime) -> list[domain.Lease]:
        ages = self._leases.look(((lease.board, lease.token), lease.renewals) for lease in held)
        over = [lease for lease in held if ages[lease.board, lease.token] > lease.ttl_s]
        ended = [lease for lease in over if end_lease(self.store, lease, now=now)]
        left = [run for run in results.unfinished_runs(self.store) if run.begun_at is not None]
        for run in left:
            text = f"Its lease on board '{run.board}' ended without a word from {run.worker or 'its holder'}."
            results.abandon(self.store, run.id, domain.Reason("lease_expired", text, "farm"), now)
        return ended

    def _settle(self, sites: list[str], now: datetime) -> None:
        """Move on the Jobs of Runs that ended without anybody to settle them; `sites`: those with a live worker."""
        found = queue.unsettled(self.store)
        ages = self._unsettled.look((run.id, None) for run in found)
        for run in found:
            is_ours = any(reason.code == "lease_expired" for reason in run.reasons)
            if not is_ours and ages[run.id] < UNSETTLED_S:
                continue  # the worker that ended it is about to
            try:
                self._settle_one(run, sites, now)
            except FarmError as error:  # one Job must not hold up the others
                log.warning("job %s was not moved on after run %s: %s", run.job_id, run.id, error)

    def _settle_one(self, run: domain.Run, sites: list[str], now: datetime) -> None:
        if run.outcome in (domain.Outcome.BROKEN, domain.Outcome.CANCELLED):
            settle.settle(run.job_id, store=self.store, cool_down_s=self.cool_down_s, now=now)
        elif sites:  # any worker can judge
            site = boards.get_board(self.store, run.board).site
            site = site if site in sites else sites[0]
            self._send(lambda: self.post.judge(run.id, site))
            self._unsettled.forget(run.id)  # and ask again, if nothing comes of it

    def _statuses(self, held: dict[str, domain.Lease]) -> list[domain.BoardStatus]:
        """Every Board; what changes rarely is read anew only where it has changed."""
        found = boards.glances(self.store)
        stale = {one.name: one.saved for one in found if self._boards.get(one.name, (None,))[0] != one.saved}
        for name, board in boards.get_boards(self.store, list(stale)).items():
            self._boards[name] = (stale[name], board)
            self._fits.pop(name, None)
        known = {}
        for one in found:
            seen, before = (one, held.get(one.name)), self._known.get(one.name)
            if before is not None and before[0] == seen:
                known[one.name] = before
            elif one.name in self._boards:
                board = self._boards[one.name][1]
                state, health = BoardState(one.state), Health(one.health)
                status = domain.BoardStatus(board, state, health, one.failures, "", one.next_check_at, seen[1])
                known[one.name] = (seen, status)
        self._known = known
        return [status for _, status in known.values()]

    def _slots(self, statuses: list[domain.BoardStatus], now: datetime) -> dict[str, int]:
        """Free slots of each site with a live worker that takes new Runs: its slots, less the Leases there."""
        known = workers.list_workers(self.store)
        ages = self._workers.look((worker.id, worker.beats) for worker in known)
        slots: Counter[str] = Counter()
        for worker in known:
            is_there = self._workers.has_changed(worker.id) or _was_there(worker, now)
            if ages[worker.id] < WORKER_LIVES_S and not worker.draining and is_there:
                slots[worker.site] += worker.slots
            elif ages[worker.id] > FORGET_WORKER_S:
                workers.forget(self.store, worker.id)
        held = Counter(status.board.site for status in statuses if status.lease is not None)
        return {site: max(0, n - held[site]) for site, n in slots.items()}

    def _check(self, statuses: list[domain.BoardStatus], slots: dict[str, int], now: datetime) -> list[str]:
        """Have the health of Boards looked at where it is unknown; such a look has a Lease, like a Run."""
        held = [status for status in statuses if status.lease is not None]
        busy = {assign.group(status.board) for status in held} - {None}
        under_way = Counter(status.board.site for status in held if status.lease is not None and status.lease.is_check)
        runs = Counter(status.board.site for status in held) - under_way
        most = {site: max(1, int(CHECKS_RATIO * (n + runs[site] + under_way[site]))) for site, n in slots.items()}
        checked = []
        for status in statuses:
            board, group = status.board, assign.group(status.board)
            if not _wants_check(status, now) or not slots.get(board.site) or group in busy:
                continue
            if under_way[board.site] >= most[board.site]:
                continue
            try:
                lease = leases.grant(
                    self.store,
                    board.name,
                    holder=self._holder,
                    ttl_s=self.ttl_s,
                    now=now,
                    host=group,
                    is_check=True,
                    healths=CHECKED,
                )
            except BoardBusy:
                continue
            if not self._send(lambda b=board, t=lease.token: self.post.check(b.name, t, b.site)):  # type: ignore[misc]
                leases.expire(self.store, lease, now=now)
                break
            slots[board.site] -= 1
            under_way[board.site] += 1
            busy |= {group} - {None}
            checked.append(board.name)
        return checked

    def _assign(self, statuses: list[domain.BoardStatus], slots: dict[str, int], now: datetime) -> list[domain.Run]:
        idle = [
            status.board for status in statuses
            if status.lease is None and status.state is BoardState.READY and status.health is Health.GOOD
            and slots.get(status.board.site, 0) > 0
        ]  # fmt: skip
        wanted = self._wanted(idle) if idle else []
        demands = queue.waiting(self.store, now, of_each=len(idle), demands=wanted) if wanted else []
        if not demands:
            return []
        granted = []
        for demand, status in assign.assign(demands, statuses, slots=slots, usage=self._usage, now=now, rng=self._rng):
            board = status.board
            try:
                run = queue.grant(
                    self.store,
                    demand.job_id,
                    board.name,
                    holder=self._holder,
                    ttl_s=self.ttl_s,
                    now=now,
                    host=assign.group(board),
                )
            except BoardBusy:
                continue  # another dispatcher was quicker
            if not self._send(lambda run=run, board=board: self.post.run(run.id, run.token, board.site)):  # type: ignore[misc]
                queue.withdraw(self.store, _lease_of(run, self.ttl_s), why="the message broker did not answer", now=now)
                break
            granted.append(run)
            self._usage[demand.project] = self._usage.get(demand.project, 0.0) + demand.expected_s
        return granted

    def _wanted(self, idle: list[domain.Board]) -> list[str]:
        """What queued Jobs ask that one of these Boards can serve: the others need not be looked at."""
        self._asked = queue.asked(self.store, self._asked)
        return [name for name, ask in self._asked.items() if any(self._fit(board, name, ask) for board in idle)]

    def _fit(self, board: domain.Board, name: str, ask: queue.Asked) -> bool:
        known = self._fits.setdefault(board.name, {})
        if name not in known:
            if len(known) > MOST_KNOWN:
                known.clear()
            known[name] = selector.fits(ask[0], board, ask[1])
        return known[name]

    def _send(self, message: Callable[[], None]) -> bool:
        try:
            message()
        except LabError as error:
            log.warning("a message to the workers could not be sent: %s", error)
            self._silent_until = self._clock() + POST_PAUSE_S
            return False
        return True


class Rounds(threading.Thread):
    """A dispatcher's rounds: at once when kicked, and every few seconds."""

    def __init__(self, dispatcher: Dispatcher, *, every_s: float, now: Callable[[], datetime]) -> None:
        super().__init__(name="dispatcher", daemon=True)
        self.dispatcher, self._every_s, self._now = dispatcher, every_s, now
        self._kicked = threading.Event()
        self._ended = threading.Event()

    def kick(self) -> None:
        """Have a round now."""
        self._kicked.set()

    def stop(self) -> None:
        """No more rounds; the one under way ends."""
        self._ended.set()
        self._kicked.set()

    def run(self) -> None:
        """Rounds until `stop`; what goes wrong in one is logged, and the next one tries again."""
        while not self._ended.is_set():
            try:
                self.dispatcher.once(self._now())
            except FarmError as error:
                log.warning("a dispatcher's round failed: %s", error)
            except Exception:  # the door of this thread
                log.exception("a dispatcher's round failed; please report this")
            self._kicked.wait(self._every_s)
            self._kicked.clear()


def end_lease(store: Store, lease: domain.Lease, *, now: datetime) -> bool:
    """End a Lease that nobody renewed. A Run that nobody took up is taken back, and nobody is blamed."""
    if lease.is_check:
        ended = leases.expire(store, lease, now=now)
        if ended:
            boards.check_later(store, lease.board, now + timedelta(seconds=CHECK_RETRY_S))
        return ended
    return queue.withdraw(store, lease, why="no worker took it up", now=now) or leases.expire(store, lease, now=now)


def grant(
    job: domain.Job, board: domain.Board, *, store: Store, holder: str, ttl_s: float, now: datetime
) -> domain.Run:
    """A Run of this Job on this very Board, for who carries it out himself. Raises BoardBusy."""
    boards.save_board(store, board, now)
    host = assign.group(board)
    return queue.grant(store, job.id, board.name, holder=holder, ttl_s=ttl_s, now=now, host=host, healths=None)


class Patience:
    """Waiting for one Board that somebody else holds, or has left behind: a lease that nobody renews is ended."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._seen = store, Unchanged(clock)

    def look(self, now: datetime) -> None:
        """End every Lease that was not renewed for its time to live, as far as we have seen."""
        held = leases.unreleased(self._store)
        ages = self._seen.look(((lease.board, lease.token), lease.renewals) for lease in held)
        for lease in held:
            if ages[lease.board, lease.token] > lease.ttl_s:
                end_lease(self._store, lease, now=now)
        for run in results.unfinished_runs(self._store):
            text = f"Its lease on board '{run.board}' ended without a word from its holder. Measure again."
            results.abandon(self._store, run.id, domain.Reason("lease_expired", text, "farm"), now)


def _wants_check(status: domain.BoardStatus, now: datetime) -> bool:
    """Whether a Board's health is to be looked at now."""
    at = status.next_check_at
    is_due = at is None or not now < at <= now + timedelta(seconds=CHECK_WITHIN_S)
    return is_due and status.state is BoardState.READY and status.health in CHECKED and status.lease is None


def _was_there(worker: domain.Worker, now: datetime) -> bool:
    """False for a row that a worker of long ago has left: a dispatcher that just started has not seen it age."""
    return worker.seen_at is None or abs((now - worker.seen_at).total_seconds()) < FORGET_WORKER_S


def _lease_of(run: domain.Run, ttl_s: float) -> domain.Lease:
    return domain.Lease(run.board, run.token, "", ttl_s, run.started_at)
