"""Stand-in boards: one SSH server whose agent answers at once, so that what is left is the farm's own time.

One process, one port; who logs in is the board, so each board has a connection of its own. It runs no program: what the
farm asks by exec (an interpreter, `probe`, `touch`, `true`) is answered from memory, and `measure` says what a real
agent said of one Block of the runtime `fake` on this machine (`record`). SFTP says that every file is there.

    python -m benchmarks.standin FOLDER     FOLDER holds canned.json and gets the keys; words on stdin: go N
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import itertools
import json
import logging
import queue
import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
from farm_agent import wire

from farm import bundle, domain, hostkeys

MODEL = b'{"latency_us": 50}'
MODEL_NAME = "instant.fake"
PYTHON = "/usr/bin/python3"
START_S = 60.0
ALIVE_S = 5.0  # as agents do
BUSY_S = 120.0  # at most, that somebody else measures here
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """Something that a stand-in board saw: when an agent was started, or handed its first Block."""

    what: str  # agent, measure
    board: str
    token: int
    t_ns: int  # CLOCK_MONOTONIC of this machine


def dies_with_us(number: int = signal.SIGKILL) -> Callable[[], None]:
    """What a child does first: it asks to be ended with its parent."""
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, number)


class Boards:
    """The running stand-in, seen from the benchmark."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder, self._process = folder, process
        self.seen: queue.SimpleQueue[Seen] = queue.SimpleQueue()
        assert process.stdout is not None
        self._lines = process.stdout
        self.port = int(self._lines.readline() or 0)
        if not self.port:
            raise SystemExit("the stand-in boards did not start")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._lines:
            what, board, token, t_ns = line.split()
            self.seen.put(Seen(what, board, int(token), int(t_ns)))

    def next(self, what: str, board_prefix: str) -> Seen:
        """The next that is seen of this farm's boards."""
        while True:
            try:
                seen = self.seen.get(timeout=START_S)
            except queue.Empty:
                raise SystemExit(f"no board saw {what!r} within {START_S:g} s: the farm does not work") from None
            if seen.what == what and seen.board.startswith(board_prefix):
                return seen

    def forget(self) -> None:
        """What was seen until now is of no interest."""
        while not self.seen.empty():
            self.seen.get()

    def count(self, what: str, board_prefix: str) -> int:
        """How often that was seen of this farm's boards, since the last look."""
        found = 0
        with contextlib.suppress(queue.Empty):
            while True:
                seen = self.seen.get_nowait()
                found += seen.what == what and seen.board.startswith(board_prefix)
        return found

    def hold(self) -> None:
        """Whoever is asked to measure from now on measures until `go`."""
        self._say("go 0")

    def go(self, first: int | None) -> None:
        """The first so many boards of each farm answer at once; None: all of them."""
        self._say("go" if first is None else f"go {first}")

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def board(self, name: str, **more: Any) -> domain.Board:
        """A board of that name."""
        options = {"keys": [str(self.folder / "client_key")]}
        return domain.Board(
            name, transport="ssh", address=f"{name}@127.0.0.1:{self.port}", home="/home/bench/.benchfarm",
            options=options, **more,
        )  # fmt: skip

    @property
    def known_hosts(self) -> Path:
        """Where its host key is pinned."""
        return self.folder / "known_hosts"

    def facts(self) -> dict[str, Any]:
        """What every one of its boards answers to `probe`."""
        probe: dict[str, Any] = json.loads((self.folder / "canned.json").read_text())["probe"]
        return probe


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Boards]:
    """The stand-in boards for as long as the block."""
    folder.mkdir()
    (folder / "canned.json").write_text(json.dumps(record(folder / "recorded")))
    host_key, client_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    for name, key in (("host_key", host_key), ("client_key", client_key)):
        key.write_private_key(folder / name)
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.standin", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, preexec_fn=dies_with_us(),
    ) as process:  # fmt: skip
        try:
            boards = Boards(folder, process)
            hostkeys.pin(boards.known_hosts, "127.0.0.1", boards.port, host_key)
            yield boards
        finally:
            process.kill()


def record(home: Path) -> dict[str, Any]:
    """What the real agent says here: its `probe`, and the lines of one Block of the runtime `fake`."""
    sha256 = hashlib.sha256(MODEL).hexdigest()
    place = home / "artifacts" / sha256 / MODEL_NAME
    place.parent.mkdir(parents=True)
    place.write_bytes(MODEL)
    plan = wire.Plan(runtime="fake", duration_s=0.2, processes=1, warmup_s=0.0)
    block = wire.Block(0, "a", -1, plan, sha256, MODEL_NAME, {MODEL_NAME: sha256})
    words = {
        "--home": str(home), "--farm": "recorded", "--token": "1", "--ttl-s": "60", "--holder": "benchmark",
        "--python": sys.executable, "--root": "/",
    }  # fmt: skip
    argv = [sys.executable, "-I", "-S", str(bundle.bundle()), "measure", *(w for pair in words.items() for w in pair)]
    asked = wire.dumps({"do": "measure", "block": wire.as_dict(block)}) + "\n"
    give_up = time.monotonic() + BUSY_S
    while (events := _events(argv, asked))[-1].get("code") == "busy" and time.monotonic() < give_up:
        time.sleep(1.0)  # of all that measures on this machine, one does at a time
    head = next((event for event in events if event["event"] == "block"), None)
    if head is None or head["outcome"] != "OK":
        raise SystemExit(f"the agent did not measure here, so nothing can be recorded: {events[-1]}")
    said = [event for event in events if event["event"] in ("stage", "note", "block", "column", "done")]
    return {"probe": events[0]["probe"], "block": said, "agent": bundle.agent_hash()}


def _events(argv: list[str], asked: str) -> list[dict[str, Any]]:
    """What an agent that is asked this says, up to the end of its Block."""
    events: list[dict[str, Any]] = []
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            agent.stdin.write(asked)
            agent.stdin.flush()
        for line in agent.stdout:
            events.append(wire.loads(line, "event"))
            if events[-1]["event"] in ("done", "error", "end"):
                break
        with contextlib.suppress(BrokenPipeError):
            agent.stdin.close()
    return events


class _Server:
    """The boards, in their own process."""

    def __init__(self, folder: Path) -> None:
        canned = json.loads((folder / "canned.json").read_text())
        self._folder, self._probe, self._agent = folder, canned["probe"], canned["agent"]
        self._block: list[dict[str, Any]] = canned["block"]
        self._first: int | None = None  # so many boards of each farm answer at once
        self._changed = asyncio.Event()
        self.sizes = {f"{self._agent}.zip": bundle.bundle().stat().st_size, MODEL_NAME: len(MODEL)}

    async def serve(self) -> None:
        """Listen, say on which port, and work until the end of stdin."""
        acceptor = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[str(self._folder / "host_key")], process_factory=self._exec,
            authorized_client_keys=_authorized(self._folder / "client_key"), encoding=None, config=None,
            sftp_factory=lambda channel: _Files(channel, self.sizes), backlog=1000, login_timeout=120,
        )  # fmt: skip
        _say(acceptor.get_port())
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while words := (await reader.readline()).split():
            self._first = int(words[1]) if len(words) > 1 else None
            self._changed.set()
            self._changed = asyncio.Event()

    async def _held(self, board: str, alive: Callable[[], None]) -> None:
        """Wait until this board may answer; say now and then that it is alive."""
        number = int("".join(itertools.takewhile(str.isdigit, reversed(board)))[::-1])
        while self._first is not None and number >= self._first:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ALIVE_S):
                    await self._changed.wait()
                continue
            alive()

    async def _exec(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        with contextlib.suppress(asyncssh.Error, OSError):
            started_ns = time.monotonic_ns()
            words = shlex.split(process.command or "")
            argv = words[5:] if words[:2] == ["exec", "/bin/sh"] else words
            process.stderr.write(b"benchfarm: pid 4194304\n")
            if "measure" in argv:
                await self._measure(process, argv, started_ns)
            elif "probe" in argv:
                process.stdout.write(json.dumps(self._probe).encode() + b"\n")
            elif "-c" in argv:
                process.stdout.write(f"{PYTHON}\n3.11.2\n".encode())
            process.exit(0)

    async def _measure(self, process: asyncssh.SSHServerProcess[bytes], argv: list[str], started_ns: int) -> None:
        token = argv[argv.index("--token") + 1]
        board = process.get_extra_info("username")
        _say("agent", board, token, started_ns)

        def say(**event: Any) -> None:
            process.stdout.write(wire.dumps(event).encode() + b"\n")

        def clock() -> dict[str, int]:
            return {"t_ns": time.monotonic_ns(), "unix_ns": time.time_ns()}

        say(
            event="hello", wire=wire.VERSION, measure=wire.MEASURE_VERSION, agent=self._agent, token=int(token),
            pid=1, python=PYTHON, probe=self._probe, **clock(),
        )  # fmt: skip
        is_first = True
        while line := await process.stdin.readline():
            asked = wire.loads(line, "do")
            if asked["do"] == "ping":
                say(event="pong", n=asked["n"], **clock())
            elif asked["do"] == "measure":
                if is_first:
                    _say("measure", board, token, time.monotonic_ns())
                is_first = False
                await self._held(board, alive=lambda: say(event="alive"))
                for event in self._block:
                    say(**{**event, "block": asked["block"]["index"]})
            elif asked["do"] == "bye":
                break
        say(event="end", reason="eof")


class _Files(asyncssh.SFTPServer):
    """SFTP on boards that have everything already."""

    def __init__(self, channel: Any, sizes: dict[str, int]) -> None:
        super().__init__(channel)
        self._sizes = sizes

    def realpath(self, path: bytes) -> bytes:
        return b"/home/bench" if path == b"." else path

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        size = self._sizes.get(Path(path.decode()).name)
        mode = (stat.S_IFDIR if size is None else stat.S_IFREG) | 0o755
        return asyncssh.SFTPAttrs(size=size or 4096, permissions=mode, atime=0, mtime=0)


def _authorized(client_key: Path) -> asyncssh.SSHAuthorizedKeys:
    public = asyncssh.read_private_key(client_key).export_public_key().decode()
    return asyncssh.import_authorized_keys(public)


def _say(*words: object) -> None:
    print(*words, flush=True)


if __name__ == "__main__":
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # who is killed while it measures is told of no more
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_Server(Path(sys.argv[1])).serve())
