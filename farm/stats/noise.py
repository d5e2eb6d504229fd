"""How noisy a Board is, of a canary's pairs; what that allows: the smallest margin, and how long a Block should be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from farm.stats.evidence import FLOOR, MAD_TO_SD

WIDER = 1.3  # sigma0 over the canary's own spread: too wide costs little, too narrow more
RESOLVED = 1.5  # a margin of sd / 1.5 is decided within
RESOLVED_PAIRS = 80  # so many pairs; with fewer, a wider one
CANARY_PAIRS = 8  # fewer say too little of a spread
DEFAULT_QUERIES = 50


@dataclass(frozen=True, slots=True)
class Noise:
    """The spread of `d` where nothing differs."""

    sd: float  # 1.4826 MAD
    sigma0: float
    pairs: int


def noise(d: Sequence[float]) -> Noise | None:
    """The Noise that the pairs of an A/A canary show. None where they are too few."""
    if len(d) < CANARY_PAIRS:
        return None
    sd = MAD_TO_SD * float(np.median(np.abs(np.asarray(d) - np.median(d))))
    return Noise(sd, WIDER * sd, len(d))


def floor(quantum: float, level: float) -> float:
    """The smallest sigma of a metric that comes in steps of `quantum`, at this level: half a step, or FLOOR."""
    return max(FLOOR, quantum / (2 * abs(level))) if level else FLOOR


def smallest_margin(sd: float, pairs: int = RESOLVED_PAIRS) -> float:
    """The smallest change, as a share, that so many pairs of this spread can tell from none."""
    return math.expm1(max(sd / RESOLVED * math.sqrt(RESOLVED_PAIRS / pairs), 0.0))


def queries(
    start_s: float,
    latency_s: float,
    within_sd: float | None,
    between_sd: float | None,
    bounds: tuple[int, int] = (25, 1000),
) -> int:
    """`m*`: how many queries of a Block tell most in a second of the Board. start_s: load and warm-up of a Block.

    The two spreads are of one query within a process, and of a process's median between processes. Where one is not
    known, DEFAULT_QUERIES.
    """
    if within_sd is None or between_sd is None or not latency_s > 0 or not start_s >= 0:
        wanted = float(DEFAULT_QUERIES)
    elif not between_sd > 0:
        wanted = math.inf
    else:
        wanted = math.sqrt(start_s / latency_s) * within_sd / between_sd
    return int(min(max(math.ceil(min(wanted, bounds[1])), bounds[0]), bounds[1]))
