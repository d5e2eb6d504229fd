"""This machine as a board: what only it has."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from farm import domain, errors, transport
from farm.settings import Settings


def test_an_option_is_your_input(tmp_path: Path) -> None:
    async def trip() -> None:
        async with transport.reach(domain.Board("here", options={"keys": []}), Settings(data_dir=tmp_path)):
            pass

    with pytest.raises(errors.InputError, match="'keys', which transport 'local' does not know; known: none"):
        asyncio.run(trip())


def test_the_default_home_and_a_programs_folder_are_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    async def trip() -> tuple[str, bytes]:
        async with transport.reach(domain.Board("here"), Settings(data_dir=tmp_path)) as board:
            return board.home, (await board.run(["pwd"], timeout_s=20))[1]

    assert asyncio.run(trip()) == (f"{tmp_path}/.benchfarm", f"{tmp_path}\n".encode())


def test_a_killed_coordinator_leaves_no_program(tmp_path: Path) -> None:
    code = """
        import asyncio, pathlib, sys
        from farm import domain, transport
        from farm.settings import Settings
        async def trip():
            folder = pathlib.Path(sys.argv[1])
            async with transport.reach(domain.Board("here", home=str(folder)), Settings(data_dir=folder)) as board:
                code = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
                channel = await board.start([sys.executable, "-c", code])
                print((await anext(channel.lines())).decode(), flush=True)
                await channel.wait(600)
        asyncio.run(trip())
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as coordinator:
        assert coordinator.stdout is not None
        pid = int(coordinator.stdout.readline())
        coordinator.kill()
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        time.sleep(0.02)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
