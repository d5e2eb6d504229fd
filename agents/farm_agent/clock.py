"""A board's clock: CLOCK_MONOTONIC in ns, anchors to its wall clock, and the offset between two such clocks.

The only place where a monotonic time and a wall time meet.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, Iterable, Tuple

now_ns = time.monotonic_ns
"""CLOCK_MONOTONIC, on Linux the same for every process of one boot (perf_counter_ns reads it too)."""


def anchor(
    tries: int = 5,
    monotonic: Callable[[], int] = time.monotonic_ns,
    wall: Callable[[], int] = time.time_ns,
) -> Dict[str, int]:
    """{t_ns, unix_ns, error_ns}: one moment on both clocks; of several tries the one with the narrowest bracket."""
    best = {"t_ns": 0, "unix_ns": 0, "error_ns": 1 << 62}
    for _ in range(tries):
        before = monotonic()
        unix = wall()
        after = monotonic()
        error = (after - before + 1) // 2
        if error < best["error_ns"]:
            best = {"t_ns": (before + after) // 2, "unix_ns": unix, "error_ns": error}
    return best


def offset(samples: Iterable[Tuple[int, int, int]]) -> Tuple[int, int]:
    """(offset_ns, error_ns) of the board's clock against ours: board time = our time + offset, within the error.

    A sample is (sent_ns, board_ns, received_ns): our clock when the ping left, the board's when it answered, ours when
    the answer came. The sample with the shortest round trip counts; the error is half of it, which holds however
    unequal the two ways are. Raises ValueError without a sample, or where one was received before it was sent.
    """
    best = None
    for sent, board, received in samples:
        trip = received - sent
        if trip < 0:
            raise ValueError(
                f"a pong received {-trip} ns before its ping was sent; the samples are not (sent, board, received)"
            )
        if best is None or trip < best[0]:
            best = (trip, board - (sent + received) // 2)
    if best is None:
        raise ValueError("no ping was answered; a clock offset needs at least one")
    return best[1], (best[0] + 1) // 2
