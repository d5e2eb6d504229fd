"""Bytes that never change, in a local folder: each file's name is its sha256. `s3.py` is the kind in a bucket.

A blob is written aside, flushed to disk and renamed, so that a name always stands for all of its bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from farm.errors import DiskFull, FarmError, InputError, NotFound, StoreError, StoreFull, TooLarge

_CHUNK_BYTES = 1 << 20
_ASIDE = ".aside-"
_ASIDE_OLD_S = 3600.0  # a writer that has not written for that long is dead
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_blobs(url: str | None, folder: Path) -> Blobs:
    """The blobs at `url`: `s3://bucket/prefix?endpoint_url=…&region=…` with `folder` as its cache, or `file:///folder`.

    Without a url they are in `folder`. No server is asked yet. Raises InputError for a url that cannot be used.
    """
    if url is None:
        return Blobs(folder)
    kind = url.partition(":")[0].lower()
    if kind == "file":
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or len(parts.path) < 2 or parts.query or parts.fragment:
            raise InputError("Blobs URL of kind file:// names no folder of this machine. Give file:///whole/path.")
        return Blobs(Path(unquote(parts.path)))
    if kind != "s3":
        raise InputError(
            f"Blobs URL of kind {kind[:20]!r} is not known. Give s3://bucket/prefix or file:///folder, or none."
        )
    from farm.store import s3  # imports this file

    address = s3.parse(url)
    if importlib.util.find_spec("boto3") is None:
        raise InputError(f"Blob store {address} needs boto3, which is not installed. pip install 'benchfarm[s3]'")
    return s3.S3Blobs(address, folder)


class Blobs:
    """A folder of blobs. Safe to be used by many threads and processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with edge(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._sweep()

    def path(self, sha256: str) -> Path:
        """Where the blob is, or would be."""
        if not is_sha256(sha256):
            raise InputError(f"Blob {sha256[:80]!r} cannot be: a sha256 is 64 hex digits. Give the whole hash.")
        return self.folder / sha256[:2] / sha256[2:]

    def local(self, sha256: str) -> Path:
        """A file on this machine with all of the blob's bytes. Raises NotFound."""
        path = self.path(sha256)
        if not path.is_file():
            raise self._missing(sha256)
        return path

    def size_bytes(self, sha256: str) -> int:
        """The size of the blob. Raises NotFound."""
        path = self.path(sha256)
        with edge(path):
            try:
                return path.stat().st_size
            except FileNotFoundError:
                raise self._missing(sha256) from None

    def has(self, sha256: str) -> bool:
        """True where the blob is there. Its content is not looked at; see `verify`."""
        return self.path(sha256).is_file()

    def put_file(self, source: Path, progress: Callable[[int, int], None] | None = None) -> tuple[str, int]:
        """Keep a copy of a file: (sha256, size in bytes). What is there already is read, not written again.

        `progress` is called with (bytes done, bytes in all); reading counts once and writing once.
        Raises InputError where it cannot be read or changes meanwhile, DiskFull with nothing left behind.
        """
        with _open_source(source) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            tell = progress or (lambda _done, _all: None)
            expected = hash_of(_chunks(file, source, lambda done: tell(done, 2 * size_bytes)))
            if not self.has(expected):
                file.seek(0)
                chunks = _chunks(file, source, lambda done: tell(size_bytes + done, 2 * size_bytes))
                self._put(chunks, expected, lambda _digest: _changed(source))
            tell(2 * size_bytes, 2 * size_bytes)
            return expected, size_bytes

    def put_bytes(self, data: bytes) -> str:
        """Keep some bytes: their sha256."""
        expected = hashlib.sha256(data).hexdigest()
        if not self.has(expected):
            self._put([data], expected, lambda digest: _unlike(expected, digest))
        return expected

    def put_stream(
        self,
        chunks: Iterable[bytes],
        *,
        expected: str,
        limit_bytes: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Keep bytes that come from elsewhere and should hash to `expected`: their number.

        What is there already is read and checked, not written again. `progress` is called with the bytes done.
        Raises InputError where they hash to something else or break off, TooLarge; nothing is kept then.
        """
        size_bytes = 0

        def counted() -> Iterator[bytes]:
            nonlocal size_bytes
            for chunk in _whole(chunks, expected):
                size_bytes += len(chunk)
                if limit_bytes is not None and size_bytes > limit_bytes:
                    raise TooLarge(
                        f"Upload of blob {expected} is too large: over {limit_bytes} bytes came, which is the limit. "
                        "Send less, or have the limit raised."
                    )
                yield chunk
                if progress:
                    progress(size_bytes)

        if not self.has(expected):
            self._put(counted(), expected, lambda digest: _unlike(expected, digest))
        elif (digest := hash_of(counted())) != expected:
            raise _unlike(expected, digest)
        return size_bytes

    def open(self, sha256: str) -> BufferedReader:
        """The blob, open for reading. Raises NotFound."""
        path = self.local(sha256)
        with edge(path):
            try:
                return path.open("rb")
            except FileNotFoundError:
                raise self._missing(sha256) from None

    def verify(self, sha256: str) -> None:
        """Read the blob and compare it with its name. Raises StoreError where a bit is wrong."""
        digest = self._digest(sha256)
        if digest != sha256:
            raise StoreError(
                f"Blob {self.path(sha256)} is corrupt: its content hashes to {digest}. "
                "Check that disk, then restore the file from a backup or delete it and give the original again."
            )

    def delete(self, sha256: str) -> None:
        """Remove a blob; nothing happens where there is none."""
        path = self.path(sha256)
        with edge(path):
            path.unlink(missing_ok=True)

    def _missing(self, sha256: str) -> NotFound:
        return NotFound(
            f"Blob {sha256} is not in {self.folder}. Restore that folder from a backup, "
            "or give the farm the folder that belongs to its database."
        )

    def trim(self, limit_bytes: int) -> int:
        """Make room where blobs are only cached here: bytes freed. None are in a folder, which is no cache."""
        return 0

    def check(self) -> None:
        """Raise StoreError or StoreFull where blobs cannot be kept now."""
        with edge(self.folder), tempfile.TemporaryFile(dir=self.folder):
            pass

    def _digest(self, sha256: str) -> str:
        with self.open(sha256) as file, edge(self.path(sha256)):
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _put(self, chunks: Iterable[bytes], expected: str, unlike: Callable[[str], FarmError]) -> None:
        final = self.path(expected)
        with edge(final):
            final.parent.mkdir(exist_ok=True)
            descriptor, aside = tempfile.mkstemp(prefix=_ASIDE, dir=self.folder)
            try:
                with os.fdopen(descriptor, "wb") as out:
                    digest = hash_of(_written(chunks, out))
                    os.fchmod(descriptor, 0o444)
                    out.flush()
                    os.fsync(descriptor)
                if digest != expected:
                    raise unlike(digest)
                Path(aside).rename(final)
            finally:
                Path(aside).unlink(missing_ok=True)
            for folder in (final.parent, self.folder):
                _sync_folder(folder)

    def _sweep(self) -> None:
        """Remove what killed writers left."""
        for path in self.folder.glob(_ASIDE + "*"):
            with contextlib.suppress(FileNotFoundError):  # another coordinator sweeps too
                if time.time() - path.stat().st_mtime > _ASIDE_OLD_S:
                    path.unlink()


def _open_source(source: Path) -> IO[bytes]:
    try:
        if not stat.S_ISREG(source.stat().st_mode):  # opening a pipe would wait for ever
            raise InputError(f"File {source} is not a regular file. Name one.")
        return source.open("rb")
    except OSError as error:
        raise _unreadable(source, error) from None


def _chunks(file: IO[bytes], source: Path, tell: Callable[[int], None]) -> Iterator[bytes]:
    """The file's bytes. Raises InputError where it cannot be read to its end, or is not what it was at the start."""
    before = os.fstat(file.fileno())
    done = 0
    while True:
        try:
            chunk = file.read(_CHUNK_BYTES)
        except OSError as error:
            raise _unreadable(source, error) from None
        if not chunk:
            break
        done += len(chunk)
        yield chunk
        tell(done)
    after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or done != after.st_size:
        raise _changed(source)


def _whole(chunks: Iterable[bytes], expected: str) -> Iterator[bytes]:
    """The chunks; where their sender fails, that is no error of our disk."""
    try:
        yield from chunks
    except OSError as error:
        raise InputError(f"Upload of blob {expected} broke off: {error.strerror or error}. Send it again.") from None


def _written(chunks: Iterable[bytes], out: IO[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        out.write(chunk)
        yield chunk


def is_sha256(word: str) -> bool:
    """True for 64 hex digits."""
    return len(word) == 64 and set(word) <= set("0123456789abcdef")


def hash_of(chunks: Iterable[bytes]) -> str:
    """Their sha256."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreadable(source: Path, error: OSError) -> InputError:
    return InputError(f"File {source} cannot be read: {error.strerror}. Check its path and permissions.")


def _changed(source: Path) -> FarmError:
    return InputError(f"File {source} changed while it was read. Wait until its writer is done, then try again.")


def _unlike(expected: str, digest: str) -> FarmError:
    return InputError(
        f"Upload of blob {expected} was refused: what came hashes to {digest}. "
        "Compute the sha256 of what you send, or send it again."
    )


@contextlib.contextmanager
def edge(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about the farm's own files into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise disk_full(path, error.strerror or "no room") from None
        raise StoreError(
            f"Blob store at {path} failed: {error.strerror}. "
            "Check that the folder is there and yours to write, and that its disk works."
        ) from None


def disk_full(where: object, seen: str) -> DiskFull:
    """The error for a full disk on the coordinator."""
    return StoreFull(f"Disk of {where} is full: {seen}. Nothing was written. Free some space or raise the quota.")
