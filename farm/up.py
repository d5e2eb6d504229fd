"""`farm up`: the whole farm on one machine in one process tree. Killed in any way, it leaves nothing running.

API, dispatcher and deliveries live in this process; a worker, a Redis and virtual boards are children. Without any
redis-server the worker lives in this process too, and Celery's in-process transport carries its messages.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from farm import broker, services
from farm.domain import Board, BoardState, Role
from farm.errors import Conflict
from farm.settings import PREFIX, Settings
from farm.store import boards, tokens
from farm.store.db import Store
from farm.virtual import VirtualBoards
from farm.worker import celery_app

WORKER_ENDS_S = 30.0
ME = "farm up"

Say = Callable[[str], None]


def up(store: Store, settings: Settings, inventory: tuple[Board, ...], *, virtual: int, hot: int, say: Say) -> None:
    """Run the farm until SIGINT or SIGTERM. Raises Conflict where one runs already with this data folder."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_alone(settings.data_dir))
        url = stack.enter_context(broker.running(settings.redis_url, settings.data_dir / "broker"))
        started = stack.enter_context(_virtual_boards(settings, virtual, hot)) if virtual else ()
        _remember(store, inventory, started)
        token = admin_token(store, settings.data_dir)
        app = celery_app(url)
        stack.enter_context(services.trimmed_cache(store, settings))
        stack.enter_context(services.deliveries(store, settings, dict(os.environ)))
        dispatcher = stack.enter_context(services.rounds(store, app, settings))
        if url.startswith(broker.MEMORY):
            stack.enter_context(_worker_within(services.Worker(store, settings, app, dispatcher.kick)))
        else:
            stack.enter_context(_worker_process(settings.model_copy(update={"redis_url": url}), say))

        def ready(address: str) -> None:
            say(f"The farm is up at {address}   (API {address}/api/v1)")
            names = [board.name for board in (*inventory, *started)]
            say(f"boards: {', '.join(names)}; database {settings.shown()['database_url']}; {_told(url, settings)}")
            say(f"Sign in:  farm login {address} --token-stdin < {token}   (or, as this user: farm login --local)")
            say("Then:     farm submit MODEL --on SELECTOR --wait        Ctrl-C ends the farm; what was queued stays.")

        services.serve_api(store, settings, dispatcher.kick, started=ready)
        say("ending: what is under way is tried again at the next start")


def admin_token(store: Store, folder: Path) -> Path:
    """The file with the first admin's token, for this user only; made where there is none."""
    path = folder / "admin.token"
    if not path.exists():
        _, secret = tokens.create(
            store, name="admin", role=Role.ADMIN, project=None, created_by=ME, expires_at=None, now=services.now()
        )
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
    return path


def environment(settings: Settings) -> dict[str, str]:
    """The environment in which a child has these very settings; a password stays out of the list of processes."""
    given = {key: value for key, value in settings if value is not None}
    words = {
        PREFIX + key.upper(): os.pathsep.join(map(str, value)) if isinstance(value, tuple) else str(value)
        for key, value in given.items()
    }
    return {**{name: value for name, value in os.environ.items() if name != "FARM_CONFIG"}, **words}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise Conflict(
                f"A farm is up already with data folder '{folder}': process {lock.read().strip() or 'unknown'}. "
                "Use that one, end it, or name another folder with --data-dir."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextlib.contextmanager
def _virtual_boards(settings: Settings, count: int, hot: int) -> Iterator[tuple[Board, ...]]:
    started = VirtualBoards(settings.data_dir / "virtual", count, hot=hot)
    started.start()
    try:
        started.pin(settings.known_hosts)
        yield started.boards()
    finally:
        started.stop()


def _remember(store: Store, inventory: tuple[Board, ...], virtual: tuple[Board, ...]) -> None:
    """The boards of this start are in the pool; virtual ones of an earlier start are not."""
    services.remember_boards(store, (*inventory, *virtual))
    there = {board.name for board in (*inventory, *virtual)}
    for status in boards.statuses(store):
        name, now = status.board.name, services.now()
        if status.board.is_virtual and name not in there and status.state is not BoardState.RETIRED:
            boards.set_state(store, name, BoardState.RETIRED, note="not started any more", by=ME, now=now)
        elif status.board.is_virtual and name in there and status.state is BoardState.RETIRED:
            boards.set_state(store, name, BoardState.READY, note="", by=ME, now=now)


@contextlib.contextmanager
def _worker_within(worker: services.Worker) -> Iterator[None]:
    thread = threading.Thread(target=worker.run, name="worker")
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(WORKER_ENDS_S)


@contextlib.contextmanager
def _worker_process(settings: Settings, say: Say) -> Iterator[None]:
    """A worker that ends with us, however we end: its stdin is ours to hold open. One that dies is started again."""
    ended = threading.Event()
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-P", "-m", "farm", "worker", "--until-eof"]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, env=environment(settings), start_new_session=True)
        processes[:] = [process]
        return process

    def watch() -> None:
        process = processes[0]
        while not ended.is_set():
            status = process.wait()
            if not ended.wait(1.0):
                say(f"the worker ended (exit status {status}); starting it again")
                process = start()

    start()
    watcher = threading.Thread(target=watch, name="worker watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        process = processes[0]
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(WORKER_ENDS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        watcher.join(5.0)


def _told(url: str, settings: Settings) -> str:
    if url.startswith(broker.MEMORY):
        return f"1 worker with {settings.slots} slots in this process, as there is no redis-server"
    kind = "a Redis of its own" if settings.redis_url is None else "Redis"
    return f"1 worker with {settings.slots} slots, {kind}"
