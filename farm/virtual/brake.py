"""How a throttling virtual board really becomes slower: its busy processes are stopped for a share of the time.

SIGSTOP and SIGCONT in turn, with a period of a few milliseconds. Of the ways that need no rights it is the one that
works everywhere: a quota of CPU time needs a control group that is ours to write (root, or a delegated one), a lower
clock needs root, and a rival that burns the CPU would heat the real machine. Its price: a query much shorter than the
period either meets a stop or does not, so the tail grows before the median does; a real lower clock slows each query
alike. What was stopped too long, because the timer woke late, is taken off the stops that follow.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Collection

from farm.virtual.processes import send

PERIOD_S = 0.005
_WAIT_S = 0.1  # while nothing is busy
_LONGEST_STOP_S = 0.05  # whatever is owed: a frozen machine must not become a frozen process


async def slow(targets: Callable[[], Collection[int]], factor: Callable[[], float]) -> None:
    """Let the processes run for `factor` of the time, until cancelled; then they run on."""
    owed_s, since = 0.0, time.monotonic()
    while True:
        pids = tuple(targets())
        share = factor()
        if not pids or share >= 1.0:
            await asyncio.sleep(_WAIT_S)
            owed_s, since = 0.0, time.monotonic()
            continue
        await asyncio.sleep(PERIOD_S * share)
        stopped_at = time.monotonic()
        owed_s = min(_LONGEST_STOP_S, owed_s + (stopped_at - since) * (1.0 / share - 1.0))
        since = stopped_at
        if owed_s <= 0.0:
            continue
        try:
            for pid in pids:
                send(pid, signal.SIGSTOP)
            await asyncio.sleep(owed_s)
        finally:
            for pid in pids:
                send(pid, signal.SIGCONT)
        since = time.monotonic()
        owed_s -= since - stopped_at
