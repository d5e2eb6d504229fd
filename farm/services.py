"""The long-lived services of a farm: API with dispatcher and deliveries, and worker. `farm up` runs them all."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import celery.worker
import uvicorn
from celery import Celery

from farm import channels, dispatch
from farm.api.app import Server, Services, create_app
from farm.deliver import Deliveries
from farm.domain import Board
from farm.errors import FarmError
from farm.settings import Settings
from farm.store import boards
from farm.store.db import Store
from farm.worker import CeleryPost, Hands, celery_app, queue_of, register

ROUND_S = 2.0
TRIM_EVERY_S = 600.0
GRACE_S = 5  # for open requests, when the API ends

ENDS_S = 5.0  # for Celery, once nothing is under way

log = logging.getLogger(__name__)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


@contextlib.contextmanager
def rounds(
    store: Store, app: Celery, settings: Settings, *, now: Callable[[], datetime] = now
) -> Iterator[dispatch.Rounds]:
    """A dispatcher at work for as long as the block."""
    dispatcher = dispatch.Dispatcher(
        store,
        CeleryPost(app),
        ttl_s=settings.lease_ttl_s,
        cool_down_s=settings.cool_down_s,
        rng=random.Random(),
    )
    thread = dispatch.Rounds(dispatcher, every_s=ROUND_S, now=now)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()
        thread.join(30.0)


@contextlib.contextmanager
def deliveries(store: Store, settings: Settings, environ: dict[str, str]) -> Iterator[None]:
    """Notices are delivered for as long as the block. Raises InputError where notifiers.yaml has mistakes."""
    found = channels.load(settings.notifiers, environ) if settings.notifiers else ()
    thread = Deliveries(store, found, now=now)
    thread.start()
    try:
        yield
    finally:
        thread.stop()
        thread.join(30.0)


@contextlib.contextmanager
def trimmed_cache(store: Store, settings: Settings, *, every_s: float = TRIM_EVERY_S) -> Iterator[None]:
    """The local copies of blobs in a bucket are kept within their limit for as long as the block."""
    ended = threading.Event()

    def trim() -> None:
        while not ended.is_set():
            try:
                freed_bytes = store.blobs.trim(settings.blobs_cache_bytes)
            except FarmError as error:  # a cache that is too large is no reason to stop
                log.warning("the cache of blobs was not trimmed: %s", error)
            else:
                if freed_bytes:
                    log.info("%d bytes of cached blobs were removed from %s", freed_bytes, settings.blobs_dir)
            ended.wait(every_s)

    thread = threading.Thread(target=trim, name="cache trimmer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30.0)


def remember_boards(store: Store, inventory: tuple[Board, ...]) -> None:
    """The inventory's Boards are the farm's; what they last answered stays."""
    for board in inventory:
        boards.save_board(store, board, now())


def serve_api(store: Store, settings: Settings, kick: Callable[[], None], *, started: Callable[[str], None]) -> None:
    """Serve the API until SIGINT or SIGTERM; `started` is told its URL once it listens."""
    app = create_app(Services(store, settings, kick, now))
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
        h11_max_incomplete_event_size=64 << 10,
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises anew the signal that ended it
        _Server(config, started).run()


class _Server(Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[str], None]) -> None:
        super().__init__(config)
        self._told = started

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._told(f"http://{host}:{port}" if ":" not in host else f"http://[{host}]:{port}")


class Worker:
    """A Celery worker in this process: consumes its site's queue with a pool of threads."""

    def __init__(self, store: Store, settings: Settings, app: Celery, kick: Callable[[], None]) -> None:
        self.hands, self._kick = Hands(store, settings, site=settings.site, slots=settings.slots, kick=kick), kick
        register(app, self.hands)
        self._controller = celery.worker.WorkController(
            app=app,
            hostname=f"{settings.site}@{self.hands.me.id.replace(':', '-')}",
            pool_cls="threads",
            concurrency=settings.slots,
            queues=[queue_of(settings.site)],
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            loglevel="WARNING",
        )
        self._drainer = threading.Thread(target=self._drain_when_asked, name="drainer", daemon=True)
        self._ended = threading.Event()

    def run(self) -> None:
        """Work until `drain` or `stop`; what is under way when it is drained is finished first."""
        self.hands.start()
        self._kick()  # there are slots for what waits
        self._drainer.start()
        try:
            self._controller.start()
            self._controller.blueprint.join()  # `drain` waits for the pool on a thread of its own
        finally:
            self._ended.set()
            self.hands.stop()

    def drain(self) -> None:
        """Finish what is under way, take nothing new, end."""
        self.hands.drain()
        self._controller.stop()

    def stop(self) -> None:
        """Give up what is under way, so that it is tried again elsewhere, and end."""
        self.hands.keeper.lose_all()
        self.drain()

    def _drain_when_asked(self) -> None:
        while not self._ended.is_set():
            if self.hands.drain_asked.wait(1.0):
                log.warning("asked to drain: finishing what is under way, taking nothing new")
                self.drain()
                return


def _end_for_sure(worker: Worker) -> None:
    """Once nothing is under way any more, end this process: Celery would wait for ever for a broker that is gone."""
    while worker.hands.busy():
        time.sleep(0.2)
    time.sleep(ENDS_S)
    log.warning("Celery does not end, which it should where the broker answers; ending without it")
    worker.hands.stop()
    os._exit(0)


def run_worker(store: Store, settings: Settings, app: Celery) -> None:
    """A worker until SIGTERM or SIGINT, which drain it; a second one gives up what is under way."""
    with trimmed_cache(store, settings), rounds(store, app, settings) as dispatcher:
        worker = Worker(store, settings, app, dispatcher.kick)
        heard: list[int] = []

        def end(number: int, frame: FrameType | None) -> None:
            heard.append(number)
            action = worker.drain if len(heard) == 1 else worker.stop
            threading.Thread(target=action, daemon=True).start()
            threading.Thread(target=_end_for_sure, args=(worker,), daemon=True).start()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        worker.run()


__all__ = [
    "Worker",
    "celery_app",
    "deliveries",
    "remember_boards",
    "rounds",
    "run_worker",
    "serve_api",
    "trimmed_cache",
]
