"""What each metric's last word means: its unit, which direction is better, how to print it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Direction = Literal["lower", "higher", "neither"]


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit behind a suffix. `scales` are (factor, symbol) from small to large, for printing only."""

    suffix: str
    symbol: str
    better: Direction
    scales: tuple[tuple[float, str], ...]


_BYTES = ((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"))
_SECONDS = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))

UNITS = {
    unit.suffix: unit
    for unit in (
        Unit("ns", "ns", "lower", ((1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))),
        Unit("us", "µs", "lower", ((1.0, "µs"), (1e3, "ms"), (1e6, "s"))),
        Unit("s", "s", "lower", _SECONDS),
        Unit("bytes", "B", "lower", _BYTES),
        Unit("hz", "Hz", "higher", ((1.0, "Hz"), (1e3, "kHz"), (1e6, "MHz"), (1e9, "GHz"))),
        Unit("c", "°C", "lower", ((1.0, "°C"),)),
        Unit("w", "W", "lower", ((1e-3, "mW"), (1.0, "W"))),
        Unit("j", "J", "lower", ((1e-6, "µJ"), (1e-3, "mJ"), (1.0, "J"))),
        Unit("v", "V", "neither", ((1e-3, "mV"), (1.0, "V"))),
        Unit("a", "A", "lower", ((1e-3, "mA"), (1.0, "A"))),
        Unit("ratio", "", "lower", ((1.0, ""),)),
        Unit("count", "", "lower", ((1.0, ""),)),
        Unit("faults", "", "lower", ((1.0, ""),)),
        Unit("rpm", "rpm", "neither", ((1.0, "rpm"),)),
        Unit("per_s", "/s", "higher", ((1.0, "/s"), (1e3, "k/s"))),
    )
}


def unit_of(metric: str) -> Unit:
    """The unit that a metric's name ends in. Raises ValueError for an unknown suffix."""
    words = metric.rpartition(".")[2].split("_")
    for length in (2, 1):
        unit = UNITS.get("_".join(words[-length:]))
        if unit and len(words) >= length:
            return unit
    raise ValueError(f"metric {metric!r} ends in no known unit; known: {', '.join(sorted(UNITS))}")


def format(value: float | None, metric: str, digits: int = 4) -> str:
    """A figure as people read it, such as `1.637 ms`; an en dash where it is absent."""
    unit = unit_of(metric)
    if value is None or math.isnan(value):
        return "–"
    factor, symbol = unit.scales[0]
    for candidate in unit.scales:
        if abs(value) >= candidate[0]:
            factor, symbol = candidate
    scaled = value / factor
    text = f"{scaled:.{digits}g}" if abs(scaled) < 10**digits else f"{scaled:.0f}"
    return f"{text} {symbol}".rstrip()
