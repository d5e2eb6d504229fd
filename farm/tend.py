"""VERB 6: look after the boards: is this one there, does it answer, what does it say it is now."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta

from farm import boarding, domain
from farm.connections import Connections
from farm.errors import FarmError, LeaseLost, StoreError
from farm.keeper import Keeper
from farm.store import boards, leases
from farm.store.db import Store

CHECK_AGAIN_S = (5.0, 15.0, 60.0, 300.0)  # after the first, second, third and every later check that failed
CHECK_LIMIT_S = 120.0


async def check(board_name: str, token: int, *, store: Store, connections: Connections, keeper: Keeper) -> bool:
    """Look at a Board's health under the Lease that was granted for it: does it answer to `probe`?

    Its facts are what it answers. True where it is well; False where it is not, or the Lease is over.
    """
    lease = await asyncio.to_thread(leases.current, store, board_name)
    if lease is None or lease.token != token or not lease.is_check:
        return False
    try:
        await asyncio.to_thread(leases.renew, store, lease, now=datetime.now(UTC))
    except LeaseLost:
        return False
    task = asyncio.ensure_future(_look(board_name, connections, store))
    loop, ours = asyncio.get_running_loop(), asyncio.current_task()
    keeper.hold(lease, None, lost=lambda: loop.call_soon_threadsafe(task.cancel), cancel=lambda: None)
    try:
        facts, note = await task
        await _told(store, lease, facts, note)
        return facts is not None
    except LeaseLost:
        return False
    except asyncio.CancelledError:
        if ours is not None and ours.cancelling():
            raise
        return False  # the keeper ended the look: the lease is lost
    finally:
        task.cancel()
        keeper.let_go(lease)
        with contextlib.suppress(LeaseLost, StoreError):
            await asyncio.to_thread(leases.release, store, lease, now=datetime.now(UTC))


async def _look(name: str, connections: Connections, store: Store) -> tuple[dict[str, object] | None, str]:
    """What the Board answers, or None and why it does not."""
    board = await asyncio.to_thread(boards.get_board, store, name)
    try:
        async with asyncio.timeout(CHECK_LIMIT_S):
            facts = await boarding.probe(board, connections=connections)
        json.dumps(facts, allow_nan=False)  # else the store would refuse them
        return facts, ""
    except (TypeError, ValueError) as error:
        return None, f"Board {name!r} answered to `probe` with what is no JSON object: {error}. Check its Python."
    except TimeoutError:
        return None, f"Board {name!r} did not answer to `probe` within {CHECK_LIMIT_S:g} s. Check its power and load."
    except FarmError as error:
        return None, str(error)


async def _told(store: Store, lease: domain.Lease, facts: dict[str, object] | None, note: str) -> None:
    now = datetime.now(UTC)
    failed = await asyncio.to_thread(boards.failed_checks, store, lease.board)
    pause_s = CHECK_AGAIN_S[min(failed, len(CHECK_AGAIN_S) - 1)]
    again = None if facts is not None else now + timedelta(seconds=pause_s)
    await asyncio.to_thread(
        boards.checked, store, lease.board, lease.token, facts=facts, note=note, next_check_at=again, now=now
    )
