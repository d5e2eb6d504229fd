"""What a Block of a gate gives: statistics to compare, and figures to hold against limits where it is long enough."""

from __future__ import annotations

import numpy as np
import pytest

from farm import pairs
from farm.domain import BlockResult, Outcome, Reason, Samples
from farm.rules import Gate, Rule

P50, P99, MISSES, MEMORY = "p50_latency_ns", "p99_latency_ns", "deadline_miss_ratio", "cold_load_rss_bytes"
GATE = Gate(
    (
        Rule(P50, 0.02),
        Rule(P99, 0.25, limit=500.0),
        Rule("throughput_per_s", 0.02),
        Rule(MISSES, limit=0.01, deadline_ns=450.0),
        Rule(MEMORY, limit=2e8),
    )
)


def _block(n: int, outcome: Outcome = Outcome.OK, reasons: tuple[Reason, ...] = ()) -> BlockResult:
    value = np.arange(1, n + 1)
    columns = (Samples("latency_ns", value, value), Samples("soc.temp_c", value, value))
    return BlockResult(0, "b", 1, outcome, reasons, facts={"timed_ns": 2_000_000_000}, samples=columns)


@pytest.mark.parametrize("outcome", [Outcome.BROKEN, Outcome.CANCELLED])
def test_a_block_that_the_lab_or_a_person_ended_is_no_part_of_a_pair(outcome: Outcome) -> None:
    with pytest.raises(ValueError, match=f"ended {outcome}"):
        pairs.taken(_block(10, outcome), GATE, {})


def test_a_block_that_failed_has_no_figures_but_a_reason() -> None:
    found = pairs.taken(_block(0, Outcome.FAILED, (Reason("oom", "killed for memory"),)), GATE, {})
    assert (found.state, found.reason) == ("failed", "killed for memory")
    assert found.compared == {P50: None, P99: None, "throughput_per_s": None}
    assert found.held == {P99: None, MISSES: None, MEMORY: None}


def test_a_short_block_is_compared_but_not_held_against_a_limit_that_needs_more() -> None:
    found = pairs.taken(_block(50, Outcome.NOISY), GATE, {MEMORY: 9e7})
    assert found.state == "flagged"
    assert found.compared == {P50: 25.5, P99: pytest.approx(49.51), "throughput_per_s": 25.0}
    assert found.held == {P99: None, MISSES: None, MEMORY: 9e7}


def test_a_long_block_is_held_against_limits_by_its_nearest_rank() -> None:
    found = pairs.taken(_block(459), GATE, {MEMORY: None})
    assert found.state == "ok"
    assert found.held == {P99: 455.0, MISSES: pytest.approx(9 / 459), MEMORY: None}
