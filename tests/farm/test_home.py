"""benchfarm's folder on a board: what leaves it first, and what never does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path

import pytest

from farm import domain, home, transport
from farm.settings import Settings

ALL = ["agents/new.zip", "agents/old.zip", "artifacts/a", "artifacts/b", "artifacts/c"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A home with five things, of which `artifacts/b` was used longest ago and `artifacts/a` last."""
    for age, path in enumerate(("artifacts/a", "agents/new.zip", "artifacts/c", "agents/old.zip", "artifacts/b")):
        place = tmp_path / "home" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.startswith("artifacts"):
            (place / "sub").mkdir(parents=True)
            (place / "sub" / "m.onnx").write_bytes(b"x" * 1000)
        else:
            place.write_bytes(b"zip")
        os.utime(place, (1_700_000_000 - age, 1_700_000_000 - age))
    return tmp_path / "home"


def _evict(folder: Path, keep: Collection[str], need_bytes: int) -> tuple[list[str], list[str]]:
    async def trip() -> list[str]:
        board = domain.Board("here", home=str(folder))
        async with transport.reach(board, Settings(data_dir=folder)) as open_now:
            return await home.evict(open_now, keep, need_bytes)

    gone = asyncio.run(trip())
    return gone, sorted(f"{path.parent.name}/{path.name}" for path in folder.glob("*/*"))


def test_nothing_leaves_while_there_is_room(folder: Path) -> None:
    assert _evict(folder, (), 1) == ([], ALL)


def test_the_least_recently_used_leave_first_and_what_is_kept_stays(folder: Path) -> None:
    gone, left = _evict(folder, {"a", "old.zip"}, 1 << 62)
    assert gone == ["artifacts/b", "artifacts/c", "agents/new.zip"]
    assert left == ["agents/old.zip", "artifacts/a"]


def test_a_home_without_folders_has_nothing_to_give(tmp_path: Path) -> None:
    assert _evict(tmp_path / "empty", (), 1 << 62) == ([], [])


def test_what_was_touched_leaves_last(folder: Path) -> None:
    async def trip() -> list[str]:
        board = domain.Board("here", home=str(folder))
        async with transport.reach(board, Settings(data_dir=folder)) as open_now:
            await open_now.touch("artifacts/b")
            return await home.evict(open_now, (), 1 << 62)

    assert asyncio.run(trip())[-1] == "artifacts/b"
