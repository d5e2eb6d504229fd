"""What is said while a Run is on its way."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from farm.cli import output, progress


@dataclass(frozen=True)
class Event:
    """One event, as `farm.execute` tells it."""

    kind: str
    text: str
    block: int | None = None
    blocks: int | None = None
    fraction: float | None = None


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Event("push", "m.onnx", fraction=0.5), "pushing m.onnx"),
        (Event("push", "evicted artifacts/ab to make room"), "evicted artifacts/ab to make room"),
        (Event("stage", "interpreter", 1, 5, 0.0), "process 1 of 5: importing the runtime"),
        (Event("stage", "runtime", 1, 5, 0.0), "process 1 of 5: loading the model"),
        (Event("stage", "first", 2, 5, 0.2), "process 2 of 5: warming up"),
        (Event("timed", "timed", 2, 5, 0.2), "process 2 of 5: timing"),
        (Event("stage", "a stage of tomorrow", 2, 5, 0.2), "process 2 of 5: a stage of tomorrow"),
        (Event("block", "NOISY; too few samples", 3, 5, 0.6), "process 3 of 5: NOISY; too few samples"),
    ],
)
def test_an_event_is_told_in_words_of_what_comes_next(event: Event, words: str) -> None:
    assert progress.sentence(event) == words


def test_plain_lines_leave_out_short_stages_and_repetitions(capsys: pytest.CaptureFixture[str]) -> None:
    lines = progress.Lines(lambda: 0.0)
    lines.receive(10, 2_000_000)
    lines.receive(2_000_000, 2_000_000)
    for fraction in (0.1, 0.5, 1.0):
        lines.watch(Event("push", "m.onnx", fraction=fraction))
    lines.watch(Event("stage", "load", 1, 5, 0.0))
    lines.watch(Event("alive", "", 1, 5, 0.0))
    lines.watch(Event("timed", "timed", 1, 5, 0.0))
    lines.watch(Event("end", "OK"))
    said = [line.split(" s  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert said == ["received 2 MB", "pushing m.onnx", "process 1 of 5: timing"]


def test_plain_lines_say_again_what_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    now = iter([0.0, 0.0, 5.0, 10.0, 10.0, 15.0, 20.0, 20.0])
    lines = progress.Lines(lambda: next(now))
    lines.watch(Event("stage", "runtime", 1, 5, 0.0))
    for _ in range(4):
        lines.watch(Event("alive", "", 1, 5, 0.0))
    assert capsys.readouterr().err.splitlines() == [
        "  10.0 s  process 1 of 5: loading the model",
        "  20.0 s  process 1 of 5: loading the model",
    ]


def test_the_live_line_shows_how_far_it_is_and_keeps_what_went_wrong_above() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, highlight=False, markup=False)
    with Progress(TextColumn("{task.description}", markup=False), console=console, auto_refresh=False) as bar:
        live = progress.Live(bar)
        live.receive(1, 4)
        assert (bar.tasks[0].completed, bar.tasks[0].total) == (1, 4)
        live.watch(Event("block", "NOISY; [bold]too few[/]", 3, 5, 0.6))
        live.watch(Event("alive", "", 3, 5, 0.9))
        assert (bar.tasks[0].completed, bar.tasks[0].total) == (0.6, 1.0)
    assert isinstance(console.file, io.StringIO)
    assert "process 3 of 5: NOISY; [bold]too few[/]" in console.file.getvalue()


def test_what_could_steer_a_terminal_is_not_printed() -> None:
    assert output.printable("a\x1b[2Jb\udcffc\nd") == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c\nd"
