"""What a Scenario is: one function, "when is the next query due", and the loops that ask it.

A file of scenarios/ has `OPTIONS` (see runtime.Option) and

    schedule(options, start_ns) -> None | function

None: the next query starts when the last one is done. Otherwise the function gives the due time in ns of query 0, 1,
2, ... and latency counts from it, so a stalled board cannot hide its queue.

The rule of MLPerf's LoadGen: the timed window ends when it has lasted its time *and* has seen its least number of
queries; what fell due within the window is completed. A cap ends it before the Block's own time limit does. Warm-up
queries run back to back in every scenario.
"""

from __future__ import annotations

import time
from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

SPIN_NS = 200_000
_GROWTH = 65536
_MOST_EXPECTED = 1 << 20


class Window:
    """When the queries end: not before `end_ns` nor with fewer than `min_queries`, but at `cap_ns` in any case."""

    __slots__ = ("cap_ns", "end_ns", "min_queries")

    def __init__(self, end_ns: int, min_queries: int, cap_ns: int) -> None:
        self.end_ns = end_ns
        self.min_queries = min_queries
        self.cap_ns = cap_ns


class Rows:
    """Preallocated, touched columns of queries: `t_ns`, `latency_ns` and, for a schedule, `delay_ns`; `n` are filled.

    The last query was done at `end_ns`; `is_capped` where the cap ended the window before its rule did.
    """

    __slots__ = ("delay_ns", "end_ns", "grown_bytes", "has_delay", "is_capped", "latency_ns", "n", "t_ns")

    def __init__(self, capacity: int, has_delay: bool = False) -> None:
        self.has_delay = has_delay
        self.t_ns = array("q", [0]) * capacity
        self.latency_ns = array("q", [0]) * capacity
        self.delay_ns = array("q", [0]) * (capacity if has_delay else 0)
        self.n = 0
        self.end_ns = 0
        self.is_capped = False
        self.grown_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Bytes held, filled or not."""
        return 8 * (len(self.t_ns) + len(self.latency_ns) + len(self.delay_ns))

    def grow(self) -> int:
        """Room for more queries; the new capacity. Called between two queries, never inside one."""
        before = self.size_bytes
        more = array("q", [0]) * _GROWTH
        self.t_ns.extend(more)
        self.latency_ns.extend(more)
        if self.has_delay:
            self.delay_ns.extend(more)
        self.grown_bytes += self.size_bytes - before
        return len(self.t_ns)

    def cut(self) -> None:
        """Give back what was not filled."""
        for column in (self.t_ns, self.latency_ns, self.delay_ns):
            del column[self.n :]


def warm_up(query: Callable[[], Any], at_least: int, lasting_s: float, cap_ns: int) -> Rows:
    """Queries before the timed window: at least so many and so long, but at most half of the time up to the cap."""
    now_ns = time.monotonic_ns()
    if not at_least and not lasting_s:
        return Rows(0)
    rows = Rows(4096)
    run(query, None, Window(now_ns + int(lasting_s * 1e9), at_least, now_ns + (cap_ns - now_ns) // 2), rows)
    rows.cut()
    return rows


def rows_for(warm: Rows, due_ns: Optional[Callable[[int], int]], lasting_ns: int, min_queries: int) -> Rows:
    """Room for the timed queries, as the schedule or the faster half of the warm-up lets expect; they may grow."""
    if due_ns is not None:
        interval_ns = due_ns(1) - due_ns(0)
    else:
        interval_ns = sorted(warm.latency_ns)[warm.n // 4] if warm.n else lasting_ns
    expected = lasting_ns * 5 // (4 * max(interval_ns, 1)) + min_queries + 1
    return Rows(min(expected, _MOST_EXPECTED), due_ns is not None)


def run(
    query: Callable[[], Any],
    due_ns: Optional[Callable[[int], int]],
    window: Window,
    rows: Rows,
    now: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fill `rows` with queries until the window is over. At least one is made."""
    if due_ns is None:
        _back_to_back(query, window, rows, now)
    else:
        _scheduled(query, due_ns, window, rows, now, sleep)


def _back_to_back(query: Callable[[], Any], window: Window, rows: Rows, now: Callable[[], int]) -> None:
    t_ns, latency_ns = rows.t_ns, rows.latency_ns
    end_ns, min_queries, cap_ns = window.end_ns, window.min_queries, window.cap_ns
    capacity = len(t_ns)
    n = 0
    while True:
        if n == capacity:
            capacity = rows.grow()
        start = now()
        query()
        end = now()
        t_ns[n] = start
        latency_ns[n] = end - start
        n += 1
        is_over = end >= end_ns and n >= min_queries
        if is_over or end >= cap_ns:
            rows.n, rows.end_ns, rows.is_capped = n, end, not is_over
            return


def _scheduled(
    query: Callable[[], Any],
    due_ns: Callable[[int], int],
    window: Window,
    rows: Rows,
    now: Callable[[], int],
    sleep: Callable[[float], None],
) -> None:
    end = n = 0
    capacity = len(rows.t_ns)
    while True:
        due = due_ns(n)
        is_over = n > 0 and due >= window.end_ns and n >= window.min_queries
        if is_over or (n > 0 and max(due, end) >= window.cap_ns):
            rows.n, rows.end_ns, rows.is_capped = n, end, not is_over
            return
        if n == capacity:
            capacity = rows.grow()
        _wait(due, now, sleep)
        start = now()
        query()
        end = now()
        rows.t_ns[n] = due
        rows.latency_ns[n] = end - due
        rows.delay_ns[n] = start - due
        n += 1


def _wait(due: int, now: Callable[[], int], sleep: Callable[[float], None]) -> None:
    left = due - now()
    if left > SPIN_NS:
        sleep((left - SPIN_NS) / 1e9)
    while now() < due:
        pass
