"""Is this Block, is this Run to be trusted, and is its Job tried again? Pure: named reasons with figures out.

Today's rules need no vendor sensor: too few samples, swap traffic, memory pressure, a sensor or sampler that was lost,
a clock that jumped. The rules on throttling and foreign load come with the board families' sensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from farm_agent import wire

from farm import domain

SWAP_LIMIT_BYTES = 1 << 20
PRESSURE_LIMIT_RATIO = 0.10  # share of the Block in which some process waited for memory
CLOCK_JUMP_NS = 500_000_000
NOISY_RETRIES = 2
BROKEN_RETRIES = 3
BROKEN_PAUSE_S = (0.0, 5.0, 30.0)  # before the first, second and third retry


def block_reasons(result: domain.BlockResult, plan: wire.Plan) -> tuple[domain.Reason, ...]:
    """Why this Block is NOISY; empty where nothing speaks against it."""
    samples = {column.metric: column for column in result.samples}
    return tuple(
        reason
        for reason in (
            _too_few(samples, plan),
            _swapped(result),
            _pressed(samples),
            _sampler_lost(result),
        )
        if reason is not None
    )


def conclude(
    blocks: Sequence[domain.BlockResult], reasons: Sequence[domain.Reason]
) -> tuple[domain.Outcome, tuple[domain.Reason, ...]]:
    """The Outcome that a Run's Blocks lead to, and why. `reasons` are those of the Run as a whole.

    An artifact is FAILED when it failed twice while the reference model worked in between; failing once and then
    working makes the Run NOISY. A reason with blame "input" comes alone and first: the user must act.
    """
    found = {outcome: [block for block in blocks if block.outcome is outcome] for outcome in domain.Outcome}
    wrong = next((reason for block in blocks for reason in block.reasons if reason.blame == "input"), None)
    if wrong is not None:
        return domain.Outcome.FAILED, (wrong,)
    if found[domain.Outcome.CANCELLED]:
        return domain.Outcome.CANCELLED, found[domain.Outcome.CANCELLED][0].reasons
    if found[domain.Outcome.BROKEN]:
        return domain.Outcome.BROKEN, found[domain.Outcome.BROKEN][-1].reasons
    if any(reason.code == "reference_failed" for reason in reasons):
        return domain.Outcome.BROKEN, tuple(reasons)
    failed = found[domain.Outcome.FAILED]
    if len(failed) >= 2:
        return domain.Outcome.FAILED, failed[-1].reasons
    once = "; it failed once and then worked, so its figures are not to be trusted"
    flaky = [replace(reason, text=reason.text + once) for block in failed for reason in block.reasons]
    noisy = [reason for block in found[domain.Outcome.NOISY] for reason in block.reasons]
    unique = {reason.code: reason for reason in (*noisy, *reasons, *flaky)}
    return (domain.Outcome.NOISY if unique else domain.Outcome.OK), tuple(unique.values())


@dataclass(frozen=True, slots=True)
class Again:
    """The Job is tried again: how much later, and on which Boards rather not."""

    after_s: float
    avoid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The Job is over."""

    verdict: domain.Verdict | None


def next_step(runs: Sequence[domain.Run], *, cool_down_s: float) -> Again | Done:
    """What comes after the last of a Job's Runs, all of which have ended, oldest first.

    NOISY is tried again after a cool-down, at most twice; BROKEN at most three times, elsewhere where it can be. What
    the input is to blame for, or our own bug, would only end so again.
    """
    last = runs[-1]
    if last.outcome is domain.Outcome.NOISY:
        if sum(run.outcome is domain.Outcome.NOISY for run in runs) <= NOISY_RETRIES:
            return Again(cool_down_s)
        return Done(domain.Verdict.UNDECIDED)
    if last.outcome is domain.Outcome.BROKEN:
        broken = sum(run.outcome is domain.Outcome.BROKEN for run in runs)
        if broken > BROKEN_RETRIES or any(reason.code == "farm_bug" for reason in last.reasons):
            return Done(None)
        return Again(BROKEN_PAUSE_S[broken - 1], (last.board,) if last.blame == "board" else ())
    if last.outcome is domain.Outcome.FAILED:
        is_input = any(reason.blame == "input" for reason in last.reasons)
        return Done(None if is_input else domain.Verdict.FAIL)
    return Done(domain.Verdict.PASS if last.outcome is domain.Outcome.OK else None)


def clock_reason(anchors: Sequence[tuple[int, int, int, int]]) -> domain.Reason | None:
    """A reason where the board's wall clock moved against its monotonic one between the first and last anchor.

    anchors: (sent ns, board monotonic ns, board wall ns, received ns) each.
    """
    if len(anchors) < 2:
        return None
    (_, first_t, first_unix, _), (_, last_t, last_unix, _) = anchors[0], anchors[-1]
    jump_ns = (last_unix - first_unix) - (last_t - first_t)
    if abs(jump_ns) <= CLOCK_JUMP_NS:
        return None
    return domain.Reason(
        "clock_jump",
        f"The board's wall clock jumped by {jump_ns / 1e9:+.1f} s during the Run (allowed: 0.5 s)."
        " Let its time service settle, then measure again.",
    )


def _too_few(samples: dict[str, domain.Samples], plan: wire.Plan) -> domain.Reason | None:
    n = len(samples["latency_ns"].value) if "latency_ns" in samples else 0
    if n >= plan.min_queries:
        return None
    return domain.Reason(
        "too_few_samples",
        f"{n} timed queries in one process, {plan.min_queries} were asked for."
        " Raise duration_s, or lower min_queries in the Plan.",
    )


def _swapped(result: domain.BlockResult) -> domain.Reason | None:
    swapped = max((int(stage.get("swap_bytes") or 0) for stage in result.stages.values()), default=0)
    if swapped <= SWAP_LIMIT_BYTES:
        return None
    return domain.Reason(
        "swapped",
        f"{swapped / 1e6:.1f} MB of the subject were in swap (allowed: 1 MB)."
        " Free memory on the board, or give the model a larger one.",
    )


def _pressed(samples: dict[str, domain.Samples]) -> domain.Reason | None:
    column = samples.get("psi.memory.some_total_us")
    if column is None or len(column.value) < 2:
        return None
    values = column.value[np.isfinite(column.value)]
    if len(values) < 2:
        return None
    waited_us, window_us = float(values[-1] - values[0]), float(column.t_ns[-1] - column.t_ns[0]) / 1e3
    if window_us <= 0 or waited_us / window_us <= PRESSURE_LIMIT_RATIO:
        return None
    return domain.Reason(
        "memory_pressure",
        f"Some process waited for memory in {waited_us / window_us:.0%} of the Block (allowed: 10 %)."
        " Free memory on the board, then measure again.",
    )


def _sampler_lost(result: domain.BlockResult) -> domain.Reason | None:
    sampler = result.facts.get("sampler")
    if not isinstance(sampler, dict) or not sampler.get("failed"):
        return None
    return domain.Reason(
        "sampler_lost",
        f"The sampler ended without its columns (exit status {sampler.get('status')})."
        " Without its sensors the Block cannot be certified; measure again, and see `farm probe --self-cost`.",
    )
