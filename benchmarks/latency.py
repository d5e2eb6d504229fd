"""From a request until an agent is asked to measure, on a warm board, one Job at a time.

Each trip follows two measurements of the bare way to a board, by the code that a worker uses: an exec of `true`, which
is the SSH round trip that is subtracted from the trip's total, and an agent's start, which is only shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from benchmarks import lab, standin
from benchmarks.tables import Row, below, middle, ms, p95, progress
from farm import agent, boarding, settings
from farm.bundle import agent_hash
from farm.transport import Transport, reach

LIMIT_MS = 60.0
UNCOUNTED = 2  # trips of each farm, first: caches fill
PAUSE_S = 0.2  # what follows a Job's end is not the next one's business
STEPS = {  # kinds of events on the way, and what was done until each of them
    "submitted": "request sent, received, checked by the API",
    "granted": "→ Job stored, dispatcher awake",
    "begun": "→ round: board assigned and granted; message sent and received",
    "connect": "→ Run begun, all of it read by the worker",
    "hello": "→ connection found alive, files found there, agent started (see last row)",
    "measure": "→ `measure` asked",
}


class Wire:
    """The bare way to a board, over a warm connection of our own."""

    def __init__(self, boards: standin.Boards, folder: Path) -> None:
        self._settings = settings.load({"data_dir": str(folder), "known_hosts": str(boards.known_hosts)}, {})
        self._board = boards.board("wire0")
        self._runner = asyncio.Runner()
        self._stack = contextlib.AsyncExitStack()
        self._token = 0

    def __enter__(self) -> Wire:
        self._transport: Transport = self._runner.run(self._open())
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    async def _open(self) -> Transport:
        transport = await self._stack.enter_async_context(reach(self._board, self._settings))
        self._zip = await boarding.push_agent(transport)
        return transport

    def true_ms(self) -> float:
        """The SSH round trip: an exec of `true`."""

        async def ask() -> None:
            await self._transport.run(["true"], timeout_s=30.0)

        return self._timed_ms(ask)

    def agent_ms(self) -> float:
        """An agent's start, until it said hello and answered a ping."""
        self._token += 1
        terms = agent.Terms("f", self._token, 30.0, "b", "python3", "python3", self._zip, agent_hash())
        stack = contextlib.AsyncExitStack()

        async def start() -> None:
            await stack.enter_async_context(agent.start(self._transport, "wire0", terms))

        took_ms = self._timed_ms(start)
        self._runner.run(stack.aclose())
        return took_ms

    def _timed_ms(self, action: Callable[[], Awaitable[None]]) -> float:
        async def timed() -> float:
            started = time.perf_counter()
            await action()
            return (time.perf_counter() - started) * 1e3

        return self._runner.run(timed())


@dataclass(frozen=True, slots=True)
class Trip:
    """One Job on its way to `measure`."""

    total_ms: float
    ssh_ms: float
    agent_ms: float
    steps_ms: dict[str, float]


def rows(labs: Sequence[lab.Lab], boards: standin.Boards, wire: Wire, jobs: int) -> Iterator[Row]:
    """A column for each farm; they take turns."""
    trips: list[list[Trip]] = [[] for _ in labs]
    for number in range(UNCOUNTED + jobs):
        for place in lab.turned(range(len(labs)), number):
            trips[place].append(_trip(labs[place], boards, wire))
        progress(f"latency: {number + 1} of {UNCOUNTED + jobs}")
    found = [some[UNCOUNTED:] for some in trips]
    yield ("request → `measure`, median", *_shown(found, lambda trip: trip.total_ms), "–", "")
    yield ("request → `measure`, P95", *(ms(p95([trip.total_ms for trip in some])) for some in found), "–", "")
    yield ("SSH round trip (an exec of `true`), median", *_shown(found, lambda trip: trip.ssh_ms), "–", "")
    above = [middle(trip.total_ms - trip.ssh_ms for trip in some) for some in found]
    yield below("**above the SSH round trip, median**", above, LIMIT_MS)
    for kind, text in STEPS.items():
        yield (text, *(ms(middle(trip.steps_ms[kind] for trip in some)) for some in found), "–", "")
    yield ("an agent's start alone, by the same code", *_shown(found, lambda trip: trip.agent_ms), "–", "")


def _shown(found: Sequence[Sequence[Trip]], figure: Callable[[Trip], float]) -> Iterator[str]:
    return (ms(middle(map(figure, some))) for some in found)


def _trip(one: lab.Lab, boards: standin.Boards, wire: Wire) -> Trip:
    ssh_ms, agent_ms = wire.true_ms(), wire.agent_ms()
    boards.forget()
    wall_ns, started_ns = time.time_ns(), time.monotonic_ns()
    job = one.submit()
    seen = boards.next("measure", one.services.prefix)
    one.wait_done(job)
    total_ms = (seen.t_ns - started_ns) / 1e6
    at_ms = {event["kind"]: _since_ms(event["at"], wall_ns) for event in reversed(one.events(job))}
    at_ms["measure"] = total_ms
    marks = [0.0, *(at_ms[kind] for kind in STEPS)]
    steps_ms = dict(zip(STEPS, (after - before for before, after in pairwise(marks)), strict=True))
    time.sleep(PAUSE_S)
    return Trip(total_ms, ssh_ms, agent_ms, steps_ms)


def _since_ms(at: str, wall_ns: int) -> float:
    return datetime.fromisoformat(at).timestamp() * 1e3 - wall_ns / 1e6
