"""Statistics: numbers in, numbers out. What it says of one metric is a Summary."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """What statistics says of one metric of one Block (`block` = its index) or over a Run's Blocks (`block` None)."""

    metric: str
    value: float | None  # None: absent; `reason` says why
    n: int  # samples per process (the fewest of any)
    processes: int
    low: float | None = None  # smallest and largest over processes; within one Block an order-statistic interval
    high: float | None = None
    block: int | None = None
    reason: str | None = None  # such as "needs 459"
