"""What a person reads: results to stdout, everything else to stderr. Styled only where a terminal reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from farm import units
from farm.errors import Cancelled

if TYPE_CHECKING:  # rich costs 70 ms
    from rich.console import Console

WIDTH = 160  # of a table that no terminal limits
SHORT = 13  # digits of a uuid7 that hold its millisecond: enough to type, rarely shared


def say(text: str) -> None:
    """One thing for the person who waits; never part of the result."""
    print(printable(text), file=sys.stderr, flush=True)


def result(text: str) -> None:
    """One line of the result."""
    print(printable(text))


def result_json(data: Mapping[str, Any] | Sequence[Any]) -> None:
    """The result as one JSON value, non-finite numbers as null."""
    print(json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False, default=str))


def result_line(data: Mapping[str, Any]) -> None:
    """One JSON value of many, on one line of its own."""
    print(json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, default=str), flush=True)


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if a person says so; where none can be asked, whoever wrote the command has said so.

    Raises Cancelled.
    """
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    import typer

    if not typer.confirm(printable(f"{question}?"), default=False, err=True):
        raise Cancelled("Nothing was changed: the answer was no.")


def console(stream: TextIO) -> Console:
    """A console that never wraps a table where no terminal reads it."""
    from rich.console import Console

    width = None if stream.isatty() else WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """Rows under their headings, to stdout; columns numbered in `right` are aligned to the right."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    numbers = set(right)
    for place, column in enumerate(columns):
        grid.add_column(column, justify="right" if place in numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*map(printable, row))
    out = console(sys.stdout)
    with out.capture() as capture:
        out.print(grid)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def printable(text: str) -> str:
    """The text without what could steer a terminal, or cannot be encoded: names come from strangers."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def short(run_id: str) -> str:
    """A Run's id as one types it."""
    return run_id[:SHORT]


def figure(value: float | None, metric: str) -> str:
    """A value with its unit; bare where the metric's last word is no unit we know."""
    try:
        return units.format(value, metric)
    except ValueError:
        return "–" if value is None else str(value)


def _plain(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple, set, frozenset)):
        return [_plain(value) for value in data]
    if isinstance(data, float) and not -float("inf") < data < float("inf"):
        return None
    return data
