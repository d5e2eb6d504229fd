"""The short-lived child before each Block: hash every file of the artifact, then make it cold or warm, and check that.

stdin:  one JSON line {"folder", "files": {path: sha256}, "feed": path or "", "feed_sha256", "cache": "cold"|"warm"}
stdout: one JSON line {"cache", "asked", "resident_bytes", "size_bytes", "hash_ns", "notes": []}
        or {"failed": {"code", "text", "blame"}}

"cold" is believed only where mincore(2) finds no page of any file in memory after posix_fadvise(DONTNEED).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping

CHUNK_BYTES = 1 << 20


class Corrupt(Exception):
    """A cached file is not what was pushed."""


def main(argv: List[str]) -> int:
    """Read one request from stdin, answer it on stdout; 0 where it was answered."""
    request = json.loads(sys.stdin.readline())
    try:
        answer = prepare(request)
    except Corrupt as error:
        answer = {"failed": {"code": "cache_corrupt", "text": str(error), "blame": "farm"}}
    except OSError as error:
        text = "The artifact could not be read on the board: %s. Check the board's disk." % error
        answer = {"failed": {"code": "board_io", "text": text, "blame": "board"}}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def prepare(request: Mapping[str, Any]) -> Dict[str, Any]:
    """Check and temper the files of one artifact. Raises Corrupt, OSError."""
    folder, files = request["folder"], request["files"]
    paths = [os.path.join(folder, name) for name in sorted(files)]
    begin_ns = time.monotonic_ns()
    for path, name in zip(paths, sorted(files)):
        check(path, files[name])
    if request["feed"]:
        check(request["feed"], request["feed_sha256"])
    hash_ns = time.monotonic_ns() - begin_ns
    notes = remove_strangers(folder, set(files))
    resident_bytes = evict(paths) if request["cache"] == "cold" else sum(resident(path) for path in paths)
    size_bytes = sum(os.path.getsize(path) for path in paths)
    cache = "cold" if resident_bytes == 0 and size_bytes else "warm"
    if cache != request["cache"]:
        seen = "had no effect" if resident_bytes >= size_bytes else "left %d of %d bytes" % (resident_bytes, size_bytes)
        notes.append("asked for %s, is %s: eviction %s" % (request["cache"], cache, seen))
    return {
        "cache": cache,
        "asked": request["cache"],
        "resident_bytes": resident_bytes,
        "size_bytes": size_bytes,
        "hash_ns": hash_ns,
        "notes": notes,
    }


def check(path: str, sha256: str) -> None:
    """Raises Corrupt unless the file's content has that sha256. Reading it also makes it warm."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            while True:
                chunk = file.read(CHUNK_BYTES)
                if not chunk:
                    break
                digest.update(chunk)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise Corrupt(
            "The cached file %s is not there (%s). It will be pushed again." % (path, error.strerror)
        ) from None
    if digest.hexdigest() != sha256:
        raise Corrupt(
            "The cached file %s was changed: its sha256 is %s, pushed was %s. It will be pushed again."
            % (path, digest.hexdigest(), sha256)
        )


def remove_strangers(folder: str, files: Any) -> List[str]:
    """Remove what is not of the artifact: an earlier model may have put it there to be found by a later one."""
    notes = []
    for where, _, names in os.walk(folder):
        for name in names + [entry.name for entry in os.scandir(where) if entry.is_symlink() and entry.is_dir()]:
            path = os.path.relpath(os.path.join(where, name), folder)
            if path not in files:
                os.unlink(os.path.join(folder, path))
                notes.append("removed %r, which is not of the artifact" % path)
    return notes


def evict(paths: List[str]) -> int:
    """Drop files from the page cache; returns the bytes that stayed."""
    left = 0
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)  # a dirty page is never dropped
            for attempt in range(5):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                stayed = resident(path)
                if not stayed:
                    break
                time.sleep(0.01 * (attempt + 1))
        finally:
            os.close(fd)
        left += stayed
    return left


def resident(path: str) -> int:
    """Bytes of a file that are in the page cache, by mincore(2), in whole pages but never above its size."""
    size = os.path.getsize(path)
    if size == 0:
        return 0
    libc, page = ctypes.CDLL(None, use_errno=True), mmap.PAGESIZE
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "mmap failed", path)
        try:
            pages = ctypes.create_string_buffer((size + page - 1) // page)
            if libc.mincore(address, size, pages) != 0:
                raise OSError(ctypes.get_errno(), "mincore failed", path)
        finally:
            libc.munmap(address, size)
    finally:
        os.close(fd)
    count = sum(1 for byte in pages.raw if byte & 1)
    return min(count * page, size)
