"""Warm connections, over a real SSH server: used again, replaced where they died, closed where anything went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from farm.connections import Connections
from farm.domain import Board
from farm.errors import BoardUnreachable, FarmError
from farm.transport import Transport
from tests import sshd
from tests.farm.rounds import Clock


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    with sshd.asyncssh_server(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@asynccontextmanager
async def opened(
    server: sshd.Server, *, warm_s: float = 60.0, clock: Clock | None = None
) -> AsyncIterator[Connections]:
    """Connections that are closed in the end."""
    found = Connections(server.settings(connect_timeout_s=5.0), warm_s=warm_s, clock=clock or Clock())
    try:
        yield found
    finally:
        await found.close()
        assert found.count() == 0


async def used(connections: Connections, board: Board) -> Transport:
    """The way to a board, after a Run over it."""
    async with connections.reach(board) as (transport, python):
        assert Path(python).is_absolute()
        status, out, _ = await transport.run(["echo", "hi"], timeout_s=10)
        assert (status, out) == (0, b"hi\n")
    return transport


async def is_open(transport: Transport) -> bool:
    try:
        status, _, _ = await transport.run(["true"], timeout_s=10)
    except FarmError:
        return False
    return status == 0


def test_a_board_that_cannot_be_reached_leaves_nothing_open(server: sshd.Server, tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(server) as connections:
            board = replace(server.board(), address=server.board().address.rpartition(":")[0] + ":1")
            with pytest.raises(BoardUnreachable):
                await used(connections, board)
            assert connections.count() == 0

    asyncio.run(story())


def test_the_second_run_uses_the_connection_of_the_first(server: sshd.Server) -> None:
    async def story() -> None:
        async with opened(server) as connections:
            first = await used(connections, server.board())
            assert connections.count() == 1
            assert await used(connections, server.board()) is first
            assert await used(connections, server.board("other")) is not first
            assert connections.count() == 2

    asyncio.run(story())


def test_without_warmth_each_run_opens_and_closes_its_own(server: sshd.Server) -> None:
    async def story() -> None:
        async with opened(server, warm_s=0.0) as connections:
            first = await used(connections, server.board())
            assert connections.count() == 0
            assert not await is_open(first)

    asyncio.run(story())


def test_a_connection_that_died_while_it_was_idle_is_replaced(server: sshd.Server) -> None:
    async def story(middle: sshd.Proxy) -> None:
        async with opened(server) as connections:
            board = server.board(port=middle.port)
            first = await used(connections, board)
            await asyncio.to_thread(middle.cut)
            second = await used(connections, board)
            assert second is not first
            assert await is_open(second)
            assert connections.count() == 1

    with sshd.proxy(server.port) as middle:
        server.pin(middle.port)
        asyncio.run(story(middle))


def test_what_goes_wrong_closes_the_connection(server: sshd.Server) -> None:
    async def story() -> None:
        async with opened(server) as connections:
            first = await used(connections, server.board())

            async def fail() -> None:
                async with connections.reach(server.board()) as (transport, _):
                    assert transport is first
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await fail()
            assert connections.count() == 0
            assert not await is_open(first)
            assert await used(connections, server.board()) is not first

    asyncio.run(story())


def test_a_run_that_is_cancelled_closes_its_connection(server: sshd.Server) -> None:
    async def story() -> None:
        async with opened(server) as connections:
            first = await used(connections, server.board())
            inside = asyncio.Event()

            async def run() -> None:
                async with connections.reach(server.board()):
                    inside.set()
                    await asyncio.sleep(60)

            task = asyncio.create_task(run())
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert connections.count() == 0
            assert not await is_open(first)

    asyncio.run(story())


def test_a_board_whose_entry_was_changed_is_reached_anew_and_its_facts_do_not_matter(server: sshd.Server) -> None:
    async def story() -> None:
        async with opened(server) as connections:
            first = await used(connections, server.board())
            assert await used(connections, server.board(facts={"family": "jetson"})) is first
            assert await used(connections, server.board(tags=("new",))) is not first
            assert not await is_open(first)

    asyncio.run(story())


def test_what_nobody_used_for_long_is_closed_and_what_is_in_use_is_not(server: sshd.Server) -> None:
    async def story() -> None:
        clock = Clock()
        async with opened(server, clock=clock) as connections:
            first, second = await used(connections, server.board("a")), await used(connections, server.board("b"))
            clock.go_on(60.0)
            await connections.tidy()
            assert connections.count() == 2
            async with connections.reach(server.board("b")) as (transport, _):
                clock.go_on(1.0)
                await asyncio.gather(connections.tidy(), connections.tidy())
                assert connections.count() == 0
                assert await is_open(transport)
            assert connections.count() == 1
            assert transport is second
            assert not await is_open(first)

    asyncio.run(story())


def test_a_wait_for_a_frozen_board_that_is_given_up_leaves_no_connection(server: sshd.Server) -> None:
    async def story(middle: sshd.Proxy) -> None:
        async with opened(server) as connections:
            board = server.board(port=middle.port)
            first = await used(connections, board)
            middle.freeze()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3), connections.reach(board):
                    pass
            assert connections.count() == 0
            middle._background.loop.call_soon_threadsafe(middle._flows.set)  # it would answer now
            assert not await is_open(first)

    with sshd.proxy(server.port) as middle:
        server.pin(middle.port)
        asyncio.run(story(middle))
