"""benchfarm's folder on a board: how a file gets into it whole or not at all, and how old ones leave it.

agents/<hash>.zip               the agent
artifacts/<sha256>/<path>       an artifact's files
<path>.part-<random>            a file on its way; swept when it is older than a day
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import posixpath
import secrets
import stat
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import IO, Protocol

from farm_agent import wire

from farm.errors import BoardRefused, DiskFull, FarmError, InputError, StoreError
from farm.transport import Entry, Progress, Transport

BLOCK_BYTES = 1 << 20
PART = ".part-"
PART_LIFE_S = 86400.0
FOLDERS = ("agents", "artifacts")


class Writer(Protocol):
    """A new file on the board that is being written."""

    async def write(self, block: bytes) -> None:
        """Append; what goes wrong with a block may be said by a later call. Raises DiskFull, BoardRefused."""

    async def close(self, *, sync: bool) -> None:
        """Close it; with `sync` after all of it is on the disk, else whatever was written. Again: nothing happens."""


class Files(Protocol):
    """The file operations that a push is made of. Paths are below `home`."""

    async def make_folder(self, path: str) -> None:
        """Make a folder and those above it."""

    async def create(self, path: str, mode: int) -> Writer:
        """A new empty file, exactly of this mode."""

    async def replace(self, old: str, new: str) -> None:
        """Rename a file over another in one step."""

    async def has(self, path: str, size_bytes: int) -> bool:
        """See Transport."""

    async def remove(self, path: str) -> None:
        """See Transport."""

    async def entries(self, path: str) -> list[Entry]:
        """See Transport."""

    async def free_bytes(self) -> int:
        """See Transport."""


def check_path(path: str) -> str:
    """A path below `home`. Raises InputError for one that leaves it."""
    if not wire.is_safe_path(path):
        raise InputError(f"The path {path!r} cannot be used on a board: it leaves its folder. Rename the file.")
    return path


class Pusher:
    """Puts files on one board, the same way for every kind of Transport."""

    def __init__(self, files: Files, board: str) -> None:
        self._files = files
        self._board = board
        self._swept: set[str] = set()

    async def push(self, source: Path, path: str, *, mode: int, sha256: str, progress: Progress | None) -> None:
        """See Transport.push."""
        folder = posixpath.dirname(check_path(path))
        with _open_source(source) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            await self._check_room(path, size_bytes)
            if folder:
                await self._files.make_folder(folder)
            part = f"{path}{PART}{secrets.token_hex(6)}"
            try:
                await self._send(file, part, size_bytes, mode, sha256, progress)
                await self._files.replace(part, path)
            except BaseException:
                with contextlib.suppress(FarmError, TimeoutError):
                    async with asyncio.timeout(5.0):
                        await self._files.remove(part)
                raise
        if folder and folder not in self._swept:
            self._swept.add(folder)
            await self._sweep(folder, posixpath.basename(path))

    async def _check_room(self, path: str, size_bytes: int) -> None:
        free_bytes = await self._files.free_bytes()
        if free_bytes < size_bytes:
            raise DiskFull(
                f"The disk of board {self._board!r} is full: {path} needs {size_bytes} bytes, {free_bytes} are free. "
                "Free some space there, or give the board a `home` on a larger disk."
            )

    async def _send(
        self, file: IO[bytes], part: str, size_bytes: int, mode: int, sha256: str, progress: Progress | None
    ) -> None:
        hasher = hashlib.sha256()
        done = 0
        writer = await self._files.create(part, mode)
        try:
            async for block in _blocks(file, hasher):
                await writer.write(block)
                done += len(block)
                if progress:
                    progress(done, size_bytes)
            await writer.close(sync=True)
        except BaseException as error:
            with contextlib.suppress(FarmError):
                await writer.close(sync=False)
            # SFTP has no word for a full disk; OpenSSH says "Failure".
            if isinstance(error, BoardRefused) and await self._files.free_bytes() < BLOCK_BYTES:
                raise DiskFull(
                    f"The disk of board {self._board!r} is full: it ran out while {part} of {size_bytes} bytes was "
                    "written. Free some space there, or give the board a `home` on a larger disk."
                ) from error
            raise
        if done != size_bytes or (sha256 and hasher.hexdigest() != sha256):
            raise StoreError(
                f"The file {file.name} is not what it was: {done} bytes of sha256 {hasher.hexdigest()} were read, "
                f"{size_bytes} bytes of {sha256 or 'any'} were expected. Nothing changed on board {self._board!r}. "
                "Give the artifact again."
            )
        if not await self._files.has(part, size_bytes):
            raise BoardRefused(
                f"Board {self._board!r} did not keep what was written: {part} is not of {size_bytes} bytes there. "
                "Check its disk and kernel log."
            )

    async def _sweep(self, folder: str, just_written: str) -> None:
        entries = await self._files.entries(folder)
        # The board's clock may be wrong by years: its own fresh file says what time it is there.
        now_s = next((entry.mtime_s for entry in entries if entry.name == just_written), None)
        for entry in entries:
            if PART in entry.name and now_s is not None and now_s - entry.mtime_s > PART_LIFE_S:
                await self._files.remove(posixpath.join(folder, entry.name))


async def _blocks(file: IO[bytes], hasher: hashlib._Hash) -> AsyncIterator[bytes]:
    def read() -> bytes:
        block = file.read(BLOCK_BYTES)
        hasher.update(block)
        return block

    while block := await asyncio.to_thread(read):
        yield block


def _open_source(source: Path) -> IO[bytes]:
    try:
        file = source.open("rb")
    except OSError as error:
        raise InputError(f"The file {source} cannot be pushed: {error.strerror}. Check its path and mode.") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"The file {source} cannot be pushed: it is not a regular file. Give a file.")
    return file


async def evict(transport: Transport, keep: Collection[str], need_bytes: int) -> list[str]:
    """Remove least recently used artifacts and agents until `need_bytes` are free; the paths that went.

    `keep` holds the names, `<sha256>` and `<hash>.zip`, that never go. Too little may be free afterwards: the push then
    says so.
    """
    gone: list[str] = []
    if await transport.free_bytes() >= need_bytes:
        return gone
    found = [
        (entry.mtime_s, f"{folder}/{entry.name}")
        for folder in FOLDERS
        for entry in await transport.entries(folder)
        if entry.name not in keep
    ]
    for _, path in sorted(found):
        await transport.remove(path)
        gone.append(path)
        if await transport.free_bytes() >= need_bytes:
            break
    return gone
