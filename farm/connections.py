"""Warm connections: the way to a board stays open between Runs, so that the next one starts at once.

All belong to one event loop. A connection is used by one lease at a time, and is closed where anything went wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from farm.domain import Board
from farm.errors import FarmError
from farm.settings import Settings
from farm.transport import Ask, Transport, find_python, reach

LOOK_S = 5.0  # longest wait for a sign of life of a warm connection


@dataclass(slots=True)
class _Warm:
    key: str
    transport: Transport
    python: str
    way: contextlib.AsyncExitStack
    idle_since: float


class Connections:
    """The open ways to boards; `warm_s` 0 keeps none."""

    def __init__(self, settings: Settings, *, warm_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._warm_s, self._clock = warm_s, clock
        self._idle: dict[str, _Warm] = {}

    @contextlib.asynccontextmanager
    async def reach(self, board: Board, ask: Ask | None = None) -> AsyncIterator[tuple[Transport, str]]:
        """The way to a board, and the interpreter there; kept open afterwards where nothing went wrong.

        Raises what `transport.reach` and `find_python` raise.
        """
        way = await self._take(board) or await self._open(board, ask)
        try:
            yield way.transport, way.python
        except BaseException:
            await _close(way)
            raise
        if self._warm_s > 0 and board.name not in self._idle:
            way.idle_since = self._clock()
            self._idle[board.name] = way
        else:
            await _close(way)

    async def tidy(self) -> None:
        """Close what nobody has used for long."""
        old = [name for name, way in self._idle.items() if self._clock() - way.idle_since > self._warm_s]
        await asyncio.gather(*(_close(self._idle.pop(name)) for name in old))

    async def close(self) -> None:
        """Close all."""
        idle = list(self._idle.values())
        self._idle.clear()
        await asyncio.gather(*(_close(way) for way in idle))

    def count(self) -> int:
        """How many ways are open and idle."""
        return len(self._idle)

    async def _take(self, board: Board) -> _Warm | None:
        way = self._idle.pop(board.name, None)
        if way is None:
            return None
        try:
            if way.key == _key(board):
                async with asyncio.timeout(LOOK_S):
                    await way.transport.has("agents", 0)
                return way
        except (FarmError, TimeoutError):
            pass  # it died while it was idle: a fresh one says why, if that does not work either
        except BaseException:
            await _close(way)
            raise
        await _close(way)
        return None

    async def _open(self, board: Board, ask: Ask | None) -> _Warm:
        async with contextlib.AsyncExitStack() as stack:
            transport = await stack.enter_async_context(reach(board, self.settings, ask=ask))
            python, _ = await find_python(transport, board)
            return _Warm(_key(board), transport, python, stack.pop_all(), self._clock())


async def _close(way: _Warm) -> None:
    with contextlib.suppress(FarmError, OSError):  # it is given up anyway
        await way.way.aclose()


def _key(board: Board) -> str:
    """What the way depends on: all of the inventory entry."""
    return repr(replace(board, facts={}))
