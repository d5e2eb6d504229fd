"""benchfarm's folder on a board over SFTP, in the operations of home.Files."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import re

import asyncssh

from farm.errors import BoardRefused
from farm.home import Writer, check_path
from farm.login import Link
from farm.transport import Entry, end_tasks

WRITE_BYTES = 255 << 10  # of one SFTP request, where the board takes so much; OpenSSH takes no more
WRITES = 16  # SFTP requests under way at once


class SftpFiles:
    """The files of one board."""

    home = ""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sftp: asyncssh.SFTPClient

    async def open(self, home: str) -> None:
        """Start SFTP and make `home`, for this user only."""
        try:
            self._sftp = await self._link.do("start SFTP", self._link.connection.start_sftp_client())
        except BoardRefused as error:
            raise BoardRefused(
                f"Board {self._link.board!r} has no SFTP: {error.__cause__}. Install openssh-sftp-server there, "
                "and see that its sshd_config has a line `Subsystem sftp`."
            ) from error.__cause__
        user_home = str(await self._link.do("name the home folder", self._sftp.realpath(".")))
        self.home = posixpath.normpath(posixpath.join(user_home, re.sub("^~(/|$)", "", home)))
        await self._link.do(f"make the folder {self.home}", self._make_home())

    async def _make_home(self) -> None:
        if not await self._sftp.isdir(self.home):
            await self._sftp.makedirs(posixpath.dirname(self.home), exist_ok=True)
            await self._sftp.makedirs(self.home, asyncssh.SFTPAttrs(permissions=0o700), exist_ok=True)

    def _path(self, path: str) -> str:
        return posixpath.join(self.home, check_path(path))

    async def has(self, path: str, size_bytes: int) -> bool:
        """See Transport."""

        async def has() -> bool:
            try:
                found = await self._sftp.stat(self._path(path))
            except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPFailure):
                return False
            return found.type == asyncssh.FILEXFER_TYPE_REGULAR and found.size == size_bytes

        return await self._link.do(f"look for {path}", has())

    async def make_folder(self, path: str) -> None:
        """See home.Files."""

        async def make() -> None:
            if not await self._sftp.isdir(self._path(path)):
                await self._sftp.makedirs(self._path(path), exist_ok=True)

        await self._link.do(f"make the folder {path}", make())

    async def create(self, path: str, mode: int) -> Writer:
        """See home.Files."""

        async def create() -> asyncssh.SFTPClientFile:
            file = await self._sftp.open(self._path(path), "xb", block_size=0)
            await file.chmod(mode)  # a mode given to open is cut by the umask there
            return file

        piece_bytes = min(WRITE_BYTES, self._sftp.limits.max_write_len)
        return _SftpWriter(self._link, path, await self._link.do(f"create {path}", create()), piece_bytes)

    async def replace(self, old: str, new: str) -> None:
        """See home.Files."""
        await self._link.do(f"rename {old}", self._sftp.posix_rename(self._path(old), self._path(new)))

    async def remove(self, path: str) -> None:
        """See Transport."""

        async def remove() -> None:
            target = self._path(path)
            with contextlib.suppress(asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
                if (await self._sftp.lstat(target)).type == asyncssh.FILEXFER_TYPE_DIRECTORY:
                    await self._sftp.rmtree(target)
                else:
                    await self._sftp.remove(target)

        await self._link.do(f"remove {path}", remove())

    async def entries(self, path: str) -> list[Entry]:
        """See Transport."""

        async def entries() -> list[Entry]:
            found = []
            if await self._sftp.isdir(self._path(path)):
                async for item in self._sftp.scandir(self._path(path)):
                    name, attrs = str(item.filename), item.attrs
                    is_folder = attrs.type == asyncssh.FILEXFER_TYPE_DIRECTORY
                    if name not in (".", ".."):
                        found.append(Entry(name, attrs.size or 0, float(attrs.mtime or 0), is_folder))
            return sorted(found, key=lambda entry: entry.name)

        return await self._link.do(f"list {path}", entries())

    async def sftp_free_bytes(self) -> int | None:
        """Free disk space for this user below `home`, or None where the board's SFTP cannot say."""

        async def free() -> int | None:
            try:
                disk = await self._sftp.statvfs(self.home)
            except asyncssh.SFTPOpUnsupported:
                return None
            return disk.bavail * disk.frsize

        return await self._link.do("say how much disk is free", free())


class _SftpWriter:
    """A new file on the board; some of its writes are under way at any time."""

    # asyncssh's own parallel writes leave tasks behind when the connection goes, so these are ours.
    def __init__(self, link: Link, path: str, file: asyncssh.SFTPClientFile, piece_bytes: int) -> None:
        self._link = link
        self._path = path
        self._file = file
        self._piece_bytes = piece_bytes
        self._offset = 0
        self._pending: set[asyncio.Future[int]] = set()

    async def write(self, block: bytes) -> None:
        for start in range(0, len(block), self._piece_bytes):
            piece = block[start : start + self._piece_bytes]
            write = self._link.do(f"write {self._path}", self._file.write(piece, self._offset))
            self._pending.add(asyncio.ensure_future(write))
            self._offset += len(piece)
            await self._settle(WRITES - 1)

    async def _settle(self, left: int) -> None:
        while len(self._pending) > left:
            done, self._pending = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
            results = await asyncio.gather(*done, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def close(self, *, sync: bool) -> None:
        if sync:
            await self._settle(0)
        await end_tasks(*self._pending)
        await self._link.do(f"write {self._path}", self._close(sync))

    async def _close(self, sync: bool) -> None:
        if sync:
            with contextlib.suppress(asyncssh.SFTPOpUnsupported):
                await self._file.fsync()
        await self._file.close()
