"""Virtual boards for tests, and what they leave behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm import domain
from farm.settings import Settings
from farm.virtual import VirtualBoards

Start = Callable[..., VirtualBoards]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start virtual boards in a folder; all end with the test."""
    started: list[VirtualBoards] = []

    def start(count: int = 1, *, hot: int = 0, folder: str = "virtual") -> VirtualBoards:
        boards = VirtualBoards(tmp_path / folder, count, hot=hot)
        started.append(boards)
        boards.start()
        boards.pin(tmp_path / "known_hosts")
        return boards

    yield start
    for boards in started:
        boards.stop()


@pytest.fixture
def known(tmp_path: Path) -> Settings:
    """Settings that know their host keys."""
    return Settings(known_hosts=tmp_path / "known_hosts", data_dir=tmp_path / "data")


def running(marker: str) -> list[int]:
    """Pids of processes with that word in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and marker.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended while we looked
    return found


def until(claim: Callable[[], bool], limit_s: float = 15.0) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + limit_s
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def tree_file(board: domain.Board, path: str) -> str:
    """What a file of the board's tree says now."""
    return (Path(board.root) / path.lstrip("/")).read_text().strip()
