"""The agent on a board, seen from here: started over a Transport, handed Blocks, read back as BlockResults.

Everything the board says is checked before it is believed: versions, sizes, types, the count of every column.
"""

from __future__ import annotations

import asyncio
import binascii
import time
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from farm_agent import wire
from numpy.typing import NDArray

from farm import domain, units
from farm.errors import AgentCrashed, AgentMismatch, BoardBusy, BoardRefused, ConnectionLost, LeaseLost
from farm.transport import Channel, Transport

HELLO_S = 60.0  # a cold Python, a probe of every runtime, and a predecessor that restores its knobs
SILENCE_S = 20.0  # the agent says `alive` every 5 s
COLUMN_LIMIT = 50_000_000  # samples of one metric of one Block

Watch = Callable[[dict[str, Any]], None]
"""Called with each event of the agent that a person may want to see."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which lease, and with which programs, the agent works on the board."""

    farm: str  # the farm's id and the board's name: by what the board's guard compares tokens
    token: int
    ttl_s: float
    holder: str
    python: str  # interpreter for the agent
    subject_python: str  # interpreter for the subject: the one that has the runtimes
    zip_path: str  # of the agent, absolute on the board
    agent_hash: str
    root: str = "/"

    def argv(self, home: str) -> list[str]:
        """The command that starts the agent."""
        words = {
            "--home": home,
            "--farm": self.farm,
            "--token": str(self.token),
            "--ttl-s": f"{self.ttl_s:g}",
            "--holder": self.holder,
            "--python": self.subject_python,
            "--root": self.root,
        }
        return [self.python, "-I", "-S", self.zip_path, "measure", *(word for pair in words.items() for word in pair)]


@dataclass(slots=True)
class Agent:
    """One agent that said hello and now waits for Blocks."""

    board: str
    channel: Channel
    hello: dict[str, Any]
    _events: asyncio.Queue[dict[str, Any] | BaseException]
    _pings: int = 0
    anchors: list[tuple[int, int, int, int]] = field(default_factory=list)  # sent, board t_ns, board unix_ns, received

    @property
    def probe(self) -> dict[str, Any]:
        """What the board said it is and can do, within this very session."""
        probe = self.hello.get("probe")
        return probe if isinstance(probe, dict) else {}

    async def measure(self, block: wire.Block, *, watch: Watch) -> domain.BlockResult:
        """Measure one Block. Raises ConnectionLost, AgentCrashed, or LeaseLost where the agent let go."""
        await self.channel.send(wire.dumps({"do": "measure", "block": wire.as_dict(block)}))
        head: dict[str, Any] | None = None
        columns = _Columns(self.board)
        while True:
            event = await self._next()
            kind = event["event"]
            if kind == "error":
                raise BoardRefused(
                    f"The agent on board '{self.board}' refused Block {block.index}: {_text(event.get('message'))}."
                    " Check the Plan with `farm probe` on that board."
                )
            if kind in ("stage", "note", "alive"):
                watch(event)
            elif kind == "block" and event.get("block") == block.index:
                head = event
            elif kind == "column" and event.get("block") == block.index:
                columns.add(event)
            elif kind == "done" and event.get("block") == block.index and head is not None:
                return _block_result(self.board, block, head, columns.finish(head.get("columns")))
            elif kind not in ("pong", "hello"):
                raise _garbled(self.board, f"an unexpected {kind!r} event")

    async def anchor(self) -> None:
        """Exchange one ping: an anchor between this machine's clock and the board's."""
        self._pings += 1
        sent = time.monotonic_ns()
        await self.channel.send(wire.dumps({"do": "ping", "n": self._pings}))
        while True:
            event = await self._next()
            if event["event"] == "pong" and event.get("n") == self._pings:
                self.anchors.append((sent, int(event["t_ns"]), int(event["unix_ns"]), time.monotonic_ns()))
                return

    async def renew(self, ttl_s: float) -> None:
        """Let the agent know that the lease lives on."""
        await self.channel.send(wire.dumps({"do": "renew", "ttl_s": ttl_s}))

    async def cancel(self) -> None:
        """End the Block in hand; it comes back as CANCELLED."""
        await self.channel.send(wire.dumps({"do": "cancel"}))

    async def _next(self) -> dict[str, Any]:
        """The next event. Raises ConnectionLost where there is none for too long, and what `_event` raises."""
        try:
            async with asyncio.timeout(SILENCE_S):  # wait_for may swallow a cancellation (Python 3.11)
                return await self._event()
        except TimeoutError:
            raise ConnectionLost(
                f"The agent on board '{self.board}' has said nothing for {SILENCE_S:.0f} s; every 5 s were promised."
                " Check the board's network and power, then measure again."
            ) from None

    async def _event(self) -> dict[str, Any]:
        event = await self._events.get()
        if isinstance(event, BaseException):
            raise event
        if event["event"] == "end":
            raise _ended(self.board, event)
        return event


@asynccontextmanager
async def start(transport: Transport, board: str, terms: Terms) -> AsyncIterator[Agent]:
    """An agent on the board for the length of the block; ended and gone from the board on the way out.

    Raises AgentMismatch, BoardBusy, LeaseLost (a token that is too old), AgentCrashed, ConnectionLost.
    """
    channel = await transport.start(terms.argv(transport.home))
    events: asyncio.Queue[dict[str, Any] | BaseException] = asyncio.Queue(maxsize=256)
    reader = asyncio.create_task(_read(channel, board, events))
    try:
        agent = Agent(board, channel, {}, events)
        agent.hello = await _hello(agent, terms)
        await agent.anchor()
        yield agent
    finally:
        try:
            await channel.close_stdin()
            if await channel.wait(10.0) is None:
                await channel.kill()
        except (ConnectionLost, OSError):
            await channel.kill()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def _hello(agent: Agent, terms: Terms) -> dict[str, Any]:
    try:
        async with asyncio.timeout(HELLO_S):
            while (event := await agent._event())["event"] not in ("hello", "error"):
                pass
    except TimeoutError:
        raise AgentCrashed(
            f"The agent on board '{agent.board}' said no hello within {HELLO_S:.0f} s."
            f" Its last words: {agent.channel.stderr_tail()[-400:] or 'none'}. Try `farm probe {agent.board}`."
        ) from None
    if event["event"] == "error":
        message = _text(event.get("message"))
        if event.get("code") == "busy":
            raise BoardBusy(f"Board '{agent.board}' is in use: {message}")
        if event.get("code") == "refused_token":
            raise LeaseLost(f"Board '{agent.board}' refused our lease token {terms.token}: {message}")
        raise BoardRefused(f"The agent on board '{agent.board}' cannot work: {message}")
    for name, ours in (("wire", wire.VERSION), ("measure", wire.MEASURE_VERSION), ("agent", terms.agent_hash)):
        if event.get(name) != ours:
            raise AgentMismatch(
                f"The agent on board '{agent.board}' says {name} = {event.get(name)!r}; this coordinator has {ours!r}."
                " Someone changed the file on the board, or two coordinators share its folder."
                f" Remove {terms.zip_path} there and try again."
            )
    return event


async def _read(channel: Channel, board: str, events: asyncio.Queue[dict[str, Any] | BaseException]) -> None:
    try:
        async for line in channel.lines():
            event = wire.loads(line, "event")
            await events.put(event)
        status = await channel.wait(5.0)
        await events.put(
            AgentCrashed(
                f"The agent on board '{board}' ended in the middle of its work (exit status {status})."
                f" Its last words: {channel.stderr_tail()[-400:] or 'none'}."
                " The board is checked before its next job; see `farm probe`."
            )
        )
    except wire.WireError as error:
        await events.put(_garbled(board, str(error)))
    except (ConnectionLost, BoardRefused) as error:
        await events.put(error)


def _ended(board: str, event: dict[str, Any]) -> Exception:
    reason = event.get("reason")
    if reason in ("ttl", "superseded", "refused"):
        return LeaseLost(
            f"The agent on board '{board}' let go: {reason}. Someone else may hold the board now; nothing is written."
        )
    return AgentCrashed(
        f"The agent on board '{board}' ended: {reason!r}. Someone stopped it there, or the board shuts down."
    )


def _garbled(board: str, seen: str) -> AgentCrashed:
    return AgentCrashed(
        f"The agent on board '{board}' broke the protocol: {seen}."
        " Another program may write to its channel; check the account's shell start-up files."
    )


def _text(value: object, limit: int = 2000) -> str:
    """Printable text from the board: control characters out, length bounded."""
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text[:limit]


class _Columns:
    """Parts of columns on their way to becoming Samples."""

    def __init__(self, board: str) -> None:
        self.board = board
        self.parts: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {}

    def add(self, event: dict[str, Any]) -> None:
        try:
            metric, part, n = str(event["metric"]), int(event["part"]), int(event["n"])
            units.unit_of(metric)
            parts = self.parts.setdefault(metric, [])
            if part != len(parts) or not 0 <= n <= wire.COLUMN_PART_SAMPLES:
                raise ValueError(f"part {part} with {n} samples after {len(parts)} parts")
            if sum(len(t_ns) for t_ns, _ in parts) + n > COLUMN_LIMIT:
                raise ValueError(f"more than {COLUMN_LIMIT} samples")
            parts.append((_unpack(event["t"], "q", n), _unpack(event["v"], event["v_type"], n)))
        except (KeyError, TypeError, ValueError, zlib.error, binascii.Error) as error:
            raise _garbled(self.board, f"column {event.get('metric')!r}: {error}") from None

    def finish(self, expected: object) -> tuple[domain.Samples, ...]:
        if expected is not None and expected != len(self.parts):
            raise _garbled(self.board, f"{len(self.parts)} columns came, {expected} were announced")
        return tuple(
            domain.Samples(metric, np.concatenate([t for t, _ in parts]), np.concatenate([v for _, v in parts]))
            for metric, parts in self.parts.items()
        )


def _unpack(text: str, kind: str, n: int) -> NDArray[Any]:
    if kind not in ("q", "d"):
        raise ValueError(f"type {kind!r}; q or d is needed")
    inflater = zlib.decompressobj()
    raw = inflater.decompress(binascii.a2b_base64(text), n * 8 + 1)
    if len(raw) != n * 8:
        raise ValueError(f"{len(raw)} bytes for {n} samples")
    return np.frombuffer(raw, dtype="<i8" if kind == "q" else "<f8")


def _block_result(
    board: str, block: wire.Block, head: dict[str, Any], samples: tuple[domain.Samples, ...]
) -> domain.BlockResult:
    try:
        return domain.BlockResult(
            index=block.index,
            arm=block.arm,
            pair=block.pair,
            outcome=domain.Outcome(head["outcome"]),
            reasons=tuple(_reason(reason) for reason in head["reasons"]),
            stages={stage: _stage(head["stages"][stage]) for stage in wire.STAGES if stage in head["stages"]},
            facts=dict(head["facts"]),
            samples=samples,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _garbled(board, f"Block {block.index}: {error!r}") from None


def _stage(said: dict[str, Any]) -> dict[str, float | bool | None]:
    """One stage's figures by metric: numbers and absent ones only."""
    figures = {"t_ns": said["t_ns"], **said["memory"]}
    if not all(value is None or isinstance(value, int | float) for value in figures.values()):
        raise ValueError(f"a stage with figures {figures!r:.200}")
    return {str(name): value for name, value in figures.items()}


def _reason(data: dict[str, Any]) -> domain.Reason:
    blame = data.get("blame")
    return domain.Reason(_text(data["code"], 60), _text(data["text"]), blame if blame in BLAMES else None)


BLAMES: Sequence[str] = ("artifact", "input", "board", "farm")
