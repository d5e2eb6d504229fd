"""What the farm's benchmark prints: figures, whether they hold what is promised, Markdown tables."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

NOT = "DOES NOT HOLD"
START, END = "<!-- tables: `make bench-farm` -->", "<!-- end of tables -->"

Row = tuple[str, ...]


def ms(value: float) -> str:
    """A time as it is printed."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def middle(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """The 95th percentile: the smallest value that 95 % do not exceed."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def below(text: str, found: Sequence[float], limit_ms: float) -> Row:
    """A row of times, every one of which is promised to be below a limit."""
    return (text, *map(ms, found), f"{limit_ms:.0f} ms", "holds" if max(found) < limit_ms else NOT)


def grown(text: str, found: Sequence[float], sizes: Sequence[int], limit_ms: float | None = None) -> Row:
    """A row on how a time in ms grows with the lab; the exponent 1 is linear."""
    exponent = _exponent(found, sizes)
    holds = exponent <= 1.0 and (limit_ms is None or found[-1] < limit_ms)
    promised = "linear" if limit_ms is None else f"linear, {limit_ms:.0f} ms"
    return (text, *map(ms, found), f"{exponent:.2f}", promised, "holds" if holds else NOT)


def grown_bytes(text: str, found: Sequence[float], sizes: Sequence[int]) -> Row:
    """The same of a memory, in bytes."""
    exponent = _exponent(found, sizes)
    shown = (f"{one / 1e6:.0f} MB" for one in found)
    return (text, *shown, f"{exponent:.2f}", "linear", "holds" if exponent <= 1.0 else NOT)


def _exponent(found: Sequence[float], sizes: Sequence[int]) -> float:
    return math.log(found[-1] / found[0]) / math.log(sizes[-1] / sizes[0]) if len(sizes) > 1 else 0.0


def table(head: Row, rows: Sequence[Row]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def put(text: str, page: Path) -> None:
    """Put it on a page, between its two marks. Raises ValueError where they are not there."""
    before, start, rest = page.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{page} has no lines {START!r} and {END!r}")
    page.write_text(f"{before}{START}\n\n{text.strip()}\n\n{END}{after}")


def progress(text: str) -> None:
    """Say how far it is."""
    print(f"  {text}", file=sys.stderr, flush=True)
