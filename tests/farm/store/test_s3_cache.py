"""The cache before a bucket: it is never believed about the bucket, never wrong, and never the last to forget a blob.

Verified on a stand-in: moto's server.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from farm.errors import StoreError
from farm.services import trimmed_cache
from farm.settings import Settings
from farm.store import results
from farm.store.blobs import Blobs, open_blobs
from farm.store.db import Store, open_store
from tests.farm.store import buckets
from tests.farm.store.buckets import Wire
from tests.farm.store.nouns import a_block, a_started_run

HELLO = hashlib.sha256(b"hello").hexdigest()
KEY = f"blobs/{HELLO[:2]}/{HELLO[2:]}"


def test_a_corrupt_object_is_refused_and_not_cached(s3_blobs: Blobs, bucket: str, s3_server: str) -> None:
    buckets.client(s3_server).put_object(Bucket=bucket, Key=KEY, Body=b"hellp")
    for call in (s3_blobs.local, s3_blobs.open, s3_blobs.verify):
        with pytest.raises(StoreError, match=r"is corrupt: its content hashes to .*Restore that object"):
            call(HELLO)
    assert _files(s3_blobs) == []


def test_a_corrupt_cached_copy_is_told_from_a_corrupt_object(s3_blobs: Blobs) -> None:
    s3_blobs.put_bytes(b"hello")
    s3_blobs.path(HELLO).chmod(0o644)
    s3_blobs.path(HELLO).write_bytes(b"hellp")
    with pytest.raises(StoreError, match=r"Cached copy .* is corrupt: .*Check that disk, then delete the file"):
        s3_blobs.verify(HELLO)


def test_a_download_that_is_cut_goes_on_where_it_was_cut(
    s3_blobs: Blobs, bucket: str, wire: tuple[Wire, str], tmp_path: Path
) -> None:
    data = os.urandom(5 << 20)
    sha256 = s3_blobs.put_bytes(data)
    relay, there = wire
    elsewhere = open_blobs(f"s3://{bucket}/blobs?endpoint_url={there}", tmp_path / "elsewhere")
    relay.cut_after_bytes[:] = [3 << 20, 1 << 20]
    assert elsewhere.local(sha256).read_bytes() == data
    assert relay.requests == ["GET", "GET", "GET"]
    assert len(relay.header("Range")) == 2


def test_a_download_that_is_cut_for_the_third_time_fails_and_leaves_nothing(
    s3_blobs: Blobs, bucket: str, wire: tuple[Wire, str], tmp_path: Path
) -> None:
    sha256 = s3_blobs.put_bytes(os.urandom(5 << 20))
    relay, there = wire
    elsewhere = open_blobs(f"s3://{bucket}/blobs?endpoint_url={there}", tmp_path / "elsewhere")
    relay.cut_after_bytes[:] = [1 << 20, 1 << 20, 1 << 20]
    with pytest.raises(StoreError, match=r"no answer \((IncompleteRead|ResponseStreaming)Error\) in 3 attempts"):
        elsewhere.local(sha256)
    assert _files(elsewhere) == []
    assert elsewhere.local(sha256).stat().st_size == 5 << 20


def test_threads_that_want_one_blob_download_it_once(
    s3_blobs: Blobs, bucket: str, wire: tuple[Wire, str], tmp_path: Path
) -> None:
    data = os.urandom(4 << 20)
    sha256 = s3_blobs.put_bytes(data)
    relay, there = wire
    elsewhere = open_blobs(f"s3://{bucket}/blobs?endpoint_url={there}", tmp_path / "elsewhere")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: elsewhere.local(sha256).read_bytes(), range(8)))
    assert found == [data] * 8
    assert relay.requests == ["GET"]


def test_processes_may_share_a_cache(s3_blobs: Blobs, bucket_url: str, tmp_path: Path) -> None:
    sha256 = s3_blobs.put_bytes(os.urandom(4 << 20))
    lines = (
        "from pathlib import Path",
        "from farm.store.blobs import open_blobs",
        f"path = open_blobs({bucket_url!r}, Path({str(tmp_path / 'shared')!r})).local({sha256!r})",
        "print(path.stat().st_size)",
    )
    words = [sys.executable, "-c", "\n".join(lines)]
    children = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [child.communicate(timeout=60)[0] for child in children] == ["4194304\n"] * 3
    assert len(_files(Blobs(tmp_path / "shared"))) == 1


def test_the_only_copy_and_what_is_no_blob_are_never_trimmed(s3_blobs: Blobs, tmp_path: Path) -> None:
    Blobs(tmp_path / "cache").put_bytes(b"hello")  # as the farm did before it had a bucket
    (tmp_path / "cache" / "ab").mkdir()
    (tmp_path / "cache" / "ab" / "notes.txt").write_text("mine")
    _unused_for(s3_blobs, 7200, HELLO)
    assert s3_blobs.trim(0) == 0
    assert s3_blobs.local(HELLO).read_bytes() == b"hello"
    assert (tmp_path / "cache" / "ab" / "notes.txt").exists()


def test_what_is_trimmed_is_the_longest_unused(s3_blobs: Blobs) -> None:
    names = [s3_blobs.put_bytes(bytes([n]) * 100) for n in range(4)]
    _unused_for(s3_blobs, 7200, names[0])
    _unused_for(s3_blobs, 9000, names[1])
    _unused_for(s3_blobs, 8000, names[2])
    _unused_for(s3_blobs, 1800, names[3])
    with s3_blobs.open(names[1]) as file:  # used now
        assert file.read() == b"\x01" * 100
    assert s3_blobs.trim(400) == 0
    assert s3_blobs.trim(350) == 100
    assert [s3_blobs.path(name).exists() for name in names] == [True, True, False, True]
    assert s3_blobs.trim(0) == 100
    assert [s3_blobs.path(name).exists() for name in names] == [False, True, False, True]
    assert all(s3_blobs.has(name) for name in names)
    assert s3_blobs.local(names[0]).read_bytes() == b"\x00" * 100


def test_a_service_trims_the_cache_by_itself(bucket_url: str, tmp_path: Path) -> None:
    given = Settings(data_dir=tmp_path, blobs_url=bucket_url, blobs_cache_bytes=150)
    store = open_store(f"sqlite:///{tmp_path}/farm.db", given.blobs_dir, upgrade=True, blobs_url=bucket_url)
    names = [store.blobs.put_bytes(bytes([n]) * 100) for n in range(2)]
    with trimmed_cache(store, given, every_s=0.01):
        _unused_for(store.blobs, 7200, names[1])
        deadline = time.monotonic() + 30
        while store.blobs.path(names[1]).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert store.blobs.path(names[0]).exists()
    assert store.blobs.has(names[1])
    store.close()


def test_a_folder_is_never_trimmed(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    blobs.put_bytes(b"hello")
    _unused_for(blobs, 7200, HELLO)
    assert blobs.trim(0) == 0
    assert blobs.has(HELLO)


def test_two_coordinators_share_what_one_of_them_keeps(bucket_url: str, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/farm.db"
    one = open_store(database, tmp_path / "one", upgrade=True, blobs_url=bucket_url)
    two = open_store(database, tmp_path / "two", upgrade=False, blobs_url=bucket_url)
    sha256 = one.blobs.put_bytes(b"hello")
    assert two.blobs.has(sha256)
    assert two.blobs.local(sha256) == tmp_path / "two" / HELLO[:2] / HELLO[2:]
    assert two.blobs.local(sha256).read_bytes() == b"hello"
    two.blobs.delete(sha256)
    assert not one.blobs.has(sha256)
    one.close()
    two.close()


def test_a_folder_of_blobs_can_be_copied_into_the_bucket(
    s3_blobs: Blobs, bucket: str, s3_server: str, tmp_path: Path
) -> None:
    before = Blobs(tmp_path / "before")
    before.put_bytes(b"hello")
    for path in _files(before):
        buckets.client(s3_server).upload_file(str(path), bucket, f"blobs/{path.relative_to(before.folder)}")
    s3_blobs.verify(HELLO)


def test_no_lock_of_the_database_is_held_while_samples_are_uploaded(sqlite_store: Store, tmp_path: Path) -> None:
    class Slow(Blobs):
        def put_bytes(self, data: bytes) -> str:
            with sqlite_store.write():  # as another coordinator would meanwhile
                return super().put_bytes(data)

    run = a_started_run(sqlite_store)
    results.save_block(Store(sqlite_store.engine, Slow(tmp_path / "slow")), run.id, run.token, a_block())
    assert [block.index for block in results.blocks_of(sqlite_store, run.id)] == [0]


def _files(blobs: Blobs) -> list[Path]:
    return [path for path in blobs.folder.rglob("*") if path.is_file()]


def _unused_for(blobs: Blobs, seconds: float, sha256: str) -> None:
    then = time.time() - seconds
    os.utime(blobs.path(sha256), (then, then))
