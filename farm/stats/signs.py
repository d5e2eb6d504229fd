"""Anytime evidence from signs alone: of a median against a limit, and of which arm was flagged.

Assumed is only that, under the null, the next sign is + with probability at most one half given all before it. Each
factor `1 + bet * sign` then has expectation at most 1, and Ville's inequality holds as in `evidence`. A median is
bounded by order statistics; blocks are the sample, never the queries within one, which are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

BETS = np.asarray((0.2, 0.5, 0.8, 1.0))
WEIGHTS = np.asarray((0.15, 0.20, 0.20, 0.45))


def log_evidence(plus: int, minus: int) -> float:
    """ln E against "a sign is + at most half of the time"."""
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = np.where(minus, minus * np.log1p(-BETS), 0.0)  # the bet of everything is lost with the first -
    return float(np.logaddexp.reduce(np.log(WEIGHTS) + plus * np.log1p(BETS) + loss))


def fewest(log_enough: float) -> int:
    """How many signs, all +, it takes at least."""
    n = 0
    while log_evidence(n, 0) < log_enough:
        n += 1
    return n


def median_bounds(values: Sequence[float], log_low: float, log_high: float) -> tuple[float | None, float | None]:
    """Order statistics that hold the median of what is drawn next. None: not enough values for that side yet.

    With evidence exp(log_low) the median is not below the first, with exp(log_high) not above the second.
    """
    n, ordered = len(values), sorted(values)
    low = next((ordered[n - k] for k in _enough(n, log_low)), None)
    high = next((ordered[k - 1] for k in _enough(n, log_high)), None)
    return low, high


def _enough(n: int, log_enough: float) -> Sequence[int]:
    """How many of n signs must be + for that much evidence: the fewest, or none."""
    return [k for k in range(math.ceil(n / 2), n + 1) if k and log_evidence(k, n - k) >= log_enough][:1]
