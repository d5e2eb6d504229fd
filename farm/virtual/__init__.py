"""Virtual boards, for trying the farm without hardware: SSH servers on loopback that behave like boards.

They run in a process of their own (`python -m farm.virtual`) that ends with its stdin, so it never outlives the farm
that started it. What their sensors say is recorded or MODELLED, as `pi5.py` and `orin.py` tell; what runs on them runs
on this machine, for real, and is slowed for real when the model throttles. Their `root` marks them virtual.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncssh

from farm import hostkeys
from farm.domain import Board
from farm.errors import InputError, LabError

BOARDS_FILE = "boards.json"
LOG_FILE = "log"
MOST_BOARDS = 64
_START_S = 30.0
_STOP_S = 15.0
_LOOK_AGAIN_S = 0.02


class VirtualBoards:
    """The virtual boards of one farm."""

    def __init__(self, folder: Path, count: int, *, hot: int = 0, python: str = sys.executable) -> None:
        """`count` boards, of which the first `hot` throttle under load. `python` has the runtimes."""
        if not 1 <= count <= MOST_BOARDS or not 0 <= hot <= count:
            raise InputError(
                f"{count} virtual boards, {hot} of them hot, cannot be started: 1 to {MOST_BOARDS} boards, and no more "
                "hot ones than there are. Correct the number."
            )
        self._folder, self._count, self._hot, self._python = folder.absolute(), count, hot, python
        self._process: subprocess.Popen[bytes] | None = None
        self._found: list[dict[str, Any]] = []

    def start(self) -> None:
        """Start them and wait until all listen. Raises LabError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        listing, log = self._folder / BOARDS_FILE, self._folder / LOG_FILE
        listing.unlink(missing_ok=True)
        words = ["--folder", str(self._folder), "--count", str(self._count), "--hot", str(self._hot)]
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "farm.virtual", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,  # a Ctrl-C is the farm's to hear, which then ends them
            )
        deadline = time.monotonic() + _START_S
        while not listing.exists():
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                self.stop()
                seen = f"exit status {status}" if status is not None else f"not ready after {_START_S:g} s"
                last = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
                raise LabError(f"The virtual boards did not start: {seen}. {''.join(last)} See {log}.")
            time.sleep(_LOOK_AGAIN_S)
        self._found = json.loads(listing.read_text("utf-8"))

    def boards(self) -> tuple[Board, ...]:
        """They, as an inventory would name them; empty before `start`."""
        return tuple(
            Board(
                one["name"],
                transport="ssh",
                address=one["address"],
                python=self._python,
                home=one["home"],
                tags=("virtual",),
                is_virtual=True,
                root=one["root"],
                options={"keys": [one["key"]]},
            )
            for one in self._found
        )

    def pin(self, known_hosts: Path) -> None:
        """Trust their host keys; those of an earlier start in the same folder are forgotten."""
        comment = f"virtual:{self._folder}".replace(" ", "_")
        if known_hosts.exists():
            lines = known_hosts.read_text().splitlines(keepends=True)
            kept = [line for line in lines if not line.rstrip("\n").endswith(f" {comment}")]
            if kept != lines:
                part = known_hosts.with_name(known_hosts.name + ".part")
                part.write_text("".join(kept))
                part.chmod(0o600)
                part.replace(known_hosts)
        for one in self._found:
            key = asyncssh.import_public_key(one["host_key"])
            key.set_comment(comment)
            hostkeys.pin(known_hosts, "127.0.0.1", int(one["address"].rpartition(":")[2]), key)

    def stop(self) -> None:
        """End them and all that runs on them. May be called again."""
        if self._process is None:
            return
        process, self._process, self._found = self._process, None, []
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
