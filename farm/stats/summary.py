"""Summaries of a plain Run: quantiles with distribution-free bounds, per Block and over a Run's Blocks.

Within a process an interval comes from binomial order statistics (David & Nagaraja, Order Statistics, 3rd ed., 7.1)
and assumes independent samples, which those of one process are not: it is shown, never judged. Over processes it is
the smallest and the largest: for five it holds the median of processes in 93.75 % of Runs, whatever their law.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from farm.stats import Summary

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
SUPPORT_CONFIDENCE = 0.99
WITHIN_CONFIDENCE = 0.95

_Values = NDArray[Any]


def rank(q: float, n: int) -> int:
    """Which order statistic, from 1, is the nearest-rank quantile `q` of `n` samples: the smallest k with k/n >= q."""
    return max(math.ceil(Fraction(str(q)) * n), 1)  # 0.07 * 100 is 7.000000000000001 in binary


def quantile(values: _Values, q: float) -> float:
    """The nearest-rank quantile of values: number[n], n > 0: always one of them."""
    k = rank(q, len(values))
    return float(np.partition(values, k - 1)[k - 1])


def needed(q: float, *, beyond: int = 0, confidence: float = SUPPORT_CONFIDENCE) -> int:
    """How many samples it takes for more than `beyond` of them to lie above the true quantile `q`: the exact bound.

    With that confidence: 459 for P99 (662 with one beyond), 90 for P95, 44 for P90.
    """
    low, high = beyond + 1, beyond + 1
    while special.bdtrc(beyond, high, 1 - q) < confidence:
        low, high = high + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        if special.bdtrc(beyond, middle, 1 - q) < confidence:
            low = middle + 1
        else:
            high = middle
    return high


def interval(values: _Values, q: float, *, confidence: float = WITHIN_CONFIDENCE) -> tuple[float | None, float | None]:
    """The order statistics that hold the true quantile `q` between them, each side at (1 + confidence)/2.

    None for a side that n samples cannot bound.
    """
    n = len(values)
    lower = _binomial((1 - confidence) / 2, n, q)  # P(fewer than `lower` below the quantile) < alpha/2
    upper = _binomial((1 + confidence) / 2, n, q) + 1
    ordered = np.sort(values)
    return (
        float(ordered[lower - 1]) if lower >= 1 else None,
        float(ordered[upper - 1]) if upper <= n else None,
    )


def _binomial(p: float, n: int, q: float) -> int:
    """The smallest k with P(at most k of n, each with chance q) >= p. scipy.stats has it too, for 0.5 s of import."""
    k = max(math.ceil(float(special.bdtrik(p, n, q))), 0)
    return k - 1 if k > 0 and special.bdtr(k - 1, n, q) >= p else k


def summarize_samples(blocks: Mapping[int, _Values], metric: str = "latency_ns") -> list[Summary]:
    """`p50_latency_ns` to `p999`, `min`, `max`, `mean` of each Block, then over the Run. blocks: index -> number[n].

    A quantile that n cannot support is absent with the reason "needs 459"; so is everything of an empty Block.
    """
    out: list[Summary] = []
    for name, q in QUANTILES.items():
        least = needed(q)
        figures = [_within(f"{name}_{metric}", index, values, q, least) for index, values in blocks.items()]
        out += [*figures, over_run(f"{name}_{metric}", figures, least)]
    for name, function in (("min", np.min), ("max", np.max), ("mean", np.mean)):
        figures = [
            _figure(f"{name}_{metric}", index, float(function(values)) if len(values) else None, len(values))
            for index, values in blocks.items()
        ]
        out += [*figures, over_run(f"{name}_{metric}", figures)]
    return out


def summarize_throughput(blocks: Mapping[int, tuple[int, int]]) -> list[Summary]:
    """`throughput_per_s` of each Block, then over the Run. blocks: index -> (queries completed, timed window in ns)."""
    figures = [
        _figure("throughput_per_s", index, completed * 1e9 / window_ns if window_ns > 0 else None, completed)
        for index, (completed, window_ns) in blocks.items()
    ]
    return [*figures, over_run("throughput_per_s", figures)]


def summarize_deadline(blocks: Mapping[int, _Values], deadline_ns: float) -> list[Summary]:
    """`deadline_miss_ratio`: the share of latencies above the deadline, of each Block, then over the Run."""
    figures = [
        _figure(
            "deadline_miss_ratio",
            index,
            float(np.count_nonzero(latency_ns > deadline_ns)) / len(latency_ns) if len(latency_ns) else None,
            len(latency_ns),
        )
        for index, latency_ns in blocks.items()
    ]
    return [*figures, over_run("deadline_miss_ratio", figures)]


def summarize_scalars(metrics: Mapping[str, Sequence[float | None]]) -> list[Summary]:
    """Over a Run, each metric with one figure a Block, such as `cold_load_rss_bytes`. metric -> one for each Block."""
    return [
        over_run(metric, [_figure(metric, index, value, 1) for index, value in enumerate(values)])
        for metric, values in metrics.items()
    ]


def over_run(metric: str, figures: Sequence[Summary], least: int = 0) -> Summary:
    """The median of the Blocks' figures with their smallest and largest; n is the fewest samples of any.

    Absent where a Block has fewer than `least` samples. Blocks without a figure are left out, and counted.
    """
    n = min((figure.n for figure in figures), default=0)
    values = [figure.value for figure in figures if figure.value is not None]
    if n < least or not values:
        absent = f"needs {least}" if figures and n < least else "absent in every block"
        return Summary(metric, None, n, len(figures), reason=absent)
    missing = len(figures) - len(values)
    reason = f"absent in {missing} of {len(figures)} blocks" if missing else None
    return Summary(metric, float(np.median(values)), n, len(values), min(values), max(values), reason=reason)


def _within(metric: str, index: int, values: _Values, q: float, least: int) -> Summary:
    n = len(values)
    if n < least:
        return Summary(metric, None, n, 1, block=index, reason=f"needs {least}")
    low, high = interval(values, q)
    return Summary(metric, quantile(values, q), n, 1, low, high, index)


def _figure(metric: str, index: int, value: float | None, n: int) -> Summary:
    if value is None or not math.isfinite(value):
        return Summary(metric, None, n, 1, block=index, reason="absent" if value is None else "not a finite number")
    return Summary(metric, float(value), n, 1, block=index)
