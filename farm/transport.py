"""What a Transport is: how to reach one board, push files to it and speak with the agent there.

One file a kind in `transports/`: `ssh.py`, `local.py`. Each has `connect` (see Connect), an async context manager whose
value is a Transport, and `OPTIONS`: what a board's `options` in inventory.yaml may hold. `reach` picks the kind.
A Transport is used by one lease at a time. All paths are below `home`, benchfarm's folder on the board.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from farm_agent import plugins, wire

from farm.domain import Board
from farm.errors import BoardRefused, InputError
from farm.settings import Settings

MAX_OUTPUT_BYTES = 1 << 20  # of stdout, and of stderr, that `run` gives back
MAX_LINE_BYTES = wire.MAX_LINE_BYTES + (64 << 10)  # the agent's own bound comes first, with a better message
READ_BYTES = 256 << 10
TAIL_BYTES = 4096
KILL_GRACE_S = 5.0  # from SIGTERM to SIGKILL: the agent puts its knobs back in that time
OLDEST_PYTHON = (3, 8)

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) while a push runs."""

Ask = Callable[[str, str], bool]
"""Called on first contact with (host, "ssh-ed25519 SHA256:..."): shall this host key be pinned?"""

Read = Callable[[int], Awaitable[bytes]]
"""Up to that many bytes of a program's output, as soon as there are any; nothing at its end."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder on the board; `mtime_s` is the board's own clock."""

    name: str
    size_bytes: int
    mtime_s: float
    is_folder: bool


class Channel(Protocol):
    """One running program on the board, spoken with in lines."""

    async def send(self, line: str) -> None:
        """Write one line. Raises ConnectionLost where nobody reads any more."""

    def lines(self) -> AsyncIterator[bytes]:
        """Its stdout, line by line without the newline; ends with it. Waiting for a line may be cancelled and resumed.

        A last line that was cut off before its newline is dropped: its writer died in the middle of it.
        Raises ConnectionLost when the path breaks, BoardRefused for a line over MAX_LINE_BYTES.
        """

    async def close_stdin(self) -> None:
        """End of file for the program: its word to clean up and end."""

    async def wait(self, timeout_s: float) -> int | None:
        """Its exit status (negative: signal), or None where it still runs after `timeout_s`. Read `lines` first."""

    async def kill(self) -> None:
        """End it: end of file and SIGTERM at once, SIGKILL after KILL_GRACE_S, and the path to it is closed."""

    def stderr_tail(self) -> str:
        """The last 4 kB of its stderr."""


class Transport(Protocol):
    """A way to one board that is open now."""

    name: str  # "ssh", "local": the file's name
    home: str  # absolute path of benchfarm's folder on the board
    default_python: str  # what runs the agent where the board names no interpreter

    async def run(self, argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        """Run a short program to its end: (exit status, stdout, stderr), each at most 1 MiB, the rest thrown away.

        An unknown program is status 127, one that may not be run 126. Raises BoardRefused after `timeout_s`.
        """

    async def start(self, argv: Sequence[str]) -> Channel:
        """Start a long-lived program; its end of stdin comes at the latest when this Transport goes."""

    async def has(self, path: str, size_bytes: int) -> bool:
        """True where `path` (below `home`) is a file of that size. Its content is hashed by the agent before use."""

    async def push(
        self, source: Path, path: str, *, mode: int = 0o644, sha256: str = "", progress: Progress | None = None
    ) -> None:
        """Put a file at `path` below `home`: written aside, checked by size and sha256, then renamed into place.

        `sha256` is what the bytes that are sent must hash to ("": not checked); what lies on the board is hashed by
        the agent before use. Raises DiskFull before the first byte where it cannot fit, ConnectionLost, BoardRefused.
        """

    async def remove(self, path: str) -> None:
        """Remove a file or folder below `home`; nothing happens where there is none."""

    async def touch(self, path: str) -> None:
        """Mark a file or folder below `home` as used now: `evict` takes the least recently used first."""

    async def entries(self, path: str) -> list[Entry]:
        """What lies in a folder below `home`, sorted by name; empty where there is no such folder."""

    async def free_bytes(self) -> int:
        """Free disk space for this user below `home`."""


class Connect(Protocol):
    """What `connect` of each kind is."""

    def __call__(
        self, board: Board, settings: Settings, *, ask: Ask | None = None
    ) -> AbstractAsyncContextManager[Transport]:
        """The way to a board, open as long as the context. `ask` None: an unknown host key is an error."""


def reach(board: Board, settings: Settings, *, ask: Ask | None = None) -> AbstractAsyncContextManager[Transport]:
    """The way to a board, by the kind that its `transport` names. Raises InputError where there is no such kind."""
    try:
        module = plugins.load("farm.transports", board.transport)
    except KeyError as error:
        raise InputError(f"Board {board.name!r} cannot be reached: {error.args[0]}. Correct its `transport`.") from None
    except ImportError as error:
        raise InputError(
            f"Transport {board.transport!r} of board {board.name!r} is absent: {error}. "
            "Install it with: pip install 'benchfarm[farm]'."
        ) from None
    return cast(Connect, module.connect)(board, settings, ask=ask)


def check_options(board: Board, known: Mapping[str, str]) -> Mapping[str, Any]:
    """A board's options. Raises InputError for one that its transport does not know."""
    for name in board.options:
        if name not in known:
            raise InputError(
                f"Board {board.name!r} has the option {name!r}, which transport {board.transport!r} does not know; "
                f"known: {', '.join(sorted(known)) or 'none'}. Correct it in inventory.yaml."
            )
    return board.options


async def find_python(transport: Transport, board: Board) -> tuple[str, str]:
    """The board's interpreter as (absolute path, version). Raises BoardRefused: there is none, too old or broken."""
    name = board.python or transport.default_python
    code = "import sys; print(sys.executable); print('.'.join(map(str, sys.version_info[:3])))"
    # Python 2 knows -E -s -S too: it shall answer, and be refused for its age.
    status, out, err = await transport.run([name, "-E", "-s", "-S", "-c", code], timeout_s=30.0)
    advice = "Install Python 3.8 or newer there, or name one as the board's `python` in inventory.yaml."
    if status in (126, 127):
        seen = _last_line(err) or f"exit status {status}"
        raise BoardRefused(f"Board {board.name!r} cannot run {name!r}, which the agent needs: {seen}. {advice}")
    lines = out.decode(errors="replace").splitlines()
    if status != 0 or len(lines) < 2:
        seen = _last_line(err) or _last_line(out) or "nothing was printed"
        raise BoardRefused(
            f"Python {name!r} on board {board.name!r} does not work: exit status {status}, {seen}. {advice}"
        )
    if len(lines) > 2:
        raise BoardRefused(
            f"Board {board.name!r} prints at login, before any program does, which spoils what the agent says; seen: "
            f"{lines[0][:80]!r}. Let its shell's start-up file (such as ~/.bashrc) print for interactive shells only."
        )
    path, version = lines
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_PYTHON:
        raise BoardRefused(f"Python {path!r} on board {board.name!r} is too old: {version}. {advice}")
    return path, version


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1][:200].rstrip(".") if lines else ""


class LineReader:
    """A program's output as lines, in bounded memory. Its state outlives a cancelled wait, unlike a generator's."""

    def __init__(self, read: Read, board: str) -> None:
        self._read = read
        self._board = board
        self._pending = bytearray()
        self._ready: deque[bytes] = deque()

    def __aiter__(self) -> LineReader:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            block = await self._read(READ_BYTES)
            if not block:
                raise StopAsyncIteration
            *whole, rest = block.split(b"\n")
            if whole:
                whole[0] = bytes(self._pending) + whole[0]
                self._pending.clear()
                self._ready.extend(whole)
            self._pending += rest
            if len(self._pending) > MAX_LINE_BYTES:
                raise BoardRefused(
                    f"A program on board {self._board!r} sent a line of over {MAX_LINE_BYTES} bytes: "
                    f"{bytes(self._pending[:60])!r}... The agent never does; see what else writes to its output."
                )
        return self._ready.popleft()


class Tail:
    """The last bytes of an output that nobody else reads, or reads any more."""

    def __init__(self) -> None:
        self._kept = b""

    async def fill(self, read: Read) -> None:
        """Read to the end."""
        while block := await read(READ_BYTES):
            self._kept = (self._kept + block)[-TAIL_BYTES:]

    def text(self) -> str:
        """What was kept."""
        return self._kept.decode(errors="replace")


async def collect(read: Read) -> bytes:
    """An output to its end, of which the first MAX_OUTPUT_BYTES are kept."""
    kept = bytearray()
    while block := await read(READ_BYTES):
        kept += block[: MAX_OUTPUT_BYTES - len(kept)]
    return bytes(kept)


async def discard(read: Read) -> None:
    """Throw an output away to its end: a program that cannot write does not end, and its end is not heard of."""
    while await read(READ_BYTES):
        pass


async def end_tasks(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they are over."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
