"""A served farm: on SQLite for most tests, on each kind of database for what depends on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.store.db import Store, open_store
from tests.farm.api import live


@pytest.fixture
def store(tmp_path: Path, _sqlite_template: Path) -> Iterator[Store]:
    shutil.copy(_sqlite_template, tmp_path / "farm.db")
    opened = open_store(f"sqlite:///{tmp_path}/farm.db", tmp_path / "blobs", upgrade=False)
    yield opened
    opened.close()


@pytest.fixture
def api(store: Store, tmp_path: Path) -> Iterator[live.Live]:
    with live.serve(store, tmp_path) as served:
        yield served


@pytest.fixture
def impatient(store: Store, tmp_path: Path) -> Iterator[live.Live]:
    """The same, but that it gives a client up after one second."""
    with live.serve(store, tmp_path, upload_idle_s=1.0) as served:
        yield served


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> Iterator[live.Live]:
    """One for all tests of a file that are only refused, or do not mind what the others did."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copy(_sqlite_template, folder / "farm.db")
    opened = open_store(f"sqlite:///{folder}/farm.db", folder / "blobs", upgrade=False)
    with live.serve(opened, folder) as served:
        yield served
    opened.close()


@pytest.fixture
def each_api(database_url: str, tmp_path: Path) -> Iterator[live.Live]:
    """The same on each kind of database."""
    opened = open_store(database_url, tmp_path / "blobs", upgrade=False)
    with live.serve(opened, tmp_path) as served:
        yield served
    opened.close()
