"""A query is due every 1/fps seconds, as from a camera, whether or not the last one is done.

    scenario: paced
    scenario_options: {fps: 30}

Latency counts from the *due* time, so a board that stalls shows the queue that builds up behind it; `start_delay_ns`
keeps how long each query waited from its due time to its start. Every query that falls due within the window is made,
also where that takes longer than the window, up to the Block's time limit.

Waiting is sleep until 200 us before the due time, then a busy loop. Sleep alone wakes late by the kernel's timer slack
(50 us and more) and would add that to each latency; a busy loop alone would heat the core and keep its clock up for the
whole pause. So the last 200 us are busy: the core is awake and may have left its deepest idle state before a query, as
it would be after a camera's interrupt, and at 30 fps 0.6 % of a core is spent on it. Warm-up queries run back to back.
Verified on: board (x86-64 Linux), stand-in clock.

Final figure: `p99_latency_ns` from the due time, at the stated fps.
"""

from __future__ import annotations

from farm_agent.runtime import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping

OPTIONS = (Option("fps", "float", 30.0, "queries due per second", at_least=0.01),)


def schedule(options: Mapping[str, Any], start_ns: int) -> Callable[[int], int]:
    """Query 0 is due at `start_ns`, query n exactly n/fps later: no rounding adds up."""
    fps = float(options["fps"])
    return lambda index: start_ns + round(index * 1e9 / fps)
