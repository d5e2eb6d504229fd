"""This machine as a board: programs are its own processes, files are copied.

    boards:
      - name: here
        transport: local

A program runs as a login over SSH would run it: in a session of its own, in the user's home folder, and with nothing of
the coordinator's environment (which may hold passwords) but the few variables of `ENVIRONMENT`.
Verified on a board: none yet; the tests run it for real.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import stat
import sys
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar

from farm.domain import Board
from farm.errors import BoardRefused, ConnectionLost, DiskFull
from farm.home import Pusher, Writer, check_path
from farm.settings import Settings
from farm.transport import (
    KILL_GRACE_S,
    READ_BYTES,
    Ask,
    Channel,
    Entry,
    LineReader,
    Progress,
    Tail,
    check_options,
    collect,
    discard,
    end_tasks,
)

OPTIONS: Mapping[str, str] = {}
ENVIRONMENT = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER")

T = TypeVar("T")


@contextlib.asynccontextmanager
async def connect(board: Board, settings: Settings, *, ask: Ask | None = None) -> AsyncIterator[LocalTransport]:
    """This machine as the board; every program still running on the way out is ended."""
    check_options(board, OPTIONS)
    transport = LocalTransport(board)
    try:
        yield transport
    finally:
        await transport.close()


class LocalTransport:
    """This machine, by processes and copies."""

    name = "local"
    default_python = sys.executable

    def __init__(self, board: Board) -> None:
        self._board = board.name
        self._pusher = Pusher(self, board.name)
        self._channels: list[LocalChannel] = []
        path = Path.home() / Path(board.home or "~/.benchfarm").expanduser()
        with _refused(self._board, f"make the folder {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
        self.home = str(path)

    async def close(self) -> None:
        """End of file for every program, and an end to those that do not heed it."""
        await asyncio.gather(*(channel.end() for channel in self._channels))

    async def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        """See Transport."""
        channel = await self._start(argv, drain_stderr=False)
        process = channel.process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(timeout_s):
                _, out, err = await asyncio.gather(
                    _feed(process.stdin, stdin), collect(process.stdout.read), collect(process.stderr.read)
                )
                return await process.wait(), out, err
        except TimeoutError:
            raise BoardRefused(
                f"A program on board {self._board!r} did not end within {timeout_s:g} s: {' '.join(argv)[:200]}. "
                "It was killed. See what the board is busy with."
            ) from None
        finally:
            await channel.kill()

    async def start(self, argv: Sequence[str]) -> Channel:
        """See Transport."""
        channel = await self._start(argv, drain_stderr=True)
        self._channels.append(channel)
        return channel

    async def _start(self, argv: Sequence[str], *, drain_stderr: bool) -> LocalChannel:
        loop = asyncio.get_running_loop()
        environment = {name: value for name in ENVIRONMENT if (value := os.environ.get(name)) is not None}
        with _refused(self._board, f"start {argv[0]}"):
            transport, protocol = await loop.subprocess_exec(
                lambda: SubprocessStreamProtocol(limit=READ_BYTES, loop=loop),
                # The shell gives an unknown program the status and the words that it has over SSH too.
                *("/bin/sh", "-c", 'exec "$@"', "sh", *argv),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                cwd=Path.home(),
                env=environment,
                start_new_session=True,
            )
        return LocalChannel(self._board, transport, Process(transport, protocol, loop), drain_stderr=drain_stderr)

    def _path(self, path: str) -> Path:
        return Path(self.home) / check_path(path)

    async def _do(self, what: str, action: Callable[[], T]) -> T:
        with _refused(self._board, what):
            return await asyncio.to_thread(action)

    async def push(
        self, source: Path, path: str, *, mode: int = 0o644, sha256: str = "", progress: Progress | None = None
    ) -> None:
        """See Transport."""
        await self._pusher.push(source, path, mode=mode, sha256=sha256, progress=progress)

    async def has(self, path: str, size_bytes: int) -> bool:
        """See Transport."""
        try:
            status = self._path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == size_bytes

    async def make_folder(self, path: str) -> None:
        """See home.Files."""
        await self._do(f"make the folder {path}", lambda: self._path(path).mkdir(parents=True, exist_ok=True))

    async def create(self, path: str, mode: int) -> Writer:
        """See home.Files."""

        def create() -> IO[bytes]:
            file = self._path(path).open("xb", buffering=0)
            os.fchmod(file.fileno(), mode)
            return file

        return _LocalWriter(self._board, path, await self._do(f"create {path}", create))

    async def replace(self, old: str, new: str) -> None:
        """See home.Files."""
        await self._do(f"rename {old}", lambda: self._path(old).replace(self._path(new)))

    async def remove(self, path: str) -> None:
        """See Transport."""

        def remove() -> None:
            target = self._path(path)
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    target.unlink()

        await self._do(f"remove {path}", remove)

    async def touch(self, path: str) -> None:
        """See Transport."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._path(path))

    async def entries(self, path: str) -> list[Entry]:
        """See Transport."""

        def entries() -> list[Entry]:
            found = []
            for child in sorted(self._path(path).iterdir()):
                status = child.lstat()
                found.append(Entry(child.name, status.st_size, status.st_mtime, stat.S_ISDIR(status.st_mode)))
            return found

        if not self._path(path).is_dir():
            return []
        return await self._do(f"list {path}", entries)

    async def free_bytes(self) -> int:
        """See Transport."""
        return shutil.disk_usage(self.home).free


class LocalChannel:
    """One process of this machine."""

    def __init__(
        self, board: str, transport: asyncio.SubprocessTransport, process: Process, *, drain_stderr: bool
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self._board = board
        self._transport = transport
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._lines = LineReader(process.stdout.read, board)
        self._tail = Tail()
        self._drain = asyncio.create_task(self._tail.fill(process.stderr.read)) if drain_stderr else None

    async def send(self, line: str) -> None:
        """See Channel."""
        try:
            if self.process.returncode is not None or self._stdin.is_closing():
                raise BrokenPipeError("it has ended, or its stdin was closed")
            self._stdin.write(line.encode() + b"\n")
            await self._stdin.drain()
        except OSError as error:
            raise ConnectionLost(
                f"The program on board {self._board!r} no longer reads: {error}. Try again; see `farm probe`."
            ) from None

    def lines(self) -> AsyncIterator[bytes]:
        """See Channel."""
        return self._lines

    async def close_stdin(self) -> None:
        """See Channel."""
        self._stdin.close()

    async def wait(self, timeout_s: float) -> int | None:
        """See Channel."""
        try:
            async with asyncio.timeout(timeout_s):
                status = await self.process.wait()
        except TimeoutError:
            return None
        if self._drain:  # what it said last may still be in the pipe
            await asyncio.wait({self._drain}, timeout=1.0)
        return status

    async def end(self) -> None:
        """End of file, time to clean up, then `kill`."""
        await self._end((0, signal.SIGTERM, signal.SIGKILL))

    async def kill(self) -> None:
        """See Channel."""
        await self._end((signal.SIGTERM, signal.SIGKILL))

    async def _end(self, numbers: Sequence[int]) -> None:
        tasks = [asyncio.create_task(discard(self._stdout.read))]
        try:
            self._stdin.close()
            for number in numbers:
                if self.process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self.process.pid, number)  # a session of its own: its group has its number
                    await self.wait(KILL_GRACE_S)
        finally:
            await end_tasks(*tasks, *([self._drain] if self._drain else []))
            self._transport.close()

    def stderr_tail(self) -> str:
        """See Channel."""
        return self._tail.text()


class _LocalWriter:
    """A new file of this machine."""

    def __init__(self, board: str, path: str, file: IO[bytes]) -> None:
        self._board = board
        self._path = path
        self._file = file

    async def write(self, block: bytes) -> None:
        def write() -> None:
            rest = memoryview(block)
            while rest:
                rest = rest[self._file.write(rest) :]

        with _refused(self._board, f"write {self._path}"):
            await asyncio.to_thread(write)

    async def close(self, *, sync: bool) -> None:
        if self._file.closed:
            return
        with self._file, _refused(self._board, f"write {self._path}"):
            if sync:
                await asyncio.to_thread(os.fsync, self._file.fileno())


async def _feed(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a program need not read all of its input
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.contextmanager
def _refused(board: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"The disk of board {board!r} is full: cannot {what}: {error.strerror}. Free some space there."
            ) from error
        raise BoardRefused(
            f"Board {board!r} cannot {what}: {error.strerror or error}. Check the mode and owner of the folder there."
        ) from error
