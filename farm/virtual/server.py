"""The door of a virtual board: an SSH server on loopback with SFTP and real programs, for one key and one user.

No password, no terminal, no agent, X11 or port forwarding. A program gets the session's input until that ends; when its
channel or connection goes, it has GRACE_S to clean up after the end of its input, then it and all below it are killed.
When a board's last connection is gone, so is everything that still runs on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import asyncssh

from farm.virtual.processes import Processes

GRACE_S = 3.0
_BLOCK_BYTES = 64 << 10


def user_name() -> str:
    """Who may log in: whoever runs this."""
    return pwd.getpwuid(os.getuid()).pw_name


class Door:
    """One board's server and its sessions."""

    def __init__(
        self, name: str, home: Path, path: str, client_key: asyncssh.SSHKey, processes: Processes, wake: asyncio.Event
    ) -> None:
        self.name, self.home = name, home
        self.client_key = client_key
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self._processes, self._wake = processes, wake
        self._sessions: set[asyncio.Task[None]] = set()
        self._sweeps: set[asyncio.Task[None]] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None
        user = user_name()
        self._environment = {
            "HOME": str(home), "PATH": path, "USER": user, "LOGNAME": user, "SHELL": "/bin/sh", "LANG": "C.UTF-8",
        }  # fmt: skip

    async def listen(self, host_key: asyncssh.SSHKey) -> int:
        """Start; returns the port."""
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Connection(self),
            server_host_keys=[host_key],
            process_factory=self._open,
            sftp_factory=lambda channel: _Files(channel, self.home),
            encoding=None,
            config=None,
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            allow_pty=False,
            agent_forwarding=False,
            x11_forwarding=False,
        )
        return self._acceptor.get_port()

    async def close(self) -> None:
        """End all: no more connections, and no program lives on."""
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()
        for connection in list(self.connections):
            connection.abort()
            await connection.wait_closed()
        while tasks := self._sessions | self._sweeps:
            await asyncio.wait(tasks)

    def left(self) -> None:
        """A connection is gone; after the last one, and once its programs had their time, nothing runs on."""
        if not self.connections:
            _keep(asyncio.create_task(self._sweep()), self._sweeps)

    async def _sweep(self) -> None:
        if self._sessions:
            await asyncio.wait(self._sessions)
        if not self.connections:
            await self._processes.kill(lambda: self._processes.strays(self.name))

    def _open(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        # A task of ours outlives the connection; asyncssh would cancel its own when that is lost.
        _keep(asyncio.create_task(self._serve(process)), self._sessions)

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        if process.subsystem is not None:  # no other than sftp
            process.exit(127)
            return
        argv = ["/bin/sh", "-c", process.command] if process.command is not None else ["/bin/sh"]
        try:
            child = await asyncio.create_subprocess_exec(
                *argv,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                cwd=self.home,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:  # its home was removed, or this machine has no more processes
            process.stderr.write(f"virtual board: {error}\n".encode())
            process.exit(126)
            return
        self._processes.add(child.pid, self.name)
        self._wake.set()
        try:
            await self._attend(process, child)
        finally:
            self._processes.reaped(child.pid)

    async def _attend(self, process: asyncssh.SSHServerProcess[bytes], child: Process) -> None:
        feed = asyncio.create_task(_feed(process, child))
        gone = asyncio.create_task(process.wait_closed())
        done = asyncio.create_task(_finish(process, child))
        try:
            await asyncio.wait((gone, done), return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                with contextlib.suppress(asyncssh.Error, OSError):
                    _tell(process, done.result())
            else:
                await self._end(child)
        finally:
            for task in (feed, gone, done):
                task.cancel()
            await asyncio.gather(feed, gone, done, return_exceptions=True)

    async def _end(self, child: Process) -> None:
        assert child.stdin is not None
        child.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await child.wait()
        await self._processes.kill(lambda: self._processes.tree(child.pid))
        await child.wait()


class _Connection(asyncssh.SSHServer):
    """One log-in."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._door.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.connections.discard(self._connection)
        self._door.left()

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == user_name() and key.public_data == self._door.client_key.public_data


class _Files(asyncssh.SFTPServer):
    """SFTP as the present user; relative paths are below the board's home."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], home: Path) -> None:
        super().__init__(channel)
        self._home = os.fsencode(home)

    def map_path(self, path: bytes) -> bytes:
        return os.path.join(self._home, path)  # noqa: PTH118 - bytes

    def realpath(self, path: bytes) -> bytes:
        return os.path.realpath(self.map_path(path))


def _keep(task: asyncio.Task[None], among: set[asyncio.Task[None]]) -> None:
    among.add(task)
    task.add_done_callback(among.discard)


async def _feed(process: asyncssh.SSHServerProcess[bytes], child: Process) -> None:
    """The session's input and signals to the program."""
    assert child.stdin is not None
    with contextlib.suppress(asyncssh.Error, OSError):
        while True:
            try:
                block = await process.stdin.read(_BLOCK_BYTES)
            except asyncssh.SignalReceived as received:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, getattr(signal, f"SIG{received.signal}", signal.SIGTERM))
                continue
            if not block:
                break
            child.stdin.write(block)
            await child.stdin.drain()
    child.stdin.close()


async def _finish(process: asyncssh.SSHServerProcess[bytes], child: Process) -> int:
    """Its output to the session, to its end; returns its exit status."""
    await asyncio.gather(_drain(child.stdout, process.stdout), _drain(child.stderr, process.stderr))
    return await child.wait()


async def _drain(reader: asyncio.StreamReader | None, writer: asyncssh.SSHWriter[bytes]) -> None:
    assert reader is not None
    with contextlib.suppress(asyncssh.Error, OSError):
        while block := await reader.read(_BLOCK_BYTES):
            writer.write(block)
            await writer.drain()


def _tell(process: asyncssh.SSHServerProcess[bytes], status: int) -> None:
    if status < 0:
        process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
    else:
        process.exit(status)
