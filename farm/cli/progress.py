"""What happens right now, to stderr: a live line on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from farm.cli import output

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

AFTER = {
    "interpreter": "importing the runtime",
    "runtime": "loading the model",
    "load": "first inference",
    "first": "warming up",
    "timed": "timing",
    "steady": "collecting what was measured",
}
"""Stage that was reached -> what the subject does from then on, which is what a person waits for."""

SILENCE_S = 10.0  # of plain lines
LASTING = ("note", "retry")  # events a person wants to find above the live line afterwards


class Event(Protocol):
    """What `farm.execute` tells while a Run is on its way."""

    @property
    def kind(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def block(self) -> int | None: ...
    @property
    def blocks(self) -> int | None: ...
    @property
    def fraction(self) -> float | None: ...


def sentence(event: Event) -> str:
    """An Event in a few words."""
    text = event.text
    if event.kind == "push":
        text = f"pushing {event.text}" if event.fraction is not None else event.text
    elif event.kind in ("stage", "timed"):
        text = AFTER.get(event.text, event.text)
    if event.block is not None:
        text = f"process {event.block} of {event.blocks}: {text}"
    return text


class Lines:
    """Plain lines with the seconds since the start; what takes long is said again, so that nobody takes it for dead."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._spoke = clock()
        self._last = self._now = ""

    def receive(self, done: int, total: int) -> None:
        """Bytes of the artifact hashed and stored."""
        text = f"received {output.figure(total, 'size_bytes')}"
        if done >= total and text != self._last:
            self._say(text)

    def watch(self, event: Event) -> None:
        """One Event of a Run."""
        if event.kind == "end":
            return
        if event.kind != "alive":
            self._now = sentence(event)
        is_passing = event.kind in ("alive", "stage")
        if self._clock() - self._spoke >= SILENCE_S if is_passing else self._now != self._last:
            self._say(self._now)

    def _say(self, text: str) -> None:
        self._last, self._spoke = text, self._clock()
        output.say(f"{self._spoke - self._began:6.1f} s  {text}")


class Live:
    """One live line with a bar and the time that has passed; what lasts is printed above it."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=None)

    def receive(self, done: int, total: int) -> None:
        """Bytes of the artifact hashed and stored."""
        self._bar.update(self._task, description="receiving the model", completed=done, total=total or 1)

    def watch(self, event: Event) -> None:
        """One Event of a Run."""
        if event.kind in ("alive", "end"):
            return
        if event.kind in LASTING or (event.kind == "block" and event.text != "OK"):
            self._bar.console.print(sentence(event))
        if event.fraction is None:
            self._bar.update(self._task, description=sentence(event))
        else:
            self._bar.update(self._task, description=sentence(event), completed=event.fraction, total=1.0)


@contextmanager
def shown() -> Iterator[Lines | Live]:
    """Progress for the length of the block."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.console(sys.stderr), transient=True) as bar:
        yield Live(bar)
