"""One virtual board: its folders, its door, the programs that run on it, and its thermal model kept up to date.

Below <folder>/<name>: `home`, the HOME of its sessions, with benchfarm's own .benchfarm in it, kept from start to
start; `bin`, the first in their PATH; `root`, its tree, made anew at each start.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import asyncssh

from farm.virtual import orin, pi5, server, thermal, tree
from farm.virtual.brake import slow
from farm.virtual.processes import Processes

KINDS = (pi5.KIND, orin.KIND)  # in turn: virtual-1 is a Pi, virtual-2 a Jetson, virtual-3 a Pi
BUSY_S = 0.2  # between two looks at what runs
COOLING_S = 1.0  # between two looks while nothing runs
BUSY_RATIO = 0.1  # of a core: what uses more is slowed when the board throttles


class VirtualBoard:
    """A board that listens."""

    def __init__(
        self, name: str, folder: Path, kind: tree.Kind, profile: thermal.Profile, processes: Processes
    ) -> None:
        self.name, self.folder, self.kind, self.profile = name, folder, kind, profile
        self.home, self.bin, self.root = folder / "home", folder / "bin", folder / "root"
        self.state = thermal.rest(profile)
        self._processes = processes
        self._writer = tree.Writer(self.root)
        self._busy: tuple[int, ...] = ()
        self._brake: asyncio.Task[None] | None = None
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.port = 0

    def plant(self) -> None:
        """Its folders and files. What lies in its home stays."""
        for path in (self.folder, self.home):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        tree.plant(self.root, self.kind)
        if self.bin.exists():
            shutil.rmtree(self.bin)
        self.bin.mkdir()
        for name, text in self.kind.programs(self.root).items():
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        self.write()

    async def listen(self, client_key: asyncssh.SSHKey, wake: asyncio.Event) -> server.Door:
        """Open its door on a free port of loopback."""
        path = f"{self.bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        door = server.Door(self.name, self.home, path, client_key, self._processes, wake)
        self.port = await door.listen(self.host_key)
        return door

    def write(self) -> None:
        """The model's state as the board's files."""
        self._writer.write(self.kind.live(self.profile, self.state, tree.governor(self.root)))

    def advance(self, dt_s: float) -> None:
        """Go on with the model by what ran since the sample before."""
        used_s = self._processes.used_s(self.name)
        self._busy = tuple(pid for pid, one_s in used_s.items() if one_s > BUSY_RATIO * dt_s)
        self.state = thermal.step(self.profile, self.state, dt_s, sum(used_s.values()) / dt_s)
        self.write()
        if self.state.level is not thermal.Level.FREE and self._brake is None:
            self._brake = asyncio.create_task(slow(lambda: self._busy, self._factor))
        if self.state.level is thermal.Level.FREE and self._brake is not None:
            self._brake.cancel()
            self._brake = None

    def is_at_rest(self) -> bool:
        """True where nothing runs and nothing will change."""
        return not self._processes.alive(self.name) and thermal.is_settled(self.profile, self.state)

    async def release(self) -> None:
        """Let what is slowed run on."""
        if self._brake is not None:
            self._brake.cancel()
            await asyncio.gather(self._brake, return_exceptions=True)
            self._brake = None

    def _factor(self) -> float:
        return thermal.clock_factor(self.profile, self.state.level)


async def keep(boards: Sequence[VirtualBoard], processes: Processes, wake: asyncio.Event) -> None:
    """Keep the boards' models going until cancelled. `wake` is set when a program starts; till then nothing is done."""
    try:
        before = time.monotonic()
        while True:
            is_idle = all(board.is_at_rest() for board in boards)
            pause_s = None if is_idle else BUSY_S if processes.alive() else COOLING_S
            wake.clear()
            if pause_s == BUSY_S:
                await asyncio.sleep(BUSY_S)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await wake.wait()
            now = time.monotonic()
            processes.sample()
            for board in boards:
                # asleep, nothing ran and nothing changed: that time does not count
                board.advance(max(1e-3, now - before) if not is_idle else 1e-3)
            before = now
    finally:
        for board in boards:
            await board.release()
