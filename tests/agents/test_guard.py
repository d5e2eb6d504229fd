"""The board's own lock: who is refused, who waits, what is remembered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from farm_agent import guard

HOLD = """
import signal, sys; sys.path.insert(0, sys.argv[5])
from farm_agent import guard
import time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
g = guard.Guard(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), "other@there")
try:
    g.acquire(time.sleep, 20)
except guard.Refused as error:
    print(error.code, flush=True)
    raise SystemExit(3)
print("held", flush=True)
while not g.is_superseded():
    time.sleep(0.01)
g.release()
print("released", flush=True)
"""
SOURCES = str(Path(guard.__file__).parents[1])


class Board:
    def __init__(self, folder: Path) -> None:
        self.root, self.home = folder / "root", folder / "home"
        (self.root / "run/lock").mkdir(parents=True)
        self.home.mkdir()
        self.lock = self.root / "run/lock/benchfarm.lock"
        self.others: list[subprocess.Popen[str]] = []

    def guard(self, token: int, farm: str = "farm-1") -> guard.Guard:
        return guard.Guard(str(self.root), str(self.home), farm, token, "me@here")

    def hold_elsewhere(self, token: int, farm: str = "farm-1") -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", HOLD, str(self.root), str(self.home), farm, str(token), SOURCES]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.others.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.lock.read_text())
        return content

    def log(self) -> list[tuple[str, int]]:
        lines = [json.loads(line) for line in (self.home / "guard.log").read_text().splitlines()]
        return [(line["what"], line["token"]) for line in lines]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board(tmp_path)
    yield made
    for process in made.others:
        process.kill()
        process.communicate()


def refusal(taker: guard.Guard, wait_s: float = 5.0) -> tuple[str, str]:
    with pytest.raises(guard.Refused) as caught:
        taker.acquire(time.sleep, wait_s)
    taker.release()
    return caught.value.code, str(caught.value)


def test_another_farm_is_refused_whatever_its_token(board: Board) -> None:
    board.hold_elsewhere(3)
    code, text = refusal(board.guard(99, farm="farm-2"))
    assert code == "busy"
    assert "another farm holds it; held by other@there (pid" in text


def test_a_machine_that_one_farm_knows_by_two_names_says_by_which_it_is_held(board: Board) -> None:
    board.hold_elsewhere(3, farm="farm-1/pi5-a")
    _, text = refusal(board.guard(9, farm="farm-1/pi5-b"))
    assert "this farm holds the same machine as board 'pi5-a'; held by" in text


def test_another_farm_may_have_the_free_board_with_any_token(board: Board) -> None:
    first = board.guard(50)
    first.acquire(time.sleep)
    first.release()
    second = board.guard(1, farm="farm-2")
    second.acquire(time.sleep)
    assert second.is_held
    second.release()
    assert board.content() == {"holder": None, "marks": {"farm-1": 50, "farm-2": 1}, "request": None}


def test_a_lower_token_is_refused_while_held_and_when_free(board: Board) -> None:
    holder = board.guard(7)
    holder.acquire(time.sleep)
    assert refusal(board.guard(6))[0] == "refused_token"
    holder.release()
    code, text = refusal(board.guard(6))
    assert code == "refused_token"
    assert text == (
        "The board was not given to token 6: token 7 of the same farm was here before; held by nobody. "
        "Ask the farm for a new lease."
    )


def test_the_same_token_is_refused_while_held_and_taken_back_when_free(board: Board) -> None:
    other = board.hold_elsewhere(7)
    assert refusal(board.guard(7))[0] == "busy"
    other.kill()
    other.wait()
    again = board.guard(7)
    again.acquire(time.sleep)
    assert again.notes == [f"The agent of other@there (token 7, pid {other.pid}) ended without giving the board back."]
    again.release()


def test_a_higher_token_waits_until_the_holder_has_left(board: Board) -> None:
    other = board.hold_elsewhere(7)
    taker = board.guard(8)
    taker.acquire(time.sleep)
    assert other.stdout is not None
    assert other.stdout.readline() == "released\n"
    assert taker.is_held
    taker.release()
    assert board.log() == [("acquire", 7), ("supersede", 8), ("release", 7), ("acquire", 8), ("release", 8)]


def test_a_holder_that_does_not_leave_makes_the_board_busy_and_keeps_lower_tokens_out(board: Board) -> None:
    holder = board.guard(7)
    holder.acquire(time.sleep)
    assert not holder.is_superseded()
    # The holder is this very process, so SIGTERM must not be sent to it.
    content = board.content()
    content["holder"]["started"] += 1
    board.lock.write_text(json.dumps(content))
    code, text = refusal(board.guard(8), wait_s=0.2)
    assert code == "busy"
    assert "it did not end within 0.2 s of being asked" in text
    assert holder.is_superseded()
    holder.release()
    assert refusal(board.guard(7))[0] == "refused_token"


def test_a_lock_file_that_was_replaced_stops_the_holder(board: Board) -> None:
    holder = board.guard(7)
    holder.acquire(time.sleep)
    board.lock.unlink()
    assert holder.is_superseded()
    holder.release()


@pytest.mark.parametrize("content", ["", "garbage", "[]", '{"marks": [], "holder": 7}', "[" * 60000])
def test_a_lock_file_full_of_nonsense_counts_as_free(board: Board, content: str) -> None:
    board.lock.write_text(content)
    taker = board.guard(1)
    taker.acquire(time.sleep)
    assert board.content()["holder"]["token"] == 1
    taker.release()


def test_the_lock_file_is_open_to_every_user_whatever_the_umask(board: Board) -> None:
    before = os.umask(0o077)
    try:
        board.guard(1).release()
    finally:
        os.umask(before)
    assert board.lock.stat().st_mode & 0o777 == 0o666


def test_a_link_in_place_of_the_lock_is_not_followed(board: Board, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    board.lock.symlink_to(victim)
    with pytest.raises(guard.Refused, match="Give every user the right to write there"):
        board.guard(1)
    assert victim.read_text() == "precious"


def test_without_run_lock_the_lock_lives_in_tmp(board: Board) -> None:
    (board.root / "run/lock").rmdir()
    (board.root / "tmp").mkdir()
    board.guard(1).release()
    assert (board.root / "tmp/benchfarm.lock").exists()


def test_the_log_is_bounded(board: Board) -> None:
    (board.home / "guard.log").write_text("x" * (guard.LOG_BYTES + 1))
    taker = board.guard(1)
    taker.acquire(time.sleep)
    taker.release()
    assert board.log() == [("acquire", 1), ("release", 1)]
    assert (board.home / "guard.log.1").stat().st_size == guard.LOG_BYTES + 1


def test_of_many_takers_at_once_one_holds_at_a_time(board: Board) -> None:
    argv = [sys.executable, "-c", HOLD, str(board.root), str(board.home), "farm-1"]
    board.others = [subprocess.Popen([*argv, str(n), SOURCES], stdout=subprocess.PIPE, text=True) for n in range(1, 7)]
    winner = board.others[-1]
    assert winner.stdout is not None
    assert winner.stdout.readline() == "held\n"
    for process in board.others[:-1]:
        assert process.wait(30) in (0, 3)
    held: list[int] = []
    for what, token in board.log():
        if what == "acquire":
            held.append(token)
        if what == "release":
            held.remove(token)
        assert len(held) <= 1
    assert held == [6]
