"""A board by SSH: commands over channels of one connection, files over SFTP.

    boards:
      - name: pi-3
        transport: ssh
        address: bench@192.168.1.33:22      # user and port may be left out
        options:
          keys: [~/.ssh/bench_ed25519]      # only these; else `ssh_keys` of the settings, the SSH agent, ~/.ssh/id_*

The host key has to be pinned in a file of our own (`hostkeys.py`); `farm probe NAME` shows it and asks on first
contact. ~/.ssh/config is not read. SSH hands a command line to the login shell there, so it is quoted by shlex.join and
uses nothing of that shell (sh, bash, zsh, dash, ash, fish, ...) but quotes and `exec`.
Sources: RFC 4251-4254, draft-ietf-secsh-filexfer-02, OpenSSH's PROTOCOL (statvfs, fsync, posix-rename, keepalive).
Verified on a stand-in: asyncssh's server and OpenSSH 9.2's sshd on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncssh

from farm import login
from farm.domain import Board
from farm.errors import BoardRefused, ConnectionLost, FarmError
from farm.home import Pusher
from farm.login import Link
from farm.settings import Settings
from farm.sftp import SftpFiles
from farm.transport import (
    KILL_GRACE_S,
    TAIL_BYTES,
    Ask,
    Channel,
    LineReader,
    Progress,
    Tail,
    collect,
    discard,
    end_tasks,
)

OPTIONS = login.OPTIONS
# Says its process number, then becomes the program; the login shell only has to know `exec` and quotes.
WRAP = ("/bin/sh", "-c", 'echo "benchfarm: pid $$" >&2; exec "$@"', "sh")
PID = re.compile(rb"benchfarm: pid ([0-9]+)\n")


@contextlib.asynccontextmanager
async def connect(board: Board, settings: Settings, *, ask: Ask | None = None) -> AsyncIterator[SshTransport]:
    """The board over SSH. Raises BoardUnreachable, BoardRefused, HostKeyUnknown (`ask` None or no), HostKeyChanged."""
    async with login.logged_in(board, settings, ask) as link:
        transport = SshTransport(link)
        await transport.open(board.home or "~/.benchfarm")
        try:
            yield transport
        finally:
            await transport.close()


class SshTransport(SftpFiles):
    """One open connection to a board."""

    name = "ssh"
    default_python = "python3"

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._pusher = Pusher(self, link.board)
        self._channels: list[SshChannel] = []

    async def close(self) -> None:
        """End of file for every program, and an end to those that do not heed it."""
        await asyncio.gather(*(channel.end() for channel in self._channels))
        self._sftp.exit()

    async def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        """See Transport."""
        channel = await self._start(argv, drain_stderr=False)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._link.do(f"run {argv[0]}", channel.finish(stdin))
        except TimeoutError:
            raise BoardRefused(
                f"A program on board {self._link.board!r} did not end within {timeout_s:g} s: {' '.join(argv)[:200]}. "
                "It was killed. See what the board is busy with."
            ) from None
        finally:
            await channel.kill()

    async def start(self, argv: Sequence[str]) -> Channel:
        """See Transport."""
        channel = await self._start(argv, drain_stderr=True)
        self._channels.append(channel)
        return channel

    async def _start(self, argv: Sequence[str], *, drain_stderr: bool) -> SshChannel:
        started = self._link.connection.create_process("exec " + shlex.join([*WRAP, *argv]), encoding=None)
        process = await self._link.do(f"start {argv[0]}", started)
        return SshChannel(self._link, process, drain_stderr=drain_stderr)

    async def push(
        self, source: Path, path: str, *, mode: int = 0o644, sha256: str = "", progress: Progress | None = None
    ) -> None:
        """See Transport."""
        await self._pusher.push(source, path, mode=mode, sha256=sha256, progress=progress)

    async def touch(self, path: str) -> None:
        """See Transport."""
        # SFTP can only set a time of our clock; the board's own clock is what `evict` compares.
        await self.run(["touch", "-c", self._path(path)], timeout_s=30.0)

    async def free_bytes(self) -> int:
        """See Transport."""

        found = await self.sftp_free_bytes()
        return found if found is not None else await self._free_by_df()

    async def _free_by_df(self) -> int:
        status, out, err = await self.run(["df", "-P", "-k", self.home], timeout_s=30.0)
        words = out.decode(errors="replace").strip().splitlines()[-1:]
        fields = words[0].split() if words else []
        if status != 0 or len(fields) < 4 or not fields[3].isdigit():
            raise BoardRefused(
                f"Board {self._link.board!r} does not say how much disk is free: df said {(out + err)[-200:]!r}. "
                "Install df there, or an SFTP server with statvfs such as OpenSSH's."
            )
        return int(fields[3]) * 1024


class SshChannel:
    """One program on the board."""

    def __init__(self, link: Link, process: asyncssh.SSHClientProcess[bytes], *, drain_stderr: bool) -> None:
        self._link = link
        self._process = process
        self._lines = LineReader(self._read_stdout, link.board)
        self._is_named = asyncio.Event()
        self._pid: int | None = None
        self._tail = Tail()
        self._drain = asyncio.create_task(self._tail.fill(self._read_stderr)) if drain_stderr else None

    async def _read_stdout(self, size: int) -> bytes:
        try:
            block = await self._process.stdout.read(size)
        except (asyncssh.Error, OSError) as error:
            raise self._link.lost("hear a program") from error
        if not block and self._link.is_lost() and self._process.returncode is None:
            raise self._link.lost("hear a program")
        return block

    async def _read_stderr(self, size: int) -> bytes:
        try:
            if not self._is_named.is_set():
                return await self._read_name(size)
            return await self._process.stderr.read(size)
        except (asyncssh.Error, OSError):
            return b""  # whoever reads stdout is told

    async def _read_name(self, size: int) -> bytes:
        """The first of its stderr without the line of WRAP; a shell's start-up file may have spoken before."""
        head = b""
        found = None
        while not found and len(head) < TAIL_BYTES and (block := await self._process.stderr.read(size)):
            head += block
            found = PID.search(head)
        self._is_named.set()
        if not found:
            return head
        self._pid = int(found[1])
        return head[: found.start()] + head[found.end() :] or await self._process.stderr.read(size)

    async def finish(self, stdin: bytes) -> tuple[int, bytes, bytes]:
        """Give it its whole input, and wait for its end: (exit status, stdout, stderr)."""
        _, out, err = await asyncio.gather(self._feed(stdin), collect(self._read_stdout), collect(self._read_stderr))
        await self._process.wait_closed()
        return self._status(), out, err

    async def _feed(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a program need not read all of its input
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        self._process.stdin.write_eof()

    def _status(self) -> int:
        status = self._process.returncode
        if status is None:
            raise self._link.lost("hear how a program ended")
        return status

    async def send(self, line: str) -> None:
        """See Channel."""
        try:
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
        except (asyncssh.Error, OSError) as error:
            raise self._gone(error) from error
        if self._link.is_lost():
            raise self._link.lost("speak with a program")

    def _gone(self, error: Exception) -> ConnectionLost:
        if self._link.is_lost():
            return self._link.lost("speak with a program")
        return ConnectionLost(
            f"The program on board {self._link.board!r} no longer reads: {error}. Try again; see `farm probe`."
        )

    def lines(self) -> AsyncIterator[bytes]:
        """See Channel."""
        return self._lines

    async def close_stdin(self) -> None:
        """See Channel."""
        self._process.stdin.write_eof()

    async def wait(self, timeout_s: float) -> int | None:
        """See Channel."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._process.wait_closed()
        except TimeoutError:
            return None
        if self._drain:
            await asyncio.wait({self._drain}, timeout=1.0)
        return self._status()

    async def end(self) -> None:
        """End of file, time to clean up, then `kill`."""
        await self._end(("0", "TERM", "KILL"))

    async def kill(self) -> None:
        """See Channel."""
        await self._end(("TERM", "KILL"))

    async def _end(self, signals: Sequence[str]) -> None:
        tasks = [asyncio.create_task(discard(self._read_stdout))]
        if self._drain is None:
            tasks.append(asyncio.create_task(discard(self._read_stderr)))
        try:
            await self.close_stdin()
            for name in signals:
                if self._process.returncode is None and not self._link.is_lost():
                    with contextlib.suppress(FarmError):
                        pid = await self._named() if name != "0" else None
                        if pid is not None:
                            await self._signal(name, pid)
                        await self.wait(KILL_GRACE_S)
        finally:
            await end_tasks(*tasks, *([self._drain] if self._drain else []))
            self._process.close()

    async def _signal(self, name: str, pid: int) -> None:
        # SSH has a request for this, but OpenSSH refuses it to root, and before 7.9 to everybody.
        for target in (-pid, pid):
            command = shlex.join(["kill", "-s", name, "--", str(target)])
            done = await self._link.do("end a program", self._link.connection.run(command, timeout=KILL_GRACE_S))
            if done.returncode == 0:
                break

    async def _named(self) -> int | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_GRACE_S):
                await self._is_named.wait()
        return self._pid

    def stderr_tail(self) -> str:
        """See Channel."""
        return self._tail.text()
