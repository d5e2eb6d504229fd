"""What runs on the virtual boards: the sessions' programs and all that descends from them, read from /proc.

This process is their subreaper (prctl(2)): whatever loses its parent becomes our child, so nothing gets away. Only
Linux; needs no rights beyond the present user's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_KILL_S = 5.0
_LOOK_AGAIN_S = 0.01
ORPHANS = ""  # owner of what lost its parent before it was ever seen


@dataclass(slots=True)
class _Process:
    owner: str
    cpu_s: float = 0.0
    used_s: float = 0.0  # between the last two samples
    is_alive: bool = True


class Processes:
    """The processes of all boards, by pid."""

    def __init__(self) -> None:
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        self._known: dict[int, _Process] = {}
        self._foreign: set[int] = set()
        self._children: set[int] = set()  # those that asyncio reaps

    def add(self, pid: int, owner: str) -> None:
        """A session's program was started."""
        self._known[pid] = _Process(owner)
        self._children.add(pid)
        self._foreign.discard(pid)

    def reaped(self, pid: int) -> None:
        """It ended, and its pid may be somebody else's from now on."""
        self._known.pop(pid, None)
        self._children.discard(pid)

    def sample(self) -> None:
        """Look at /proc: who is there, and what CPU time each has used since the sample before."""
        listed = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 - five times a second
        self._foreign &= listed
        seen = {pid: stat for pid in listed - self._foreign if pid != os.getpid() and (stat := _stat(pid))}
        self._known = {pid: process for pid, process in self._known.items() if pid in seen}
        self._sort_new({pid: stat for pid, stat in seen.items() if pid not in self._known})
        for pid, process in self._known.items():
            state, parent, cpu_s = seen[pid]
            process.used_s, process.cpu_s = max(0.0, cpu_s - process.cpu_s), cpu_s
            process.is_alive = state not in "ZX"
            if not process.is_alive and parent == os.getpid() and pid not in self._children:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _sort_new(self, new: dict[int, tuple[str, int, float]]) -> None:
        """Whose they are goes by their parents; one whose parent vanished meanwhile is left for the next sample."""
        is_moving = True
        while is_moving and new:
            is_moving = False
            for pid, (_, parent, _) in list(new.items()):
                if parent in self._known or parent == os.getpid():
                    owner = self._known[parent].owner if parent in self._known else ORPHANS
                    self._known[pid] = _Process(owner)
                elif parent in self._foreign or parent == 0:
                    self._foreign.add(pid)
                else:
                    continue
                del new[pid]
                is_moving = True

    def alive(self, owner: str | None = None) -> list[int]:
        """Pids of one owner's processes, or of all, at the last sample."""
        return [pid for pid, one in self._known.items() if one.is_alive and owner in (None, one.owner)]

    def used_s(self, owner: str) -> dict[int, float]:
        """CPU time of each of the owner's processes between the last two samples."""
        return {pid: one.used_s for pid, one in self._known.items() if one.owner == owner}

    def tree(self, top: int) -> list[int]:
        """A process and what descends from it, of those alive at the last sample."""
        found, parents = [top], {pid: stat[1] for pid in self.alive() if (stat := _stat(pid))}
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return [pid for pid in found if pid in parents]

    def strays(self, owner: str) -> list[int]:
        """Processes of the owner that no session's program holds; orphans too, once there is no session at all."""
        held = {pid for top in self._children for pid in self.tree(top)}
        found = [*self.alive(owner), *(self.alive(ORPHANS) if not self._children else [])]
        return [pid for pid in found if pid not in held]

    async def kill(self, which: Callable[[], list[int]]) -> None:
        """Kill those processes, looking again until there are none: one may fork while it is looked for."""
        deadline = time.monotonic() + _KILL_S
        while time.monotonic() < deadline:
            self.sample()
            left = which()
            if not left:
                return
            for pid in left:
                send(pid, signal.SIGKILL)
            await asyncio.sleep(_LOOK_AGAIN_S)


def send(pid: int, number: signal.Signals) -> None:
    """A signal to a process that may be gone, or have become another user's (sudo)."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _stat(pid: int) -> tuple[str, int, float] | None:
    """(state, parent, CPU time in s) of proc_pid_stat(5); None where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - five times a second
            # the second field is the program's name in brackets and may itself hold spaces and brackets
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[1]), (int(fields[11]) + int(fields[12])) * _TICK_S
    except (OSError, IndexError):
        return None
