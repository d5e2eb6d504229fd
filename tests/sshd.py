"""Real SSH servers on loopback for tests, and a TCP proxy that cuts, freezes and delays what goes through it.

All are plain context managers that run in a thread of their own, so that code under test may call asyncio.run itself.
asyncssh's server needs nothing; `openssh_server` needs Debian's openssh-server and is for tests marked `system`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
import time
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from farm import domain, hostkeys
from farm.settings import Settings

T = TypeVar("T")
Children = list[tuple[asyncio.SubprocessTransport, Process]]


@dataclass(frozen=True)
class Server:
    """A running SSH server: where it listens, its host key, and a key that may log in."""

    port: int
    home: Path  # of the user who logs in (asyncssh); benchfarm's folder is `home`/.benchfarm
    host_key: asyncssh.SSHKey
    client_key: Path
    known_hosts: Path
    user: str = field(default_factory=lambda: pwd.getpwuid(os.getuid()).pw_name)

    def board(self, name: str = "pi", *, port: int = 0, **changes: Any) -> domain.Board:
        """A board that is this server, or a proxy's port in front of it."""
        values = {"home": str(self.home / ".benchfarm"), "options": {"keys": [str(self.client_key)]}, **changes}
        return domain.Board(name, transport="ssh", address=f"{self.user}@127.0.0.1:{port or self.port}", **values)

    def settings(self, **changes: Any) -> Settings:
        """Settings that know its pinned host keys."""
        return Settings(**{"known_hosts": self.known_hosts, "data_dir": self.home, **changes})

    def pin(self, port: int = 0) -> None:
        """Pin its host key, as `farm probe` does after a person agreed."""
        hostkeys.pin(self.known_hosts, "127.0.0.1", port or self.port, self.host_key)


class Background:
    """An asyncio loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, action: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there, wait for its value."""
        return asyncio.run_coroutine_threadsafe(action, self.loop).result(30)

    def close(self) -> None:
        """End its tasks, its threads and itself."""

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self.loop.shutdown_default_executor()
            await asyncio.sleep(0)

        self.call(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


def _keys(folder: Path, home: Path) -> tuple[asyncssh.SSHKey, asyncssh.SSHKey, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    client_key = asyncssh.generate_private_key("ssh-ed25519")
    path = folder / "client_key"
    client_key.write_private_key(path)
    path.chmod(0o600)
    return host_key, client_key, path


@contextlib.contextmanager
def asyncssh_server(
    folder: Path, *, home: Path | None = None, pin: bool = True, sftp: bool = True, disk_bytes: int | None = None,
    statvfs: bool = True, path: str = os.defpath, port: int = 0, host_key: asyncssh.SSHKey | None = None,
) -> Iterator[Server]:  # fmt: skip
    """asyncssh's server with SFTP and exec of real processes in `home`. Keys and known_hosts lie in `folder`.

    A stand-in for a full disk: only `disk_bytes` can be written in all. `statvfs` False: it lacks that extension.
    """
    home = home or folder / "home"
    new_key, client_key, client_path = _keys(folder, home)
    host_key = host_key or new_key
    children: Children = []

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        await _exec(process, home, path, children)

    def files(channel: Any) -> _Files:
        return _Files(channel, home, disk_bytes, statvfs)

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1", port, server_host_keys=[host_key], process_factory=serve, encoding=None,
            authorized_client_keys=asyncssh.import_authorized_keys(client_key.export_public_key().decode()),
            sftp_factory=files if sftp else None, config=None,
        )  # fmt: skip

    background = Background()
    acceptor = background.call(listen())
    try:
        server = Server(acceptor.get_port(), home, host_key, client_path, folder / "known_hosts")
        if pin:
            server.pin()
        yield server
    finally:

        async def close() -> None:
            acceptor.close()
            await acceptor.wait_closed()
            for transport, child in children:
                transport.close()
                await child.wait()

        background.call(close())
        background.close()


async def _exec(process: asyncssh.SSHServerProcess[bytes], home: Path, path: str, children: Children) -> None:
    loop = asyncio.get_running_loop()
    environment = {"HOME": str(home), "PATH": path, "USER": "bench", "SHELL": "/bin/sh"}
    transport, protocol = await loop.subprocess_exec(
        lambda: SubprocessStreamProtocol(limit=65536, loop=loop),
        *("/bin/sh", "-c", process.command or ""),
        cwd=home,
        env=environment,
        start_new_session=True,
    )
    child = Process(transport, protocol, loop)
    children.append((transport, child))
    assert child.stdin is not None
    listener = asyncio.create_task(_feed(process, child, child.stdin))
    await asyncio.gather(*(_drain(transport, number, reader, writer) for number, reader, writer in (
        (1, child.stdout, process.stdout), (2, child.stderr, process.stderr),
    )))  # fmt: skip
    status = await child.wait()
    listener.cancel()
    await asyncio.gather(listener, return_exceptions=True)
    with contextlib.suppress(OSError, asyncssh.Error):
        if status < 0:
            process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            process.exit(status)


async def _feed(process: asyncssh.SSHServerProcess[bytes], child: Process, stdin: asyncio.StreamWriter) -> None:
    """What sshd does: input and signals to the program's group; end of file when the connection ends."""
    with contextlib.suppress(asyncssh.Error, OSError):
        while True:
            try:
                block = await process.stdin.read(65536)
            except asyncssh.SignalReceived as received:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, getattr(signal, f"SIG{received.signal}"))
                continue
            if not block and not stdin.is_closing():
                stdin.close()
            if not block and process.is_closing():
                break
            if not block:  # signals may still come
                await asyncio.sleep(0.02)
                continue
            stdin.write(block)
            await stdin.drain()
    stdin.close()


async def _drain(transport: asyncio.SubprocessTransport, number: int, reader: Any, writer: Any) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
    pipe = transport.get_pipe_transport(number)
    if pipe:
        pipe.close()


class _Files(asyncssh.SFTPServer):
    """SFTP in the user's home, with a stand-in for a disk that fills up."""

    def __init__(self, channel: Any, home: Path, disk_bytes: int | None, statvfs: bool) -> None:
        super().__init__(channel)
        self._home = os.fsencode(home)
        self._left_bytes = disk_bytes
        self._statvfs = statvfs

    def map_path(self, path: bytes) -> bytes:
        return os.path.join(self._home, path)

    def realpath(self, path: bytes) -> bytes:
        return os.path.realpath(self.map_path(path))

    def write(self, file_obj: Any, offset: int, data: bytes) -> int:
        if self._left_bytes is not None:
            self._left_bytes -= len(data)
            if self._left_bytes < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(file_obj, offset, data)  # type: ignore[return-value]

    def statvfs(self, path: bytes) -> Any:
        if not self._statvfs:
            raise asyncssh.SFTPOpUnsupported("statvfs not supported")
        if self._left_bytes is not None and self._left_bytes < 0:
            return asyncssh.SFTPVFSAttrs(bsize=4096, frsize=4096)
        return super().statvfs(path)


@contextlib.contextmanager
def openssh_server(folder: Path, *, pin: bool = True) -> Iterator[Server]:
    """Debian's sshd with a configuration and keys of its own; logs in the user who runs the tests."""
    home = folder / "home"
    host_key, client_key, client_path = _keys(folder, home)
    host_path = folder / "host_key"
    host_key.write_private_key(host_path)
    host_path.chmod(0o600)
    (folder / "authorized_keys").write_bytes(client_key.export_public_key())
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {host_path}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\nUseDNS no\n"
    )
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program, "sshd is missing: apt-get install openssh-server"
    with (folder / "sshd.log").open("wb") as log:
        sshd = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log, stdin=log)
    try:
        _await_port(port, sshd)
        server = Server(port, home, host_key, client_path, folder / "known_hosts")
        if pin:
            server.pin()
        yield server
    finally:
        sshd.terminate()
        sshd.wait(10)


def _await_port(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"sshd does not listen on port {port}; exit status {server.poll()}")


class Proxy:
    """Forwards TCP to a port, until told otherwise."""

    def __init__(self, background: Background, target_port: int) -> None:
        self._background = background
        self._target_port = target_port
        self._writers: list[asyncio.StreamWriter] = []
        self._flows = asyncio.Event()
        self._flows.set()
        self._delay_s = 0.0
        self._upload_left_bytes: int | None = None
        self.port = 0

    async def listen(self) -> asyncio.Server:
        """Start."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def cut(self) -> None:
        """Break every connection now."""
        self._background.call(self._cut())

    def freeze(self) -> None:
        """Forward nothing any more, and say nothing: a cable that was pulled."""
        self._background.loop.call_soon_threadsafe(self._flows.clear)

    def delay(self, seconds: float) -> None:
        """Hold each piece back for that long."""
        self._delay_s = seconds

    def cut_after_upload(self, size_bytes: int) -> None:
        """Break every connection once that much more went towards the server."""
        self._upload_left_bytes = size_bytes

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._writers.append(there_writer)
            await asyncio.gather(
                self._pump(reader, there_writer, upload=True), self._pump(there_reader, writer, upload=False)
            )

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upload: bool) -> None:
        with contextlib.suppress(OSError):
            while block := await reader.read(65536):
                await self._flows.wait()
                await asyncio.sleep(self._delay_s)
                if upload and self._upload_left_bytes is not None:
                    self._upload_left_bytes -= len(block)
                    if self._upload_left_bytes < 0:
                        await self._cut()
                writer.write(block)
                await writer.drain()
        writer.close()


@contextlib.contextmanager
def proxy(target_port: int) -> Iterator[Proxy]:
    """A Proxy in front of a port of this machine."""
    background = Background()
    middle = Proxy(background, target_port)
    server = background.call(middle.listen())
    try:
        yield middle
    finally:
        background.loop.call_soon_threadsafe(server.close)
        middle.cut()
        background.close()
