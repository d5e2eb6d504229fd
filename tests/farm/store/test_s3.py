"""Blobs in a bucket: the cache is never believed about the bucket, and every failure says what to do.

Verified on a stand-in: moto's server.
"""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from farm.errors import InputError, StoreError
from farm.store.blobs import Blobs, open_blobs
from farm.store.s3 import parse
from tests.farm.store import buckets

HELLO = hashlib.sha256(b"hello").hexdigest()
KEY = f"blobs/{HELLO[:2]}/{HELLO[2:]}"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("gs://bench/blobs", "of kind 'gs' is not known. Give s3://"),
        ("/var/lib/blobs", "of kind '/var/lib/blobs' is not known"),
        ("file://server/blobs", "names no folder of this machine. Give file:///whole/path"),
        ("file:blobs?x=1", "names no folder of this machine"),
        ("s3://", "it names no bucket. Give one such as s3://bucket/prefix"),
        ("s3:///blobs", "it names no bucket"),
        ("s3://b", "it names no bucket"),
        ("s3://bench:9000/blobs", "it names no bucket"),
        ("s3://bench:port/blobs", "it cannot be read"),
        ("s3://bench/blobs?endpoint_url", "it cannot be read"),
        ("s3://bench/blobs?endpoint_url=minio.lab:9000", "its endpoint_url is no http:// or https:// URL"),
        ("s3://bench/blobs?endpoint=http://minio.lab", "it has an unknown option 'endpoint'"),
        ("s3://AKIA:s3cret@bench/blobs", "holds credentials"),
        ("s3://bench/blobs?aws_secret_access_key=s3cret", "holds credentials"),
        ("s3://bench/blobs?endpoint_url=http://AKIA:s3cret@minio.lab", "holds credentials"),
        ("s3://bench/blobs?endpoint_url=http%3A%2F%2FAKIA%3As3cret%40minio.lab", "holds credentials"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secrets(wrong: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        open_blobs(wrong, tmp_path)
    assert told in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_without_boto3_the_extra_is_named(tmp_path: Path) -> None:
    lines = (
        "import sys",
        "from pathlib import Path",
        "sys.modules['boto3'] = None",
        "from farm.errors import InputError",
        "from farm.store.blobs import open_blobs",
        "try:",
        f"    open_blobs('s3://bench/blobs', Path({str(tmp_path)!r}))",
        "except InputError as error:",
        "    print(error)",
    )
    assert _output(lines) == (
        "Blob store s3://bench/blobs needs boto3, which is not installed. pip install 'benchfarm[s3]'"
    )


def test_opening_neither_loads_boto3_nor_asks_the_server(tmp_path: Path) -> None:
    lines = (
        "import sys",
        "from pathlib import Path",
        "from farm.store.blobs import open_blobs",
        f"open_blobs('s3://bench/blobs?endpoint_url=http://127.0.0.1:1', Path({str(tmp_path)!r}))",
        "print('boto3' in sys.modules)",
    )
    assert _output(lines) == "False"


def test_a_bucket_that_is_not_there_is_told_by_every_call(bucket: str, s3_server: str, tmp_path: Path) -> None:
    blobs = open_blobs(f"s3://{bucket}-2?endpoint_url={s3_server}", tmp_path / "cache")
    for call in (blobs.has, blobs.local, blobs.size_bytes, blobs.verify, lambda _: blobs.put_bytes(b"hello")):
        with pytest.raises(StoreError) as told:
            call(HELLO)
        assert str(told.value) == (
            f"Blob store s3://{bucket}-2 at {s3_server} failed: the server answered NoSuchBucket. "
            "Create the bucket, or name another in blobs_url."
        )
    with pytest.raises(StoreError, match="NoSuchBucket"):
        blobs.check()


def test_wrong_credentials_are_told_and_not_shown(s3_blobs: Blobs, s3_server: str) -> None:
    with buckets.guarded(s3_server):
        for call in (s3_blobs.local, s3_blobs.has, s3_blobs.delete):
            with pytest.raises(
                StoreError, match=r"(InvalidAccessKeyId|403)\. Check the credentials that boto3"
            ) as told:
                call(HELLO)
            assert "s3cret" not in str(told.value)
            assert buckets.ENVIRONMENT["AWS_ACCESS_KEY_ID"] not in str(told.value)


def test_credentials_without_the_right_are_told_which_right(
    bucket_url: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets.sign_in(monkeypatch, **buckets.user_who_may(s3_server, "s3:GetObject", "s3:ListBucket", "s3:HeadBucket"))
    blobs = open_blobs(bucket_url, tmp_path / "cache")
    with buckets.guarded(s3_server):
        with pytest.raises(StoreError, match=r"AccessDenied\. Allow s3:GetObject, s3:PutObject and s3:DeleteObject"):
            blobs.put_bytes(b"hello")
        assert not blobs.has(HELLO)


def test_no_credentials_at_all_are_told(bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match=r"no credentials to sign with \(NoCredentialsError\)\. Check the credentials"):
        open_blobs(bucket_url, tmp_path / "cache").has(HELLO)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match=r"no credentials to sign with \(ProfileNotFound\)"):
        open_blobs(bucket_url, tmp_path / "cache").has(HELLO)


def test_a_server_that_is_not_there_is_told(bucket: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    blobs = open_blobs(f"s3://{bucket}?endpoint_url=http://127.0.0.1:{port}", tmp_path / "cache")
    with pytest.raises(StoreError) as told:
        blobs.put_bytes(b"hello")
    assert str(told.value) == (
        f"Blob store s3://{bucket} at http://127.0.0.1:{port} failed: no answer (EndpointConnectionError) in 3 "
        "attempts. Check that the server runs, the network to it, and endpoint_url in blobs_url."
    )


def test_a_server_without_tls_is_told(bucket: str, s3_server: str, tmp_path: Path) -> None:
    blobs = open_blobs(f"s3://{bucket}?endpoint_url={s3_server.replace('http', 'https')}", tmp_path / "cache")
    with pytest.raises(StoreError, match=r"TLS was refused .*AWS_CA_BUNDLE"):
        blobs.check()


@pytest.mark.parametrize("option", ["region=no_region!", "endpoint_url=http://mini_o lab"])
def test_what_only_boto3_can_judge_is_told_as_input(option: str, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"endpoint_url or region is malformed\. Correct blobs_url"):
        open_blobs(f"s3://{bucket}?{option}", tmp_path / "cache").has(HELLO)


def test_an_upload_that_failed_is_not_taken_for_done(
    bucket: str, s3_server: str, s3_blobs: Blobs, tmp_path: Path
) -> None:
    buckets.client(s3_server).delete_bucket(Bucket=bucket)
    with pytest.raises(StoreError, match="NoSuchBucket"):
        s3_blobs.put_bytes(b"hello")
    buckets.client(s3_server).create_bucket(Bucket=bucket)
    assert not s3_blobs.has(HELLO)  # though it is cached
    assert s3_blobs.put_stream([b"hel", b"lo"], expected=HELLO) == 5
    assert buckets.client(s3_server).get_object(Bucket=bucket, Key=KEY)["Body"].read() == b"hello"


def test_the_server_is_told_the_sha256_of_what_comes(
    bucket: str, wire: tuple[buckets.Wire, str], tmp_path: Path
) -> None:
    relay, there = wire
    open_blobs(f"s3://{bucket}?endpoint_url={there}", tmp_path / "cache").put_bytes(b"hello")
    assert relay.requests == ["HEAD", "HEAD", "PUT"]  # is it there, is the bucket there, here it is
    assert relay.header("x-amz-content-sha256")[-1] == HELLO


def test_a_large_file_travels_in_parts(bucket: str, wire: tuple[buckets.Wire, str], tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(bytes(range(256)) * (40 << 12))
    relay, there = wire
    blobs = open_blobs(f"s3://{bucket}?endpoint_url={there}", tmp_path / "cache")
    sha256, size_bytes = blobs.put_file(tmp_path / "model.onnx")
    assert size_bytes == 40 << 20
    assert relay.requests.count("PUT") == 3
    assert open_blobs(f"s3://{bucket}?endpoint_url={there}", tmp_path / "other").size_bytes(sha256) == 40 << 20
    blobs.verify(sha256)


def test_a_url_of_a_folder_is_that_folder(tmp_path: Path) -> None:
    blobs = open_blobs(f"file://{tmp_path}/my%20blobs", tmp_path / "blobs")
    assert blobs.folder == tmp_path / "my blobs"
    assert not (tmp_path / "blobs").exists()
    assert open_blobs(None, tmp_path / "blobs").folder == tmp_path / "blobs"


@pytest.mark.parametrize(
    ("url", "shown", "key"),
    [
        ("s3://bench", "s3://bench", f"{HELLO[:2]}/{HELLO[2:]}"),
        ("s3://bench/a/b/?region=eu-west-1", "s3://bench/a/b", f"a/b/{HELLO[:2]}/{HELLO[2:]}"),
        (
            "s3://bench/a?endpoint_url=https://m.lab:9000",
            "s3://bench/a at https://m.lab:9000",
            f"a/{HELLO[:2]}/{HELLO[2:]}",
        ),
    ],
)
def test_a_url_names_bucket_prefix_and_server(url: str, shown: str, key: str) -> None:
    assert (str(parse(url)), parse(url).key(HELLO)) == (shown, key)


def _output(lines: tuple[str, ...]) -> str:
    words = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
