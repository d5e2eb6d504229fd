"""The parts of a farm that is to be hurt: programs, a Redis, a PostgreSQL and boards, which a test can take away."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from farm import domain
from tests import servers, sshd
from tests.faults.conftest import processes_of

PATIENCE_S = 90.0  # other tests may hold this machine's one lock for a while


def until(is_so: Callable[[], Any], what: str, *, story: Callable[[], str] = str, within_s: float = PATIENCE_S) -> Any:
    """Wait for something to be so; its value. `story` is told where it does not come."""
    deadline = time.monotonic() + within_s
    while not (value := is_so()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}\n{story()}"
        time.sleep(0.03)
    return value


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A program of the farm, in a session of its own; it never outlives the tests."""

    def __init__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        *,
        folder: Path | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        before = before or servers._as(None, signal.SIGKILL)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=out, stderr=out, env=dict(environ), cwd=folder or log.parent,
                preexec_fn=before,
            )  # fmt: skip
        self.name, self.log, self.pid = log.stem, log, self._process.pid

    def send(self, number: int) -> None:
        """A signal: SIGKILL, SIGSTOP, SIGCONT, SIGTERM."""
        self._process.send_signal(number)

    def wait(self, within_s: float = 60.0) -> int:
        """Its exit status."""
        status = self._process.wait(within_s)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        return status

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and gone."""
        self.send(signal.SIGKILL)
        self.wait()


class Redis:
    """A Redis of one farm alone, on a port that stays the same."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        words = {"port": self.port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "no"}
        given = (str(word) for key, value in words.items() for word in (f"--{key}", value))
        self._argv = [servers._redis_program(), *given]
        self._log = folder / "redis.log"
        self.start()

    def start(self) -> None:
        """Start it, empty."""
        self.process = Process(self._argv, {"PATH": os.defpath}, self._log)
        until(lambda: servers._redis_answers(self.url), f"Redis answers; see {self._log}")

    def stop(self) -> None:
        """Kill it with all that it holds."""
        self.process.kill()


class Postgres:
    """The PostgreSQL of `servers.postgres`, stopped as by a crash, and started again with what it had committed."""

    def __init__(self, url: str, log: Path) -> None:
        self._home = Path(url.rpartition("host=")[2])
        self._argv = _words(self._pid())
        self._log = log

    def stop(self) -> None:
        """SIGQUIT: it gives every connection up and writes nothing more."""
        pid = self._pid()
        os.kill(pid, signal.SIGQUIT)
        until(lambda: not _words(pid), "PostgreSQL ends")

    def start(self, stack: contextlib.ExitStack) -> None:
        """Start it, which recovers; it ends with `stack`."""
        before = servers._as(servers._unprivileged(), signal.SIGQUIT)
        process = Process(self._argv, servers._environment(self._home), self._log, before=before, folder=self._home)
        stack.callback(process.kill)
        until(lambda: servers._postgres_answers(self._home), f"PostgreSQL answers; see {self._log}")

    def _pid(self) -> int:
        return int((self._home / "data" / "postmaster.pid").read_text().split()[0])


def _words(pid: int) -> list[str]:
    """The command line of a process; nothing where it is gone."""
    with contextlib.suppress(OSError):
        return [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if word]
    return []


class BoardHost:
    """A board: an SSH server with a home of its own, behind a proxy that can cut, freeze and delay."""

    def __init__(self, name: str, folder: Path, stack: contextlib.ExitStack) -> None:
        self._server = stack.enter_context(sshd.asyncssh_server(folder))
        self.proxy = stack.enter_context(sshd.proxy(self._server.port))
        self._server.pin(self.proxy.port)
        self.name, self.home = name, self._server.home / ".benchfarm"
        self.known_hosts = self._server.known_hosts
        self.board = self._server.board(name, port=self.proxy.port, python=sys.executable)

    def agents(self) -> list[int]:
        """The agents that run here now."""
        return [pid for pid, words in processes_of(self.home).items() if "supervise" in words]

    def at(self, name: str, port: int) -> domain.Board:
        """A board as this one, but for its name and its port."""
        host = self.board.address.rpartition(":")[0]
        return replace(self.board, name=name, address=f"{host}:{port}")


class PoweredBoard:
    """A board whose power can be cut, with all that runs on it, and that comes back as it was."""

    def __init__(self, name: str, folder: Path, stack: contextlib.ExitStack) -> None:
        self._name, self._folder, self._stack = name, folder, stack
        self._port = 0
        folder.mkdir()
        self.home, self.known_hosts = folder / "home" / ".benchfarm", folder / "known_hosts"

    def power_on(self) -> domain.Board:
        """Its SSH server listens."""
        told = self._folder / "port"
        told.unlink(missing_ok=True)
        script = Path(__file__).with_name("board_process.py")
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        argv = [sys.executable, "-P", str(script), str(self._folder), str(self._port)]
        self._process = Process(argv, environ, self._folder / "log")
        self._stack.callback(self.power_off)
        until(lambda: told.exists() or not self._process.is_alive(), "the board listens")
        self._port = int(told.read_text())
        user = pwd.getpwuid(os.getuid()).pw_name
        options = {"keys": [str(self._folder / "client_key")]}
        address = f"{user}@127.0.0.1:{self._port}"
        home, python = str(self.home), sys.executable
        return domain.Board(self._name, transport="ssh", address=address, home=home, python=python, options=options)

    def power_off(self) -> None:
        """Everything on it is gone at once."""
        self._process.kill()
        until(self._is_dark, "nothing runs on the board")

    def _is_dark(self) -> bool:
        """Whether nothing runs on it; what does is killed."""
        running = processes_of(self.home)
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not running
