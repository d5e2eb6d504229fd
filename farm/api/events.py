"""Events of a Job as they happen, as server-sent events: one poller asks the store for all who listen.

A client that lost its connection comes back with Last-Event-ID and misses nothing. One that takes too little is sent
away, and comes back in the same way; the farm never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Send

from farm import domain, schemas
from farm.api import asked
from farm.api.auth import Anyone, sees
from farm.api.problems import TooMany
from farm.api.services import Farm
from farm.errors import FarmError
from farm.store import events, jobs
from farm.store.db import Store
from farm.store.queue import TERMINAL

router = APIRouter(tags=["jobs"])
log = logging.getLogger(__name__)

POLL_S = 0.25
KEEPALIVE_S = 15.0
PLACES = 500  # who may listen at once
BACKLOG = 256  # events that a slow client may be behind
PAGE = 1000
MOST_AT_ONCE = 10_000  # events of one JSON answer
_LAST = frozenset(map(str, TERMINAL))  # the kinds after which nothing happens to a Job
_SHAPES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": schemas.EventsTold,
        "description": "The events so far as JSON, or all as a stream that ends after the last",
        "content": {
            "text/event-stream": {  # as OpenAPI 3.2 describes each event; its data is an EventTold
                "schema": {
                    "type": "object",
                    "required": ["id", "event", "data"],
                    "properties": {word: {"type": "string"} for word in ("id", "event", "data")},
                }
            }
        },
    }
}


class _Stream(EventSourceResponse):
    """A stream that gives its place back the moment that its client has gone."""

    async def stream_response(self, send: Send) -> None:
        """Send all of it."""
        assert isinstance(self.body_iterator, AsyncGenerator)
        async with contextlib.aclosing(self.body_iterator):
            await super().stream_response(send)


class Listener:
    """Who listens to one Job: what has happened since and was not sent yet; None: no more will come."""

    def __init__(self, job_id: str, last: int) -> None:
        self.job_id, self.last = job_id, last
        self.goodbye = ""
        self.waiting: asyncio.Queue[domain.Event | None] = asyncio.Queue(BACKLOG + 1)

    def offer(self, event: domain.Event) -> None:
        """Take an event to send, if it is new."""
        if self.goodbye or event.id <= self.last:
            return
        if self.waiting.qsize() >= BACKLOG:
            self.dismiss("too slow: reconnect with Last-Event-ID")
            return
        self.last = event.id
        self.waiting.put_nowait(event)

    def dismiss(self, why: str) -> None:
        """Send no more."""
        if not self.goodbye:
            self.goodbye = why
            self.waiting.put_nowait(None)


class Hub:
    """Asks the store what happened, once for all listeners of this process, and only while there are some."""

    def __init__(self, store: Store, *, places: int = PLACES) -> None:
        self._store, self._places = store, places
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self._poller: asyncio.Task[None] | None = None
        self._is_closed = False
        self.taken = 0  # of the places

    @property
    def listeners(self) -> int:
        """How many listen to what happens now."""
        return sum(map(len, self._listeners.values()))

    @property
    def is_polling(self) -> bool:
        """Whether the store is asked again and again."""
        return self._poller is not None and not self._poller.done()

    def admit(self) -> None:
        """Raise TooMany where nobody more can listen."""
        if self._is_closed or self.taken >= self._places:
            seen = "is stopping" if self._is_closed else f"has {self._places} listeners, as many as it serves"
            raise TooMany(f"The farm cannot stream events: it {seen}. Try again, or ask for JSON.")

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """One of the places for listeners, for as long as the answer takes."""
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    @contextlib.contextmanager
    def listening(self, job_id: str, last: int) -> Iterator[Listener]:
        """Listen to what happens to a Job after the event `last`."""
        listener = Listener(job_id, last)
        self._listeners[job_id].add(listener)
        if self._is_closed:
            listener.dismiss("the farm is stopping")
        elif not self.is_polling:
            self._poller = asyncio.get_running_loop().create_task(self._poll())
        try:
            yield listener
        finally:
            self._listeners[job_id].discard(listener)
            if not self._listeners[job_id]:
                del self._listeners[job_id]

    def close(self) -> None:
        """Send every listener away: the server stops."""
        self._is_closed = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.dismiss("the farm is stopping")

    async def ended(self) -> None:
        """Wait for the poller's end."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def _poll(self) -> None:
        while self._listeners:
            seen = {job_id: min(one.last for one in group) for job_id, group in self._listeners.items()}
            try:
                found = await asyncio.to_thread(events.after, self._store, seen, PAGE)
            except FarmError as error:  # a database that is away comes back
                log.warning("events could not be read, trying again: %s", error)
                found = []
            for event in found:
                for listener in tuple(self._listeners.get(event.job_id, ())):
                    listener.offer(event)
            if len(found) < PAGE:
                await asyncio.sleep(POLL_S)


@router.get("/jobs/{job_id}/events", response_model=None, responses=_SHAPES)
async def job_events(
    job_id: asked.JobId,
    token: Anyone,
    farm: Farm,
    request: Request,
    last_event_id: asked.LastEventId = None,
    accept: Annotated[str, Header()] = "",
) -> Response:
    """What happens to a Job: as server-sent events until its end, or as JSON what happened so far."""
    job = await asyncio.to_thread(jobs.get_job, farm.store, job_id, project=sees(token))
    last = last_event_id or 0
    if "application/json" in accept.lower() and "text/event-stream" not in accept.lower():
        found = await asyncio.to_thread(events.after, farm.store, {job.id: last}, MOST_AT_ONCE)
        return JSONResponse(schemas.EventsTold(events=[_told(one) for one in found]).model_dump(mode="json"))
    hub: Hub = request.app.state.hub
    hub.admit()
    return _Stream(_stream(hub, farm.store, job, last), headers={"X-Accel-Buffering": "no"})


async def _stream(hub: Hub, store: Store, job: domain.Job, last: int) -> AsyncGenerator[bytes, None]:
    with hub.place():
        while True:
            page = await asyncio.to_thread(events.after, store, {job.id: last}, PAGE)
            for event in page:
                yield _line(event)
                last = event.id
                if event.kind in _LAST:
                    return
            if len(page) < PAGE:
                break
        if job.state in TERMINAL:  # it was over before we looked, so that all it had was sent
            return
        with hub.listening(job.id, last) as listener:
            async with contextlib.aclosing(_live(listener)) as lines:
                async for line in lines:
                    yield line


async def _live(listener: Listener) -> AsyncGenerator[bytes, None]:
    while True:
        try:
            async with asyncio.timeout(KEEPALIVE_S):
                event = await listener.waiting.get()
        except TimeoutError:
            yield format_sse_event(comment="still here")
            continue
        if event is None:
            yield format_sse_event(comment=listener.goodbye)
            return
        yield _line(event)
        if event.kind in _LAST:
            return


def _line(event: domain.Event) -> bytes:
    return format_sse_event(data_str=_told(event).model_dump_json(), event=event.kind, id=str(event.id))


def _told(event: domain.Event) -> schemas.EventTold:
    return schemas.EventTold(
        id=event.id, job=event.job_id, run=event.run_id, at=event.at, kind=event.kind, data=dict(event.data)
    )
