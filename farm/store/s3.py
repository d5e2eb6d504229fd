"""Blobs in a bucket of an S3-compatible server, with a local folder as their cache.

    FARM_BLOBS_URL=s3://bench/blobs?endpoint_url=https://minio.lab:9000&region=us-east-1

Credentials are boto3's business (environment, profile, role of the machine) and are refused in the URL. Objects are
named as the files of a folder of blobs are, so that such a folder can be copied into the bucket as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit
from weakref import WeakValueDictionary

from farm.errors import FarmError, InputError, NotFound, StoreError
from farm.store.blobs import Blobs, edge, hash_of, is_sha256

if TYPE_CHECKING:  # boto3 takes a quarter of a second, which only a command that needs a blob shall pay
    from farm.store.bucket import Bucket

IN_USE_S = 3600.0
_BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a bucket is: what a URL said."""

    bucket: str
    prefix: str
    endpoint_url: str | None
    region: str | None

    def __str__(self) -> str:
        at = f" at {self.endpoint_url}" if self.endpoint_url else ""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/") + at

    def key(self, sha256: str) -> str:
        """The name of a blob's object."""
        return "/".join(part for part in (self.prefix, sha256[:2], sha256[2:]) if part)


def parse(url: str) -> Address:
    """The address in `s3://bucket/prefix?endpoint_url=…&region=…`. Raises InputError, which never repeats a secret."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        endpoint = urlsplit(options.get("endpoint_url", "https://aws"))
        ports = (parts.port, endpoint.port)  # a wrong one is told here
    except ValueError:
        raise _wrong("it cannot be read") from None
    strange = sorted(options.keys() - {"endpoint_url", "region"})
    if "@" in parts.netloc or "@" in endpoint.netloc or any(_is_secret(name) for name in strange):
        raise InputError(
            "Blobs URL holds credentials, which would show in logs and process lists. Take them out and give them to "
            "boto3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of this machine."
        )
    if strange:
        raise _wrong(f"it has an unknown option {strange[0][:40]!r}")
    if ports[0] is not None or parts.fragment or not _BUCKET_NAME.fullmatch(parts.netloc):
        raise _wrong("it names no bucket")
    if endpoint.scheme not in ("http", "https") or not endpoint.hostname or endpoint.query or endpoint.fragment:
        raise _wrong("its endpoint_url is no http:// or https:// URL")
    return Address(
        bucket=parts.netloc,
        prefix=unquote(parts.path).strip("/"),
        endpoint_url=options.get("endpoint_url"),
        region=options.get("region") or None,
    )


class S3Blobs(Blobs):
    """Blobs in a bucket, and a folder that caches those in use. Safe to be used by many threads and processes at once.

    A blob that is put is in the cache and in the bucket when the call returns.
    """

    def __init__(self, address: Address, folder: Path) -> None:
        """No server is asked before the first blob is."""
        super().__init__(folder)
        self.address = address
        self._guard = threading.Lock()
        self._opened: Bucket | None = None
        self._downloads: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()

    def local(self, sha256: str) -> Path:
        """The cached copy, downloaded where it is absent. Raises NotFound."""
        path = self.path(sha256)
        if not self._touched(path):
            with self._guard:
                lock = self._downloads.setdefault(sha256, threading.Lock())
            with lock:
                if not self._touched(path):
                    self._download(sha256)
        return path

    def size_bytes(self, sha256: str) -> int:
        """The size of the blob. Raises NotFound."""
        if super().has(sha256):
            with contextlib.suppress(NotFound):  # just evicted
                return super().size_bytes(sha256)
        size_bytes = self._bucket.size_bytes(self.address.key(sha256))
        if size_bytes is None:
            raise self._missing(sha256)
        return size_bytes

    def has(self, sha256: str) -> bool:
        """True where the blob is in the bucket; a cached copy alone is not enough."""
        self.path(sha256)
        return self._bucket.size_bytes(self.address.key(sha256)) is not None

    def verify(self, sha256: str) -> None:
        """Read the object, and the cached copy, and compare with the name. Raises StoreError where a bit is wrong."""
        digest = hash_of(self._read(sha256))
        if digest != sha256:
            raise self._corrupt(sha256, digest)
        if super().has(sha256) and (digest := self._digest(sha256)) != sha256:
            raise StoreError(
                f"Cached copy {self.path(sha256)} is corrupt: its content hashes to {digest}. "
                "Check that disk, then delete the file: it is downloaded again when it is needed."
            )

    def delete(self, sha256: str) -> None:
        """Remove a blob from the bucket and from this cache; nothing happens where there is none."""
        self.path(sha256)
        self._bucket.delete(self.address.key(sha256))
        super().delete(sha256)

    def trim(self, limit_bytes: int) -> int:
        """Remove cached copies, the longest unused first, until the cache is within the limit: bytes freed.

        One that was used within the last hour stays, and so does one that is not in the bucket.
        """
        found = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # another process trims too
                facts = path.stat()
                if is_sha256(path.parent.name + path.name):
                    found.append((facts.st_mtime, facts.st_size, path))
        held_bytes = sum(size_bytes for _, size_bytes, _ in found)
        freed_bytes = 0
        for used_at_s, size_bytes, path in sorted(found):
            if held_bytes - freed_bytes <= limit_bytes or used_at_s > time.time() - IN_USE_S:
                break
            if self.has(path.parent.name + path.name) and self._evicted(path):
                freed_bytes += size_bytes
        return freed_bytes

    def check(self) -> None:
        """Raise StoreError or StoreFull where blobs cannot be kept now."""
        super().check()
        self._bucket.check()

    @property
    def _bucket(self) -> Bucket:
        with self._guard:
            if self._opened is None:
                from farm.store.bucket import Bucket

                to = self.address
                self._opened = Bucket(to.bucket, shown=str(to), endpoint_url=to.endpoint_url, region=to.region)
            return self._opened

    def _put(self, chunks: Iterable[bytes], expected: str, unlike: Callable[[str], FarmError]) -> None:
        super()._put(chunks, expected, unlike)
        path = self.path(expected)
        with edge(path):
            self._bucket.write(self.address.key(expected), path)

    def _read(self, sha256: str) -> Iterator[bytes]:
        self.path(sha256)
        chunks = self._bucket.read(self.address.key(sha256))
        if chunks is None:
            raise self._missing(sha256)
        return chunks

    def _download(self, sha256: str) -> None:
        super()._put(self._read(sha256), sha256, lambda digest: self._corrupt(sha256, digest))

    def _touched(self, path: Path) -> bool:
        """True where the cached copy is there; it counts as used now."""
        with self._locked(fcntl.LOCK_SH), edge(path):
            try:
                os.utime(path)
            except FileNotFoundError:
                return False
            return True

    def _evicted(self, path: Path) -> bool:
        with self._locked(fcntl.LOCK_EX), edge(path), contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime <= time.time() - IN_USE_S:
                path.unlink()
                return True
        return False

    @contextlib.contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Hold the cache's lock against every thread and process, so that no copy goes just after it was found."""
        with edge(self.folder):
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with edge(self.folder):
                fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)

    def _missing(self, sha256: str) -> NotFound:
        return NotFound(
            f"Blob {sha256} is not in {self.address}. Restore that object from an older version or a backup, "
            "or give the farm the bucket that belongs to its database."
        )

    def _corrupt(self, sha256: str, digest: str) -> StoreError:
        return StoreError(
            f"Blob {sha256} in {self.address} is corrupt: its content hashes to {digest}. "
            "Restore that object from an older version or a backup, or delete it and give the original again."
        )


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in ("key", "secret", "token", "password", "credential"))


def _wrong(seen: str) -> InputError:
    return InputError(
        f"Blobs URL cannot be used: {seen}. Give one such as s3://bucket/prefix?endpoint_url=https://minio.lab:9000."
    )
