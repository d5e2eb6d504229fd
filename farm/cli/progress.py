"""What happens right now, to stderr: a live line on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from farm.cli import output

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from farm.schemas import EventTold, QueuePlace

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
LASTING = ("note", "retry", "granted", "requeued", "cancel")
"""Events that a person wants to find above the live line afterwards."""


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


@dataclass(frozen=True, slots=True)
class JobEvent:
    """What a farm tells of a Job, as an Event."""

    kind: str
    text: str
    block: int | None = None
    blocks: int | None = None
    fraction: float | None = None


def of_job(told: EventTold) -> JobEvent:
    """What a farm tells of a Job, in words. A newer farm may say what we do not know."""
    data = told.data
    if told.kind in ENDS:
        return JobEvent("end", str(data.get("verdict") or data.get("outcome") or told.kind))
    text = JOB_WORDS[told.kind](data) if told.kind in JOB_WORDS else str(data.get("text") or told.kind)
    block, blocks, fraction = data.get("block"), data.get("blocks"), data.get("fraction")
    return JobEvent(
        told.kind,
        text,
        block if isinstance(block, int) else None,
        blocks if isinstance(blocks, int) else None,
        float(fraction) if isinstance(fraction, (int, float)) else None,
    )


def queued(place: QueuePlace) -> str:
    """A place in the queue, in words."""
    wait = "" if place.expected_wait_s is None else f", about {span(place.expected_wait_s)} to go"
    return f"in the queue at place {place.position}{wait}; waits for {place.waits_for}"


def span(seconds: float) -> str:
    """A time that one waits, roughly: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _granted(data: Mapping[str, Any]) -> str:
    waited_s = data.get("waited_s")
    waited = f" after {span(waited_s)} in the queue" if isinstance(waited_s, (int, float)) and waited_s >= 1 else ""
    return f"board {data.get('board')} is free{waited}"


def _requeued(data: Mapping[str, Any]) -> str:
    reasons = [str(one.get("text")) for one in data.get("reasons") or () if isinstance(one, Mapping)]
    return f"back in the queue: {data.get('why') or '; '.join(reasons) or 'tried again'}"


ENDS = ("done", "cancelled", "refused", "end")
JOB_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "submitted": lambda data: "in the queue",
    "granted": _granted,
    "begun": lambda data: "a worker takes it up",
    "requeued": _requeued,
    "cancel": lambda data: f"{data.get('by') or 'somebody'} asked for its end",
}
"""What moves a Job on -> how it is said; all else is told by the Run itself."""


def sentence(event: Event) -> str:
    """An Event in a few words."""
    text = event.text
    if event.kind == "push":
        text = f"pushing {event.text}" if event.fraction is not None else event.text
    elif event.kind in ("stage", "timed"):
        text = AFTER.get(event.text, event.text)
    if event.kind == "pair":
        return text
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

    def send(self, done: int, total: int) -> None:
        """Bytes of the artifact sent to the farm."""
        if done >= total:
            self.note(f"sent {output.figure(total, 'size_bytes')}")
        elif self._clock() - self._spoke >= SILENCE_S:
            self.note(f"sent {100 * done // total} % of {output.figure(total, 'size_bytes')}")

    def note(self, text: str) -> None:
        """Something that a person wants to find afterwards."""
        if text != self._last:
            self._say(text)

    def place(self, place: QueuePlace) -> None:
        """The Job's place in the queue."""
        if self._clock() - self._spoke >= SILENCE_S or not self._now:
            self._now = queued(place)
            self._say(self._now)

    def watch(self, event: Event) -> None:
        """One Event of a Run."""
        if event.kind == "end":
            return
        if event.kind != "alive":
            self._now = sentence(event)
        is_passing = event.kind in ("alive", "stage", "submitted")
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

    def send(self, done: int, total: int) -> None:
        """Bytes of the artifact sent to the farm."""
        if done < total:
            self._bar.update(self._task, description="sending the model", completed=done, total=total)
        else:  # a bar that is full would stop the clock
            self._bar.update(self._task, description="sent the model", completed=0.0, total=1.0)

    def note(self, text: str) -> None:
        """Something that a person wants to find afterwards."""
        self._bar.console.print(output.printable(text))

    def place(self, place: QueuePlace) -> None:
        """The Job's place in the queue."""
        self._bar.update(self._task, description=output.printable(queued(place)), completed=0.0, total=1.0)

    def watch(self, event: Event) -> None:
        """One Event of a Run."""
        if event.kind in ("alive", "end"):
            return
        words = output.printable(sentence(event))
        if event.kind in LASTING or (event.kind == "block" and event.text != "OK"):
            self._bar.console.print(words)
        if event.fraction is None:
            self._bar.update(self._task, description=words)
        else:
            self._bar.update(self._task, description=words, completed=event.fraction, total=1.0)


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
