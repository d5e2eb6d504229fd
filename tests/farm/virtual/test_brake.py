"""How a process is slowed, and that it runs on afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.virtual import brake


@pytest.fixture
def spinner() -> Iterator[int]:
    """A process that uses all the CPU it gets."""
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as process:
        yield process.pid
        process.kill()


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _used_ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12])


async def _share(pid: int, seconds: float) -> float:
    before, began = _used_ticks(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (_used_ticks(pid) - before) / 100 / (time.monotonic() - began)


def test_a_slowed_process_gets_about_its_share_of_what_it_had_and_then_all_again(spinner: int) -> None:
    async def measure() -> tuple[float, float, float]:
        before = await _share(spinner, 0.6)
        task = asyncio.create_task(brake.slow(lambda: [spinner], lambda: 0.3))
        slowed = await _share(spinner, 1.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return before, slowed, await _share(spinner, 0.6)

    before, slowed, after = asyncio.run(measure())
    assert 0.1 * before < slowed < 0.55 * before
    assert after > 1.5 * slowed


@pytest.mark.parametrize("cancel_after_s", [0.0, 0.003, 0.02, 0.021, 0.022, 0.023])
def test_it_is_never_left_stopped(spinner: int, cancel_after_s: float) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(brake.slow(lambda: [spinner], lambda: 0.1))
        await asyncio.sleep(cancel_after_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel())
    assert _stat(spinner)[0] != "T"


def test_a_process_that_is_gone_is_no_error() -> None:
    async def slow() -> None:
        task = asyncio.create_task(brake.slow(lambda: [2**22 + 1], lambda: 0.5))
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(slow())
