"""The metrics with one figure a Block: cold-load memory and time, as measurement.md defines them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farm_agent import wire

from farm import domain

_COLD = wire.STAGES[: wire.STAGES.index("first") + 1]


def scalars(block: domain.BlockResult) -> dict[str, float | None]:
    """The metrics with one figure a Block: cold-load memory and time, as measurement.md defines them."""
    stages = block.stages
    runtime, first, steady = (stages.get(name, {}) for name in ("runtime", "first", "steady"))
    cold_peaks = [_number(stages.get(stage, {}), "peak_bytes") for stage in _COLD]
    return {
        "cold_load_rss_bytes": _largest(cold_peaks),
        "load_peak_bytes": _number(stages.get("load", {}), "peak_bytes"),
        "first_peak_bytes": _number(first, "peak_bytes"),
        "model_rss_bytes": _difference(_number(first, "rss_bytes"), _number(runtime, "rss_bytes")),
        "steady_rss_bytes": _number(steady, "rss_bytes"),
        "rss_growth_bytes": _number(block.facts, "rss_growth_bytes"),
        "virtual_peak_bytes": _largest([_number(values, "virtual_peak_bytes") for values in stages.values()]),
        "cgroup_peak_bytes": _number(block.facts, "cgroup_peak_bytes"),
        "load_ns": _number(stages.get("load", {}), "duration_ns"),
        "first_inference_ns": _number(first, "duration_ns"),
        "time_to_first_inference_ns": _number(block.facts, "time_to_first_inference_ns"),
        "load_major_faults": _number(stages.get("load", {}), "major_faults"),
    }


def _number(data: Mapping[str, Any], name: str) -> float | None:
    value = data.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _largest(values: Sequence[float | None]) -> float | None:
    """The largest, or None where any is absent: a peak that was not seen might have been the largest."""
    present = [value for value in values if value is not None]
    return max(present) if len(present) == len(values) and present else None


def _difference(later: float | None, earlier: float | None) -> float | None:
    return None if later is None or earlier is None else later - earlier
