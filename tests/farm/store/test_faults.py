"""Killed writers, full disks and lost databases leave nothing half-written."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from farm.errors import DiskFull, StoreError
from farm.store import results
from farm.store.db import Store
from tests.farm.store.nouns import a_block, a_lease, a_started_run

ROOT = Path(__file__).parents[3]

WRITER = """
import itertools, sys
from pathlib import Path
from farm.store import results
from farm.store.db import open_store
from tests.farm.store.nouns import a_block
url, blobs, run_id, token = sys.argv[1:]
store = open_store(url, Path(blobs), upgrade=False)
for index in itertools.count():
    results.save_block(store, run_id, int(token), a_block(index))
    print(index, flush=True)
"""

WRITER_WITHOUT_ROOM = """
import resource, sys
from pathlib import Path
from farm.errors import StoreError
from farm.store import results
from farm.store.db import open_store
from tests.farm.store.nouns import a_block
url, blobs, run_id, token = sys.argv[1:]
store = open_store(url, Path(blobs), upgrade=False)
resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, 64 << 10))
try:
    results.save_block(store, run_id, int(token), a_block(0, facts={"text": "x" * 500_000}))
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("blocks_before", [1, 4])
def test_a_writer_killed_at_any_moment_leaves_whole_blocks_only(
    store: Store, database_url: str, tmp_path: Path, blocks_before: int
) -> None:
    run = a_started_run(store)
    argv = [sys.executable, "-c", WRITER, database_url, str(tmp_path / "blobs"), run.id, str(run.token)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(blocks_before)]
        writer.send_signal(signal.SIGKILL)
    stored = results.blocks_of(store, run.id)
    assert [block.index for block in stored] == list(range(len(stored)))
    assert len(stored) >= len(told)
    for index in range(len(stored)):
        assert [s.value.size for s in results.samples_of(store, run.id, index)] == [3, 2]
    results.save_block(store, run.id, run.token, a_block(len(stored)))  # the lock went with its holder
    assert results.get_run(store, run.id).outcome is None


def test_a_full_sqlite_keeps_all_of_a_block_or_nothing(tmp_path: Path, sqlite_store: Store) -> None:
    run = a_started_run(sqlite_store)
    with sqlite_store.write() as session:
        session.execute(text("PRAGMA max_page_count = 1"))  # no less than it has: not one page more
    with pytest.raises(
        DiskFull, match=r"Disk of Database sqlite:.* is full: database or disk is full.*Free some space"
    ):
        results.save_block(sqlite_store, run.id, run.token, a_block(0, facts={"text": "x" * 500_000}))
    with sqlite_store.write() as session:
        session.execute(text("PRAGMA max_page_count = 1000000"))
    assert results.blocks_of(sqlite_store, run.id) == []
    results.save_block(sqlite_store, run.id, run.token, a_block())


def test_a_disk_that_takes_no_more_is_an_error_of_the_store(tmp_path: Path, sqlite_store: Store) -> None:
    run = a_started_run(sqlite_store)
    url = sqlite_store.engine.url.render_as_string()
    argv = [sys.executable, "-c", WRITER_WITHOUT_ROOM, url, str(tmp_path / "blobs"), run.id, str(run.token)]
    writer = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert "cannot be read or written: disk I/O error. Check its disk" in writer.stdout, writer.stderr
    assert results.blocks_of(sqlite_store, run.id) == []
    results.save_block(sqlite_store, run.id, run.token, a_block())


def test_a_server_that_ends_a_connection_is_an_error_once_and_then_works_again(store: Store) -> None:
    if store.engine.dialect.name == "sqlite":
        store.close()  # SQLite has no server; every connection is given back instead
    else:
        end = "SELECT pg_terminate_backend(pg_backend_pid())"
        with pytest.raises(StoreError, match=r"Database postgresql.*terminating connection"), store.read() as session:
            session.execute(text(end))
    run = a_started_run(store, a_lease(store))
    assert results.get_run(store, run.id) == run
