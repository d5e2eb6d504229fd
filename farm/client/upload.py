"""Artifacts on their way to a farm: hashed here, and only what it lacks is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from farm.client.link import Link
from farm.errors import InputError, NotFound
from farm.schemas import ArtifactTold, FileEntry, FolderAsked, Problem
from farm.sources import sources, unreadable

Progress = Callable[[int, int], None]

BLOCK_BYTES = 256 << 10
ROUNDS = 3  # of the files that a folder lacks: what was there may have been swept meanwhile


class Uploader:
    """Sends Artifacts over one link."""

    def __init__(self, link: Link, *, patience_s: float | None) -> None:
        self._link, self._patience_s = link, patience_s

    def file(self, path: Path, progress: Progress | None) -> ArtifactTold:
        """The file as an Artifact. Its bytes are sent only where the farm does not know them of this Project."""
        sha256, size_bytes = hashed(path)
        found = self.find(sha256)
        return found if found is not None else self._put(path, sha256, size_bytes, progress)

    def folder(self, path: Path, entry: str | None, progress: Progress | None) -> ArtifactTold:
        """The folder as an Artifact; only the files that the farm lacks are sent."""
        files = {name: (source, *hashed(source)) for name, source in sources(path, entry=entry).items()}
        try:
            asked = FolderAsked(
                name=path.resolve().name or "model",
                entry=entry,
                files=[FileEntry(path=name, sha256=sha256) for name, (_, sha256, _) in files.items()],
            )
        except ValidationError as error:
            seen = error.errors()[0]["msg"]
            raise InputError(f"Folder '{path}' cannot be sent: {seen}. Shorten its names.") from None
        by_hash = {sha256: (source, size_bytes) for source, sha256, size_bytes in files.values()}
        patience = self._link.patience("POST /artifacts", self._patience_s)
        for _ in range(ROUNDS):
            body = asked.model_dump(mode="json", exclude_defaults=True)
            answer = self._link.call("POST", "/artifacts", patience=patience, json=body, wanted=(409,))
            if answer.status != 409:
                return self._link.read(answer, ArtifactTold)
            missing = [sha256 for sha256 in self._link.read(answer, Problem).missing if sha256 in by_hash]
            if not missing:
                break
            total, done = sum(by_hash[sha256][1] for sha256 in missing), 0
            for sha256 in missing:
                source, size_bytes = by_hash[sha256]
                self._put(source, sha256, size_bytes, _shifted(progress, done, total))
                done += size_bytes
        raise self._link.refusal(answer)

    def find(self, sha256: str) -> ArtifactTold | None:
        """The Artifact, where the farm knows that this Project has it."""
        path = f"/artifacts/{sha256}"
        patience = self._link.patience("whether it has the file", self._patience_s)
        answer = self._link.call("GET", path, patience=patience, wanted=(404,))
        if answer.status != 404:
            return self._link.read(answer, ArtifactTold)
        error = self._link.refusal(answer)
        if not isinstance(error, NotFound):  # a server that is no farm
            raise error
        return None

    def _put(self, path: Path, sha256: str, size_bytes: int, progress: Progress | None) -> ArtifactTold:
        where = f"/artifacts/{sha256}"
        answer = self._link.call(
            "PUT",
            where,
            patience=self._link.patience(f"the upload of '{path.name}'", self._patience_s),
            params={"name": path.name},
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)},
            content=lambda: _blocks(path, sha256, size_bytes, progress),
        )
        return self._link.read(answer, ArtifactTold)


def hashed(path: Path) -> tuple[str, int]:
    """sha256 and size of a file. Raises InputError."""
    hasher, size_bytes = hashlib.sha256(), 0
    for block in _read(path):
        hasher.update(block)
        size_bytes += len(block)
    return hasher.hexdigest(), size_bytes


def _blocks(path: Path, sha256: str, size_bytes: int, progress: Progress | None) -> Iterator[bytes]:
    """The file's bytes as they were when it was hashed. Raises InputError before the last where they have changed."""
    hasher, done = hashlib.sha256(), 0
    if progress:
        progress(0, size_bytes)
    for block in _read(path):
        hasher.update(block)
        done += len(block)
        if done > size_bytes or (done == size_bytes and hasher.hexdigest() != sha256):
            break
        yield block
        if progress:
            progress(done, size_bytes)
        if done == size_bytes:
            return
    if size_bytes or done:
        raise InputError(f"File '{path}' was changed while it was sent, so the farm did not get it. Submit it again.")


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except PermissionError:
        raise InputError(unreadable(path)) from None
    except OSError as error:
        raise InputError(f"File '{path}' cannot be read: {error.strerror}. Give the path of a file.") from None


def _shifted(progress: Progress | None, done: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda part, _: progress(done + part, total)
