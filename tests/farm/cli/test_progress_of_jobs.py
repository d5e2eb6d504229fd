"""What is said while a Job of a farm is on its way: to a terminal, and to a log."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from farm.cli import progress
from farm.schemas import EventTold, QueuePlace
from tests.farm.standin import event

PLACE = QueuePlace(position=3, expected_wait_s=754.0, waits_for="a free board: all 2 that fit are measuring")


def _told(kind: str, **data: Any) -> EventTold:
    return EventTold.model_validate(event(1, kind, **data))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (_told("submitted"), "in the queue"),
        (_told("granted", board="pi5-a", waited_s=95.0), "board pi5-a is free after 2 min in the queue"),
        (_told("granted", board="pi5-a", waited_s=0.2), "board pi5-a is free"),
        (_told("begun", worker="lab1"), "a worker takes it up"),
        (_told("requeued", why="no worker took it up"), "back in the queue: no worker took it up"),
        (
            _told("requeued", reasons=[{"text": "It throttled."}, {"text": "Hot."}]),
            "back in the queue: It throttled.; Hot.",
        ),
        (_told("requeued"), "back in the queue: tried again"),
        (_told("cancel", by="ann"), "ann asked for its end"),
        (_told("stage", text="load", block=2, blocks=5, fraction=0.2), "process 2 of 5: first inference"),
        (_told("push", text="artifact", fraction=0.5), "pushing artifact"),
        (_told("tomorrow", text="a word of tomorrow"), "a word of tomorrow"),
        (_told("tomorrow"), "tomorrow"),
        (_told("stage", text=7, block="x", blocks=None, fraction="y"), "7"),
    ],
)
def test_an_event_of_a_job_is_told_in_words(told: EventTold, words: str) -> None:
    assert progress.sentence(progress.of_job(told)) == words


@pytest.mark.parametrize("kind", ["done", "cancelled", "refused"])
def test_the_last_event_is_the_end(kind: str) -> None:
    found = progress.of_job(_told(kind, state=kind, outcome="OK", verdict="PASS"))
    assert (found.kind, found.text) == ("end", "PASS")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89.0, "89 s"), (90.0, "2 min"), (5399.0, "90 min"), (5400.0, "1.5 h")]
)
def test_a_wait_is_told_roughly(seconds: float, words: str) -> None:
    assert progress.span(seconds) == words


def test_a_place_in_the_queue_is_told_with_what_is_waited_for() -> None:
    assert progress.queued(PLACE) == (
        "in the queue at place 3, about 13 min to go; waits for a free board: all 2 that fit are measuring"
    )
    assert progress.queued(PLACE.model_copy(update={"expected_wait_s": None})).startswith("in the queue at place 3; ")


def test_a_log_tells_the_place_at_first_and_then_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = progress.Lines(lambda: now[0])
    for seconds, position in ((0.0, 3), (5.0, 2), (15.0, 1)):
        now[0] = seconds
        lines.place(PLACE.model_copy(update={"position": position}))
    said = [line.split(" s  ", 1)[1][:23] for line in capsys.readouterr().err.splitlines()]
    assert said == ["in the queue at place 3", "in the queue at place 1"]


def test_a_log_tells_of_a_long_upload_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = progress.Lines(lambda: now[0])
    for seconds in range(0, 26):
        now[0] = float(seconds)
        lines.send(seconds * 1_000_000, 25_000_000)
    said = [line.split(" s  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert said == ["sent 40 % of 25 MB", "sent 80 % of 25 MB", "sent 25 MB"]


def test_a_terminal_is_told_what_lasts_above_the_live_line_and_nothing_steers_it() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=False, width=200, markup=False)
    with Progress(TextColumn("{task.description}", markup=False), console=console) as bar:
        live = progress.Live(bar)
        live.send(1, 2)
        live.send(2, 2)
        live.place(PLACE)
        assert not bar.finished
        for told in (_told("submitted"), _told("granted", board="pi\x1b[2Jb"), _told("stage", text="load")):
            live.watch(progress.of_job(told))
        live.note("the farm answers again")
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["board pi\ufffd[2Jb is free", "the farm answers again"]
