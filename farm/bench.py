"""The whole trip in one process, for who measures by hand: grant, execute, judge, on one named board, tried once."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from farm import dispatch, domain, execute, judge, settle
from farm.connections import Connections
from farm.errors import BoardBusy, FarmBug
from farm.keeper import Keeper
from farm.settings import Settings
from farm.store import results
from farm.store.db import Store

PATIENCE_S = 120.0  # for a board that somebody else holds
LOOK_S = 1.0


async def measure(
    job: domain.Job, board: domain.Board, *, store: Store, settings: Settings, holder: str, watch: execute.Watch
) -> domain.Run:
    """Measure a Job on this very Board as soon as it is free, and end it with what came of that.

    Raises BoardBusy where somebody else holds the board for longer than we wait.
    """
    run = await _granted(job, board, store, settings, holder, watch)
    return await carry_out(run, store=store, settings=settings, holder=holder, watch=watch)


async def carry_out(
    run: domain.Run, *, store: Store, settings: Settings, holder: str, watch: execute.Watch
) -> domain.Run:
    """Carry out a Run that was granted to us, judge it, and end its Job with it."""
    keeper, connections = Keeper(store), Connections(settings)
    keeper.start()
    try:
        ended = await execute.run(
            run.id, run.token, worker=holder, store=store, connections=connections, keeper=keeper, watch=watch
        )
        if ended is None:
            raise FarmBug(f"Run {run.id} was granted to us and is not ours. Please report this.")
        return ended
    finally:
        keeper.stop()
        await asyncio.to_thread(_finish, run.id, store)


def _finish(run_id: str, store: Store) -> None:
    """Judge the Run and end its Job, where it has ended at all."""
    run = results.get_run(store, run_id)
    if run.outcome is not None:
        judge.run(run_id, store=store)
        settle.end(run, store=store, now=datetime.now(UTC))


async def _granted(
    job: domain.Job, board: domain.Board, store: Store, settings: Settings, holder: str, watch: execute.Watch
) -> domain.Run:
    patience = dispatch.Patience(store)
    give_up = time.monotonic() + PATIENCE_S
    while True:
        now = datetime.now(UTC)
        await asyncio.to_thread(patience.look, now)
        try:
            return await asyncio.to_thread(
                dispatch.grant, job, board, store=store, holder=holder, ttl_s=settings.lease_ttl_s, now=now
            )
        except BoardBusy as busy:
            if time.monotonic() > give_up:
                raise
            watch(execute.Event("wait", str(busy)))
            await asyncio.sleep(LOOK_S)
