"""Blobs: a name always stands for all of its bytes, in a folder and in a bucket."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.errors import InputError, NotFound, StoreError, TooLarge
from farm.store.blobs import Blobs

HELLO = hashlib.sha256(b"hello").hexdigest()


@pytest.fixture(params=["folder", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    found: Blobs = Blobs(tmp_path / "blobs") if request.param == "folder" else request.getfixturevalue("s3_blobs")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.mark.parametrize("name", ["", "abc", "../" + "a" * 61, "A" * 64, "g" * 64])
def test_what_is_no_hash_is_no_blob(blobs: Blobs, name: str) -> None:
    with pytest.raises(InputError, match="a sha256 is 64 hex digits"):
        blobs.path(name)
    for call in (blobs.has, blobs.local, blobs.open, blobs.size_bytes, blobs.verify, blobs.delete):
        with pytest.raises(InputError, match="a sha256 is 64 hex digits"):
            call(name)
    with pytest.raises(InputError, match="a sha256 is 64 hex digits"):
        blobs.put_stream([b""], expected=name)


def test_a_blob_that_is_not_there_is_not_found(blobs: Blobs) -> None:
    assert not blobs.has(HELLO)
    for call in (blobs.open, blobs.local, blobs.size_bytes, blobs.verify):
        with pytest.raises(NotFound, match=f"Blob {HELLO} is not in .*Restore"):
            call(HELLO)
    assert _files(blobs) == []


def test_a_corrupt_blob_is_detected(blobs: Blobs) -> None:
    blobs.put_bytes(b"hello")
    blobs.verify(HELLO)
    blobs.path(HELLO).chmod(0o644)
    blobs.path(HELLO).write_bytes(b"hellp")
    with pytest.raises(StoreError, match=r"is corrupt: its content hashes to .*Check that disk"):
        blobs.verify(HELLO)


def test_a_missing_file_is_your_input(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere cannot be read: No such file"):
        blobs.put_file(tmp_path / "nowhere")


def test_a_folder_and_a_pipe_are_no_files(blobs: Blobs, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match="is not a regular file"):
            blobs.put_file(path)


@pytest.mark.parametrize("change", [b"longer than before", b"hellp"])
def test_a_file_that_changes_while_it_is_read_is_refused(blobs: Blobs, tmp_path: Path, change: bytes) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"hello")

    def rewrite(done: int, total: int) -> None:
        if done <= total / 2:
            source.write_bytes(change)

    with pytest.raises(InputError, match="changed while it was read"):
        blobs.put_file(source, progress=rewrite)
    assert _files(blobs) == []


def test_a_full_disk_leaves_nothing_behind(folder: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(bytes(1 << 20))
    assert _in_a_child_that_may_write(64 << 10, f"blobs.put_file(Path({str(source)!r}))", folder) == "StoreFull farm"
    assert _in_a_child_that_may_write(64 << 10, "blobs.put_bytes(bytes(1 << 20))", folder) == "StoreFull farm"
    stream = f"blobs.put_stream([bytes(1 << 20)], expected={hashlib.sha256(bytes(1 << 20)).hexdigest()!r})"
    assert _in_a_child_that_may_write(64 << 10, stream, folder) == "StoreFull farm"
    assert _files(folder) == []


def test_a_folder_that_cannot_be_written_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Blob store at .*failed"):
        Blobs(tmp_path / "file" / "blobs")


def test_a_writer_killed_half_way_leaves_no_name_and_its_rest_is_swept(folder: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(bytes(4 << 20))
    kill = "lambda done, total: os.kill(os.getpid(), 9) if done > total * 0.6 else None"
    child = _child(f"blobs.put_file(Path({str(source)!r}), progress={kill})", folder)
    assert child.returncode == -signal.SIGKILL
    (rest,) = _files(folder)
    assert rest.name.startswith(".aside-")
    assert not folder.has(hashlib.sha256(bytes(4 << 20)).hexdigest())
    Blobs(folder.folder)
    assert _files(folder) == [rest]  # it might still be written
    two_hours_ago = time.time() - 7200
    os.utime(rest, (two_hours_ago, two_hours_ago))
    Blobs(folder.folder)
    assert _files(folder) == []


@pytest.mark.parametrize("is_there", [False, True])
def test_a_stream_of_other_bytes_is_refused(blobs: Blobs, is_there: bool) -> None:
    if is_there:
        blobs.put_bytes(b"hello")
    before = _files(blobs)
    with pytest.raises(InputError) as told:
        blobs.put_stream([b"hel", b"lp"], expected=HELLO)
    assert str(told.value) == (
        f"Upload of blob {HELLO} was refused: what came hashes to "
        "fdd7585e08c4e2afd71dcabdb4636c89d557a3f42db9e2040c8bbd1708aa4ce7. "
        "Compute the sha256 of what you send, or send it again."
    )
    assert (blobs.has(HELLO), _files(blobs)) == (is_there, before)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_stream_over_the_limit_is_refused_before_all_of_it_came(blobs: Blobs, is_there: bool) -> None:
    if is_there:
        blobs.put_bytes(b"hello")
    chunks = iter([b"he", b"llo", b"never read"])
    with pytest.raises(TooLarge, match=r"is too large: over 4 bytes came, which is the limit\. Send less"):
        blobs.put_stream(chunks, expected=HELLO, limit_bytes=4)
    assert next(chunks) == b"never read"
    assert (blobs.has(HELLO), len(_files(blobs))) == (is_there, int(is_there))


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), KeyError("client gone")])
def test_a_stream_that_breaks_off_leaves_nothing(blobs: Blobs, error: Exception) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"hel"
        raise error

    with pytest.raises(
        (InputError, KeyError), match=r"broke off: Connection reset by peer\. Send it again|client gone"
    ):
        blobs.put_stream(chunks(), expected=HELLO)
    assert not blobs.has(HELLO)
    assert _files(blobs) == []


def test_a_store_that_takes_nothing_now_is_told(blobs: Blobs) -> None:
    blobs.check()
    assert _files(blobs) == []
    blobs.folder.rmdir()
    with pytest.raises(StoreError, match="Check that the folder is there and yours to write"):
        blobs.check()


def test_a_stream_is_kept_once(blobs: Blobs) -> None:
    told: list[int] = []
    assert blobs.put_stream([b"he", b"", b"llo"], expected=HELLO, limit_bytes=5, progress=told.append) == 5
    assert told == [2, 2, 5]
    inode = blobs.local(HELLO).stat().st_ino
    assert blobs.put_stream(iter([b"hello"]), expected=HELLO) == 5
    assert blobs.local(HELLO).stat().st_ino == inode
    assert blobs.local(HELLO).read_bytes() == b"hello"
    assert blobs.size_bytes(HELLO) == 5


def test_a_file_is_kept_under_its_hash_and_read_only(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"hello")
    told: list[tuple[int, int]] = []
    assert blobs.put_file(source, progress=lambda done, total: told.append((done, total))) == (HELLO, 5)
    assert told == [(5, 10), (10, 10), (10, 10)]
    with blobs.open(HELLO) as file:
        assert file.read() == b"hello"
    assert blobs.path(HELLO).stat().st_mode & 0o777 == 0o444


def test_the_same_again_is_not_written_again(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"hello")
    assert blobs.put_bytes(b"hello") == HELLO
    before = blobs.path(HELLO).stat()
    assert blobs.put_file(source) == (HELLO, 5)
    assert blobs.put_bytes(b"hello") == HELLO
    assert blobs.path(HELLO).stat().st_ino == before.st_ino


def test_an_empty_file_is_a_blob_too(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    sha256, size_bytes = blobs.put_file(tmp_path / "empty")
    assert (sha256, size_bytes) == (hashlib.sha256(b"").hexdigest(), 0)
    assert blobs.has(sha256)


def test_a_deleted_blob_is_gone_and_deleting_it_again_is_fine(blobs: Blobs) -> None:
    blobs.put_bytes(b"hello")
    blobs.delete(HELLO)
    blobs.delete(HELLO)
    assert not blobs.has(HELLO)


def _files(blobs: Blobs) -> list[Path]:
    return [path for path in blobs.folder.rglob("*") if path.is_file()]


def _child(statement: str, blobs: Blobs) -> subprocess.CompletedProcess[str]:
    lines = ("import os", "from pathlib import Path", "from farm.store.blobs import Blobs")
    program = "\n".join((*lines, f"blobs = Blobs(Path({str(blobs.folder)!r}))", statement))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def _in_a_child_that_may_write(limit_bytes: int, statement: str, blobs: Blobs) -> str:
    """The error's class and whom it blames, in a process whose files may not grow beyond the limit."""
    lines = (
        "import resource",
        "from farm.errors import DiskFull",
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))",
        "try:",
        f"    {statement}",
        "except DiskFull as error:",
        "    print(type(error).__name__, error.blame)",
    )
    child = _child("\n".join(lines), blobs)
    return child.stdout.strip() or child.stderr
