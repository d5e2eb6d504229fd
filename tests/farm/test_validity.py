"""Which Blocks are not to be trusted, from literal numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from farm_agent import wire

from farm import domain, validity

PLAN = wire.Plan(runtime="fake", min_queries=4)


def column(metric: str, t_ns: list[int], value: list[Any]) -> domain.Samples:
    return domain.Samples(metric, np.array(t_ns, dtype=np.int64), np.array(value))


def block(*samples: domain.Samples, **changes: Any) -> domain.BlockResult:
    latency = column("latency_ns", [0, 10, 20, 30], [9, 9, 9, 9])
    stages = changes.pop("stages", {"first": {"swap_bytes": 0}})
    return domain.BlockResult(
        0, "a", -1, domain.Outcome.OK, stages=stages, samples=(latency, *samples), facts=changes.pop("facts", {})
    )


def codes(result: domain.BlockResult, plan: wire.Plan = PLAN) -> list[str]:
    return [reason.code for reason in validity.block_reasons(result, plan)]


def test_a_quiet_block_is_trusted() -> None:
    assert codes(block()) == []


def test_too_few_samples_are_named_with_both_numbers() -> None:
    (reason,) = validity.block_reasons(block(), wire.replace(PLAN, min_queries=5))
    assert reason.code == "too_few_samples"
    assert "4 timed queries" in reason.text
    assert "5 were asked for" in reason.text


def test_a_block_without_latencies_has_too_few_samples() -> None:
    assert codes(domain.BlockResult(0, "a", -1, domain.Outcome.OK)) == ["too_few_samples"]


@pytest.mark.parametrize(("swap_bytes", "expected"), [(1 << 20, []), ((1 << 20) + 1, ["swapped"]), (None, [])])
def test_more_than_a_megabyte_in_swap_is_noisy(swap_bytes: int | None, expected: list[str]) -> None:
    assert codes(block(stages={"load": {"swap_bytes": swap_bytes}})) == expected


@pytest.mark.parametrize(("waited_us", "expected"), [(100_000.0, []), (100_001.0, ["memory_pressure"])])
def test_waiting_for_memory_a_tenth_of_the_time_is_noisy(waited_us: float, expected: list[str]) -> None:
    pressure = column("psi.memory.some_total_us", [0, 1_000_000_000], [50.0, 50.0 + waited_us])
    assert codes(block(pressure)) == expected


def test_missing_pressure_readings_are_no_reason() -> None:
    assert codes(block(column("psi.memory.some_total_us", [0, 10], [float("nan"), float("nan")]))) == []


def test_a_lost_sampler_is_a_reason_with_its_exit_status() -> None:
    (reason,) = validity.block_reasons(block(facts={"sampler": {"failed": True, "status": -9}}), PLAN)
    assert (reason.code, "exit status -9" in reason.text) == ("sampler_lost", True)


@pytest.mark.parametrize(
    ("last_unix_ns", "expected"),
    [(10_000_000_000, None), (10_500_000_000, None), (10_500_000_001, "clock_jump"), (9_400_000_000, "clock_jump")],
)
def test_a_wall_clock_that_jumps_half_a_second_is_a_reason(last_unix_ns: int, expected: str | None) -> None:
    reason = validity.clock_reason([(0, 0, 0, 0), (1, 10_000_000_000, last_unix_ns, 2)])
    assert (reason.code if reason else None) == expected


def test_one_anchor_says_nothing_of_the_clock() -> None:
    assert validity.clock_reason([(0, 0, 0, 0)]) is None


def ended(outcome: str, code: str | None = None, blame: str | None = None) -> domain.BlockResult:
    reasons = (domain.Reason(code, f"because of {code}", blame),) if code else ()
    return domain.BlockResult(0, "a", -1, domain.Outcome(outcome), reasons)


@pytest.mark.parametrize(
    ("blocks", "outcome", "codes_"),
    [
        ([ended("OK"), ended("OK")], "OK", []),
        ([ended("OK"), ended("NOISY", "swapped"), ended("NOISY", "swapped")], "NOISY", ["swapped"]),
        ([ended("FAILED", "crash"), ended("FAILED", "crash")], "FAILED", ["crash"]),
        ([ended("FAILED", "crash"), ended("OK"), ended("OK")], "NOISY", ["crash"]),
        ([ended("OK"), ended("BROKEN", "board_io", "board")], "BROKEN", ["board_io"]),
        ([ended("FAILED", "crash"), ended("CANCELLED", "cancelled")], "CANCELLED", ["cancelled"]),
        ([ended("BROKEN", "bad_option", "input")], "FAILED", ["bad_option"]),
    ],
)
def test_a_run_ends_as_its_blocks_say(blocks: list[domain.BlockResult], outcome: str, codes_: list[str]) -> None:
    found, reasons = validity.conclude(blocks, [])
    assert (found.value, [reason.code for reason in reasons]) == (outcome, codes_)


def test_a_failed_artifact_on_a_board_whose_reference_fails_too_is_the_boards() -> None:
    reference = domain.Reason("reference_failed", "", "board")
    outcome, reasons = validity.conclude([ended("FAILED", "crash", "artifact")], [reference])
    assert (outcome, reasons) == (domain.Outcome.BROKEN, (reference,))


def test_a_clock_that_jumped_makes_good_blocks_noisy() -> None:
    jumped = domain.Reason("clock_jump", "")
    assert validity.conclude([ended("OK")], [jumped]) == (domain.Outcome.NOISY, (jumped,))
