"""Boards that can be reached by each kind of Transport, for contract tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from farm import domain, transport
from farm.settings import Settings
from tests import sshd

T = TypeVar("T")


@dataclass(frozen=True)
class Way:
    """A board that can be reached, and its benchfarm folder as seen from this machine."""

    board: domain.Board
    settings: Settings
    home: Path

    def go(self, story: Callable[[transport.Transport], Awaitable[T]]) -> T:
        """Run a story over one open Transport."""

        async def trip() -> T:
            async with transport.reach(self.board, self.settings) as open_now:
                return await story(open_now)

        return asyncio.run(trip())


@contextlib.contextmanager
def _local(folder: Path) -> Iterator[Way]:
    board = domain.Board("here", transport="local", home=str(folder / "home" / ".benchfarm"))
    yield Way(board, Settings(data_dir=folder), folder / "home" / ".benchfarm")


@contextlib.contextmanager
def _asyncssh(folder: Path) -> Iterator[Way]:
    with sshd.asyncssh_server(folder) as server:
        yield Way(server.board(), server.settings(), server.home / ".benchfarm")


@contextlib.contextmanager
def _openssh(folder: Path) -> Iterator[Way]:
    with sshd.openssh_server(folder) as server:
        yield Way(server.board(), server.settings(), server.home / ".benchfarm")


WAYS = {"local": _local, "ssh": _asyncssh}
PARAMS = [
    *(pytest.param(way, id=name) for name, way in WAYS.items()),
    pytest.param(_openssh, id="openssh", marks=pytest.mark.system),
]


def file(folder: Path, content: bytes, name: str = "model.onnx") -> Path:
    """A new file."""
    path = folder / name
    path.write_bytes(content)
    return path
