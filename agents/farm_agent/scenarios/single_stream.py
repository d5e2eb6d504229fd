"""One query after the other: the next starts when the last is done. MLPerf's scenario of that name.

    scenario: single_stream

The window ends when it has lasted its share of `duration_s` and has seen `min_queries`. Its start times leave out only
what the harness does between two queries (under a microsecond). Verified on: board (x86-64 Linux), stand-in clock.

Final figure: `p50_latency_ns`, and `throughput_per_s` = completed / elapsed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping, Tuple

    from farm_agent.runtime import Option

OPTIONS: Tuple[Option, ...] = ()


def schedule(options: Mapping[str, Any], start_ns: int) -> None:
    """No due times: back to back."""
    return
