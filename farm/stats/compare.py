"""The effect of one Run against another: a ratio with a distribution-free range. It judges nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from farm.stats import Summary


@dataclass(frozen=True, slots=True)
class Effect:
    """One metric of Run B against Run A. `low` and `high` are the smallest and largest ratio of any two processes."""

    metric: str
    a: Summary | None
    b: Summary | None
    ratio: float | None  # median over B's processes / median over A's; None: absent, `reason` says why
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def compare(a: Iterable[Summary], b: Iterable[Summary]) -> list[Effect]:
    """The effect of Run B against Run A on each metric that either has, from their figures over all Blocks.

    With five processes each, low to high holds the ratio of the true medians with at least 87.5 % (both Runs' 93.75 %
    together), whatever the law.
    """
    of_a = {summary.metric: summary for summary in a if summary.block is None}
    of_b = {summary.metric: summary for summary in b if summary.block is None}
    return [_effect(metric, of_a.get(metric), of_b.get(metric)) for metric in dict.fromkeys([*of_a, *of_b])]


def _effect(metric: str, a: Summary | None, b: Summary | None) -> Effect:
    if a is None or a.value is None:
        return Effect(metric, a, b, None, reason=f"absent in A: {a.reason if a else 'not measured'}")
    if b is None or b.value is None:
        return Effect(metric, a, b, None, reason=f"absent in B: {b.reason if b else 'not measured'}")
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Effect(metric, a, b, None, reason="no range over processes")
    if a.low <= 0 or b.low < 0:
        return Effect(metric, a, b, None, reason="a ratio needs positive figures")
    return Effect(metric, a, b, b.value / a.value, b.low / a.high, b.high / a.low)
