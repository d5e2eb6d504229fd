"""Following a Job from afar until it is over: each event once, through lost connections, restarts and proxies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from farm.client.link import Link, NoStream
from farm.client.patience import Patience, Unanswered
from farm.domain import JobState
from farm.errors import FarmUnreachable
from farm.schemas import EventsTold, EventTold, JobTold, QueuePlace

OVER = frozenset({JobState.DONE, JobState.CANCELLED, JobState.REFUSED})
LAST_KINDS = frozenset(map(str, OVER))  # of a Job's last event
KEEPALIVE_S = 15.0  # between the farm's signs of life
DEAD_S = 3 * KEEPALIVE_S  # a stream without any
POLL_S = 2.0  # where no stream gets through
LOOK_S = 15.0  # between looks at the place in the queue
GRACE_S = 15.0  # to ask how it stands, when the time to wait is over
SILENT_STREAMS = 2  # then it is a proxy that keeps them back


class Follower:
    """Follows one Job until it is over, or until the clock says `until`."""

    def __init__(self, link: Link, job_id: str, *, until: float | None = None) -> None:
        self._link, self._until = link, until
        self._path = f"/jobs/{job_id}"
        self.clock = link.time.clock

    def job(self, *, limit_s: float | None = None, grace_s: float = 0.0) -> JobTold:
        """The Job as it is now, however long the farm is away."""
        until = None if self._until is None else self._until + grace_s
        patience = self._link.patience("how the job stands", limit_s, until)
        return self._link.read(self._link.call("GET", self._path, patience=patience), JobTold)

    def events(self, after: int, heard: Callable[[], None]) -> Iterator[EventTold]:
        """Its events after the one of that id. `heard` is called whenever the farm gives a sign of life."""
        patience = self._link.patience("what happens to the job", None, self._until)
        is_streaming, silent = True, 0
        while self._until is None or self.clock() < self._until:
            signs = _Signs(patience, heard, self.clock, self._reopen_at())
            try:
                for event in self._streamed(after, signs) if is_streaming else self._listed(after, signs):
                    if event.id > after:
                        after = event.id
                        yield event
                        if event.kind in LAST_KINDS:
                            return
                if self.job().state in OVER:
                    yield from (event for event in self._listed(after, signs) if event.id > after)
                    return
                self._link.time.sleep(POLL_S)
            except _Reopen:
                continue
            except NoStream:
                is_streaming = False
            except Unanswered as failed:
                # A proxy that keeps the stream back lets its status through, and then nothing.
                silent = silent + 1 if signs.count == 1 else 0
                is_streaming = is_streaming and silent < SILENT_STREAMS
                try:
                    patience.wait(failed)
                except FarmUnreachable:  # no time is left
                    return

    def _streamed(self, after: int, signs: _Signs) -> Iterator[EventTold]:
        left_s = DEAD_S if self._until is None else max(self._until - self.clock(), 0.1)
        timeout_s = min(DEAD_S, left_s)
        for sent in self._link.stream(f"{self._path}/events", last_id=after, heard=signs.heard, timeout_s=timeout_s):
            if sent.data:
                yield self._link.parsed(f"GET {self._path}/events", sent.data, EventTold)

    def _reopen_at(self) -> float | None:
        """When a stream is to be opened anew, as its last read may not outlast the time that is left."""
        if self._until is None:
            return None
        early = self._until - KEEPALIVE_S
        return early if early > self.clock() else self._until

    def _listed(self, after: int, signs: _Signs) -> list[EventTold]:
        patience = self._link.patience("what happened to the job", None, self._until)
        headers = {"Last-Event-ID": str(after)}
        answer = self._link.call("GET", f"{self._path}/events", patience=patience, headers=headers)
        signs.heard()
        return self._link.read(answer, EventsTold).events


class Looks:
    """Now and then a look at the place of a Job that waits in the queue."""

    def __init__(self, follower: Follower, job: JobTold, queued: Callable[[QueuePlace], None] | None) -> None:
        self._follower, self._queued = follower, queued
        self._is_queued = job.state is JobState.QUEUED
        self._looked = follower.clock()
        self._tell(job)

    def watch(self, event: EventTold) -> None:
        """One of its events."""
        if event.kind in ("submitted", "requeued"):
            self._is_queued = True
        elif event.kind == "granted":
            self._is_queued = False

    def heard(self) -> None:
        """The farm gave a sign of life."""
        now = self._follower.clock()
        if self._is_queued and self._queued and now - self._looked >= LOOK_S:
            self._looked = now
            with contextlib.suppress(FarmUnreachable):
                self._tell(self._follower.job(limit_s=0.0))

    def _tell(self, job: JobTold) -> None:
        if self._queued and job.queue is not None:
            self._queued(job.queue)


class _Reopen(Exception):
    """The stream is to be opened anew, for the time that is left."""


class _Signs:
    """Signs of life in one try."""

    def __init__(
        self, patience: Patience, heard: Callable[[], None], clock: Callable[[], float], reopen_at: float | None
    ) -> None:
        self._patience, self._heard, self._clock, self._reopen_at = patience, heard, clock, reopen_at
        self.count = 0

    def heard(self) -> None:
        """One more."""
        self.count += 1
        self._patience.heard()
        self._heard()
        if self._reopen_at is not None and self._clock() >= self._reopen_at:
            raise _Reopen
