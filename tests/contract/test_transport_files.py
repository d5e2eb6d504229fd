"""What files do alike over every Transport: each test runs over each file of transports/, and over OpenSSH."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from farm import transport
from farm.errors import BoardRefused, DiskFull, InputError, StoreError
from tests.ways import PARAMS, Way, file


@pytest.fixture(params=PARAMS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    with request.param(tmp_path) as found:
        yield found


def test_a_push_that_cannot_fit_sends_nothing(way: Way, tmp_path: Path) -> None:
    source = tmp_path / "huge"
    source.touch()
    os.truncate(source, 1 << 43)  # sparse
    with pytest.raises(DiskFull, match="needs 8796093022208 bytes"):
        way.go(lambda board: board.push(source, "artifacts/a/huge"))
    assert not (way.home / "artifacts").exists()


def test_a_push_of_other_bytes_than_promised_leaves_nofile(way: Way, tmp_path: Path) -> None:
    source = file(tmp_path, b"model")
    with pytest.raises(StoreError, match="is not what it was"):
        way.go(lambda board: board.push(source, "artifacts/a/m.onnx", sha256="0" * 64))
    assert list((way.home / "artifacts/a").iterdir()) == []


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a//b", "", "a/../../b"])
def test_a_path_outside_the_home_is_refused(way: Way, tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match="leaves its folder"):
        way.go(lambda board: board.push(file(tmp_path, b"x"), path))


@pytest.mark.parametrize("source", ["missing", "."])
def test_a_source_that_is_no_file_is_your_input(way: Way, tmp_path: Path, source: str) -> None:
    with pytest.raises(InputError, match="cannot be pushed"):
        way.go(lambda board: board.push(tmp_path / source, "agents/a.zip"))


def test_a_file_where_a_folder_should_be_is_refused(way: Way, tmp_path: Path) -> None:
    source = file(tmp_path, b"x")

    async def story(board: transport.Transport) -> None:
        await board.push(source, "artifacts")
        assert not await board.has("artifacts/a/m.onnx", 1)
        await board.remove("artifacts/a")
        await board.push(source, "artifacts/a/m.onnx")

    with pytest.raises(BoardRefused, match="cannot make the folder artifacts/a"):
        way.go(story)


def test_a_push_cancelled_in_the_middle_leaves_nofile(way: Way, tmp_path: Path) -> None:
    source = file(tmp_path, b"x" * (8 << 20))

    async def story(board: transport.Transport) -> None:
        begun = asyncio.Event()
        push = asyncio.create_task(board.push(source, "agents/a.zip", progress=lambda *_: begun.set()))
        await begun.wait()
        push.cancel()
        with pytest.raises(asyncio.CancelledError):
            await push

    way.go(story)
    assert list((way.home / "agents").iterdir()) == []


@pytest.mark.parametrize("size_bytes", [0, 1, 5_000_000])
def test_a_pushed_file_arrives_whole_with_its_mode(way: Way, tmp_path: Path, size_bytes: int) -> None:
    content = (hashlib.sha256(b"seed").digest() * (size_bytes // 32 + 1))[:size_bytes]
    source = file(tmp_path, content)
    seen: list[tuple[int, int]] = []

    async def story(board: transport.Transport) -> tuple[bool, bool]:
        sha256 = hashlib.sha256(content).hexdigest()
        path = "artifacts/a/sub/m.onnx"
        await board.push(source, path, mode=0o640, sha256=sha256, progress=lambda *done: seen.append(done))
        return await board.has(path, size_bytes), await board.has(path, size_bytes + 1)

    assert way.go(story) == (True, False)
    pushed = way.home / "artifacts/a/sub/m.onnx"
    assert pushed.read_bytes() == content
    assert stat.S_IMODE(pushed.stat().st_mode) == 0o640
    assert seen[-1:] == ([(size_bytes, size_bytes)] if size_bytes else [])
    assert list(pushed.parent.iterdir()) == [pushed]


def test_overwriting_is_one_step_for_whoever_reads(way: Way, tmp_path: Path) -> None:
    old, new = file(tmp_path, b"old" * 100, "old"), file(tmp_path, b"new" * 1_000_000, "new")
    seen: set[bytes] = set()
    target = way.home / "agents/a.zip"

    async def story(board: transport.Transport) -> None:
        await board.push(old, "agents/a.zip")
        held = os.open(target, os.O_RDONLY)
        await board.push(new, "agents/a.zip", progress=lambda *_: seen.add(target.read_bytes()))
        seen.add(os.read(held, 1000))
        os.close(held)

    way.go(story)
    assert seen == {b"old" * 100}
    assert target.read_bytes() == b"new" * 1_000_000


def test_parts_older_than_a_day_are_swept_and_younger_ones_stay(way: Way, tmp_path: Path) -> None:
    folder = way.home / "agents"
    folder.mkdir(parents=True)
    for name, age_s in (("a.zip.part-1", 90_000), ("b.zip.part-2", 80_000), ("old.zip", 90_000)):
        file(folder, b"", name)
        os.utime(folder / name, (time.time() - age_s, time.time() - age_s))
    way.go(lambda board: board.push(file(tmp_path, b"x"), "agents/c.zip"))
    assert sorted(path.name for path in folder.iterdir()) == ["b.zip.part-2", "c.zip", "old.zip"]


def test_remove_takes_files_and_folders_and_links_and_what_is_not_there(way: Way, tmp_path: Path) -> None:
    source, outside = file(tmp_path, b"x"), file(tmp_path, b"keep", "outside")

    async def story(board: transport.Transport) -> list[str]:
        for path in ("artifacts/a/x/y", "artifacts/a/z", "artifacts/b", "artifacts/c"):
            await board.push(source, path)
        (way.home / "artifacts/link").symlink_to(outside.parent)
        for path in ("a", "b", "link", "none"):
            await board.remove(f"artifacts/{path}")
        await board.remove("no/such/folder")
        return [entry.name for entry in await board.entries("artifacts")]

    assert way.go(story) == ["c"]
    assert outside.read_bytes() == b"keep"


def test_entries_tell_name_size_kind_and_age_and_touch_makes_young(way: Way, tmp_path: Path) -> None:
    source = file(tmp_path, b"12345")

    async def story(board: transport.Transport) -> list[tuple[str, int, bool, bool]]:
        await board.push(source, "agents/b.zip")
        await board.push(source, "agents/a/x")
        for name in ("a", "b.zip"):
            os.utime(way.home / "agents" / name, (1000, 1000))
        await board.touch("agents/b.zip")
        await board.touch("agents/none")
        assert await board.entries("none") == []
        found = await board.entries("agents")
        return [(e.name, e.size_bytes if not e.is_folder else 0, e.is_folder, e.mtime_s == 1000) for e in found]

    assert way.go(story) == [("a", 0, True, True), ("b.zip", 5, False, False)]


def test_a_home_we_may_not_write_is_refused(way: Way, tmp_path: Path) -> None:
    blocker = file(tmp_path, b"", "blocker")
    elsewhere = replace(way, board=replace(way.board, home=str(blocker / "home")))
    with pytest.raises(BoardRefused, match="cannot make the folder"):
        elsewhere.go(lambda board: board.free_bytes())


def test_the_home_is_made_for_its_owner_only_and_named_absolutely(way: Way) -> None:
    async def story(board: transport.Transport) -> tuple[str, str, int]:
        return board.home, board.name, await board.free_bytes()

    home, name, free_bytes = way.go(story)
    assert (home, name) == (str(way.home), way.board.transport)
    assert stat.S_IMODE(way.home.stat().st_mode) == 0o700
    assert free_bytes > 0


@pytest.mark.system
def test_a_disk_that_fills_up_in_the_middle_is_disk_full_and_leaves_no_part(way: Way, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    try:
        source = file(tmp_path, b"x" * (6 << 20))

        def fill(*_: int) -> None:
            if not (disk / "filler").exists():
                file(disk, b"f" * (4 << 20), "filler")

        elsewhere = replace(way, board=replace(way.board, home=str(disk / "home")))
        with pytest.raises(DiskFull, match="is full"):
            elsewhere.go(lambda board: board.push(source, "agents/a.zip", progress=fill))
        assert list((disk / "home/agents").iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)
