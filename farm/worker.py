"""The worker: a Celery app whose tasks call a verb each, and what they work with.

Celery carries `(run_id, token)` as JSON and nothing else; the truth is in SQL. One event loop, one keeper of leases and
one set of warm connections serve all tasks of a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue as queues
import secrets
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from farm import domain, execute, judge, tend
from farm.connections import Connections
from farm.errors import BrokerUnreachable, FarmError, StoreError
from farm.keeper import Keeper
from farm.settings import Settings
from farm.settle import settle
from farm.store import events, jobs, results, workers
from farm.store.db import Store

BEAT_S = 5.0
WARM_S = 600.0
GATHER_S = 0.1  # in which what Runs tell is gathered: one transaction for all of it
PROGRESS_S = 1.0  # between two events of one push, or one stage said again
MEMORY = "memory://"

log = logging.getLogger(__name__)


def celery_app(broker_url: str) -> Celery:
    """The Celery app: JSON only, no results, no remote control; one queue a site."""
    app = Celery("farm", broker=broker_url, set_as_current=False)
    options: dict[str, Any] = {"polling_interval": 0.01} if broker_url.startswith(MEMORY) else {
        "socket_timeout": 10.0, "socket_connect_timeout": 5.0, "socket_keepalive": True,
        "health_check_interval": 5,  # a worker that Redis does not answer calls again after 11 s, instead of after 51
        "max_retries": 0,  # to send a message: the dispatcher tries again, and expires leases meanwhile
    }  # fmt: skip
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=options,
        task_create_missing_queues=True,
    )
    return app


def queue_of(site: str) -> str:
    """The name of a site's Celery queue."""
    return f"farm.{site}"


class CeleryPost:
    """Messages to the workers by Celery; see dispatch.Post."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def run(self, run_id: str, token: int, site: str) -> None:
        """See Post."""
        self._send("farm.run", [run_id, token], site)

    def check(self, board: str, token: int, site: str) -> None:
        """See Post."""
        self._send("farm.check", [board, token], site)

    def judge(self, run_id: str, site: str) -> None:
        """See Post."""
        self._send("farm.judge", [run_id], site)

    def _send(self, task: str, args: list[object], site: str) -> None:
        try:
            self._app.send_task(task, args, queue=queue_of(site), retry=False)
        except (OperationalError, OSError) as error:
            raise BrokerUnreachable(
                f"The message broker did not take a message for site '{site}': {error}. Check that Redis runs and "
                "what FARM_REDIS_URL names; the dispatcher tries again."
            ) from error


class Hands:
    """What the tasks of one worker process work with: the store, one event loop, warm connections, one keeper."""

    def __init__(self, store: Store, settings: Settings, *, site: str, slots: int, kick: Callable[[], None]) -> None:
        self.store, self.settings, self._kick = store, settings, kick
        name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.me = domain.Worker(name, site, slots, datetime.now(UTC))
        self.keeper = Keeper(store)
        self._teller = _Teller(store)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="worker loop", daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()  # of ours on the loop
        self._connections = Connections(settings, warm_s=WARM_S)
        self._beat = threading.Thread(target=self._beats, name="worker beat", daemon=True)
        self._ended = threading.Event()
        self.drain_asked = threading.Event()

    def start(self) -> None:
        """Begin to live: beats, renewals, the loop."""
        workers.beat(self.store, self.me, datetime.now(UTC))
        for thread in (self._thread, self.keeper, self._teller, self._beat):
            thread.start()

    def stop(self) -> None:
        """End; what is under way is given up as if the lease were lost, so that its Job is tried again elsewhere."""
        self.keeper.lose_all()
        self._ended.set()
        self._call(self._close()).result()
        self.keeper.stop()
        self._teller.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in (self._thread, self.keeper, self._teller, self._beat):
            thread.join(10.0)
        self._loop.close()
        try:
            workers.forget(self.store, self.me.id)
        except StoreError as error:
            log.warning("the worker ends without a word to the database: %s", error)

    def drain(self) -> None:
        """Tell the dispatchers that nothing new is taken here."""
        self.me = replace(self.me, draining=True)
        try:
            workers.beat(self.store, self.me, datetime.now(UTC))
        except FarmError as error:  # then no beat is heard of us either
            log.warning("the worker drains without a word to the database: %s", error)

    def run(self, run_id: str, token: int) -> None:
        """Task: carry out a Run, judge it, move its Job on."""
        watch = self._teller.of(run_id)
        try:
            ended = self._call(
                execute.run(
                    run_id,
                    token,
                    worker=self.me.id,
                    store=self.store,
                    connections=self._connections,
                    keeper=self.keeper,
                    watch=watch,
                )
            ).result()
        except FarmError as error:  # the Run has ended; a mistake in the input, or our bug, is told
            log.warning("run %s ended: %s", run_id, error)
            ended = None if isinstance(error, StoreError) else self._found(run_id)
        self._kick()
        if ended is not None and ended.outcome is not None:
            self._teller.flush()
            if ended.outcome is domain.Outcome.OK:  # by our lease: nobody else can have moved its Job on
                self._judge(ended)
            else:
                self.judge(run_id)
                self._kick()  # its Job may be in the queue again

    def judge(self, run_id: str) -> None:
        """Task: summarize a Run that has ended, and move its Job on; nothing where that was done."""
        run = self._found(run_id)
        job = jobs.get_job(self.store, run.job_id)
        if job.state is not domain.JobState.RUNNING or results.runs_of(self.store, job.id)[-1].id != run_id:
            return
        self._judge(run)

    def _judge(self, run: domain.Run) -> None:
        judge.run(run.id, store=self.store)
        settle(run.job_id, store=self.store, cool_down_s=self.settings.cool_down_s, now=datetime.now(UTC))

    def check(self, board: str, token: int) -> None:
        """Task: look at a Board's health."""
        self._call(
            tend.check(board, token, store=self.store, connections=self._connections, keeper=self.keeper)
        ).result()
        self._kick()

    def busy(self) -> int:
        """How many Leases are held now."""
        return self.keeper.holds()

    def _found(self, run_id: str) -> domain.Run:
        return results.get_run(self.store, run_id)

    def _call(self, action: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(self._under_way(action), self._loop)

    async def _under_way(self, action: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await action
        finally:
            self._tasks.discard(task)

    async def _close(self) -> None:
        others = {task for task in self._tasks if task is not asyncio.current_task()}  # a warm connection has tasks too
        if others:
            _, late = await asyncio.wait(others, timeout=20.0)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._connections.close()
        await self._loop.shutdown_default_executor()

    def _beats(self) -> None:
        while not self._ended.wait(BEAT_S):
            try:
                if workers.beat(self.store, self.me, datetime.now(UTC)):
                    self.drain_asked.set()
                asyncio.run_coroutine_threadsafe(self._connections.tidy(), self._loop)
            except FarmError as error:
                log.warning("the worker's beat did not reach the database: %s", error)


def register(app: Celery, hands: Hands) -> None:
    """Tie the tasks to what they work with."""
    for name, task in (("farm.run", hands.run), ("farm.check", hands.check), ("farm.judge", hands.judge)):
        app.task(_logged(task), name=name)


def _logged(task: Callable[..., None]) -> Callable[..., None]:
    """A task whose own failure is told, and ends nothing else: the dispatcher picks up what is left."""

    def run(*args: Any) -> None:
        try:
            task(*args)
        except FarmError as error:
            log.warning("%s%r: %s", task.__name__, args, error)
        except Exception:  # the door of a task
            log.exception("%s%r failed; please report this", task.__name__, args)

    return run


class _Teller(threading.Thread):
    """Writes what the Runs of this process tell into the store, in its order, on a thread of its own."""

    def __init__(self, store: Store) -> None:
        super().__init__(name="teller", daemon=True)
        self._store = store
        self._waiting: queues.SimpleQueue[domain.Event | threading.Event | None] = queues.SimpleQueue()

    def of(self, run_id: str) -> execute.Watch:
        """What a Run tells its events to. What would be said again within a second is left out."""
        said: dict[tuple[str, int | None], float] = {}

        def watch(event: execute.Event) -> None:
            now = time.monotonic()
            what = (event.kind, event.block)
            is_again = event.kind in ("push", "alive") and now - said.get(what, -PROGRESS_S) < PROGRESS_S
            if event.kind == "alive" or (is_again and event.fraction != 1.0):
                return
            said[what] = now
            data = {name: value for name, value in asdict(event).items() if name != "kind" and value is not None}
            self._waiting.put(domain.Event(0, "", run_id, datetime.now(UTC), event.kind, data))

        return watch

    def flush(self) -> None:
        """Wait until all that was told until now is written."""
        done = threading.Event()
        self._waiting.put(done)
        done.wait(30.0)

    def stop(self) -> None:
        """Write what is left, and end."""
        self._waiting.put(None)

    def run(self) -> None:
        """Write until `stop`."""
        items: list[domain.Event | threading.Event | None] = []
        while None not in items:
            items = self._gathered()
            told = [item for item in items if isinstance(item, domain.Event)]
            try:
                events.tell_of_runs(self._store, told)
            except FarmError as error:  # events are worth less than the Run
                log.warning("%d events were not written: %s", len(told), error)
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()

    def _gathered(self) -> list[domain.Event | threading.Event | None]:
        """What is told from the first event on, until it is time to write, or somebody waits for that."""
        items = [self._waiting.get()]
        until = time.monotonic() + GATHER_S
        with contextlib.suppress(queues.Empty):
            while isinstance(items[-1], domain.Event):
                items.append(self._waiting.get(timeout=max(0.0, until - time.monotonic())))
        return items
