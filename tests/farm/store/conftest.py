"""An open store with nothing in it, on each kind of database; an empty bucket."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.store.blobs import Blobs, open_blobs
from farm.store.db import Store, open_store
from tests.farm.store import buckets


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A stand-in for an S3-compatible server: its URL."""
    with buckets.server() as url:
        yield url


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket on it, with credentials in the environment."""
    buckets.sign_in(monkeypatch)
    name = f"bench-{uuid.uuid4().hex[:12]}"
    buckets.client(s3_server).create_bucket(Bucket=name)
    return name


@pytest.fixture
def bucket_url(bucket: str, s3_server: str) -> str:
    """The URL of the blobs in that bucket."""
    return f"s3://{bucket}/blobs?endpoint_url={s3_server}"


@pytest.fixture
def s3_blobs(bucket_url: str, tmp_path: Path) -> Blobs:
    """No blobs yet, in that bucket."""
    return open_blobs(bucket_url, tmp_path / "cache")


@pytest.fixture
def wire(s3_server: str) -> Iterator[tuple[buckets.Wire, str]]:
    """A wire to the server that can be cut, and the server's URL through it."""
    with buckets.wire(s3_server) as found:
        yield found


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(database_url, tmp_path / "blobs", upgrade=False)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/farm.db", tmp_path / "blobs", upgrade=True)
    yield opened
    opened.close()
