"""Faults for real: processes are killed, connections cut, and what is left on the board is looked for in /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from tests.trip.conftest import board as board
from tests.trip.conftest import trip as trip

BUSY = {"duration_s": 60.0, "processes": 2, "min_queries": 20, "warmup_s": 0.02, "warmup_queries": 2}


def processes_of(home: Path) -> dict[int, list[str]]:
    """Every process that works for benchfarm's folder `home` on this machine: pid -> its command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = [os.fsdecode(word) for word in (folder / "cmdline").read_bytes().split(b"\0") if word]
                at_home = str((folder / "cwd").readlink()).startswith(str(home))
                if words and (at_home or any(word.startswith(str(home)) for word in words)):
                    found[int(folder.name)] = words
    return found


def is_clean(home: Path, within_s: float = 20.0) -> bool:
    """Whether, soon, no process works for that folder any more."""
    deadline = time.monotonic() + within_s
    while processes_of(home) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not processes_of(home)


def kill(home: Path, word: str) -> None:
    """SIGKILL the one process of that folder whose command line has that word."""
    pids = [pid for pid, words in processes_of(home).items() if word in words]
    assert pids, f"no {word} among {processes_of(home)}"
    os.kill(pids[0], signal.SIGKILL)
