"""A bucket to test against, and a wire to it that can be cut.

The server is moto's (package moto[server]), a stand-in: it keeps objects as S3 does, but checks neither signatures nor
checksums.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer
from mypy_boto3_s3 import S3Client

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "farm-tests",
    "AWS_SECRET_ACCESS_KEY": "s3cret-of-the-tests",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


def sign_in(monkeypatch: pytest.MonkeyPatch, **other: str) -> None:
    """Credentials for boto3, and none of this machine's own."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**ENVIRONMENT, **other}.items():
        monkeypatch.setenv(name, value)


def client(server_url: str) -> S3Client:
    """What boto3 knows of the server, past our own code."""
    return boto3.client("s3", endpoint_url=server_url, region_name="us-east-1")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A running server on a free port of the loopback: its URL."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        moto.stop()


@contextlib.contextmanager
def guarded(server_url: str) -> Iterator[None]:
    """Meanwhile the server asks who one is. (It does so for what changes or lists, not for every HEAD and GET.)"""
    httpx.post(f"{server_url}/moto-api/reset-auth", content="0").raise_for_status()
    try:
        yield
    finally:
        httpx.post(f"{server_url}/moto-api/reset-auth", content="inf").raise_for_status()


def user_who_may(server_url: str, *actions: str) -> dict[str, str]:
    """The credentials of somebody with just these rights, as variables of the environment."""
    iam = boto3.client("iam", endpoint_url=server_url, region_name="us-east-1")
    iam.create_user(UserName="somebody")
    rights = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    iam.put_user_policy(UserName="somebody", PolicyName="these", PolicyDocument=json.dumps(rights))
    key = iam.create_access_key(UserName="somebody")["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


@dataclass
class Wire:
    """A TCP relay to the server: what was asked through it, and answers that it cuts short."""

    target: tuple[str, int]
    sent: bytearray = field(default_factory=bytearray)
    cut_after_bytes: list[int] = field(default_factory=list)
    """For each of the next connections, after how many bytes of the server's it is cut."""

    @property
    def requests(self) -> list[str]:
        """The requests' methods, in order."""
        return [method.decode() for method in re.findall(rb"(GET|PUT|HEAD|POST|DELETE) /\S* HTTP/1.1\r\n", self.sent)]

    def header(self, name: str) -> list[str]:
        """What that header was, in each request that had it."""
        return [found.decode() for found in re.findall(rb"(?i)\r\n" + name.encode() + rb": *([^\r]*)", self.sent)]

    def _relay(self, near: socket.socket) -> None:
        cut = self.cut_after_bytes.pop(0) if self.cut_after_bytes else None
        with near, socket.create_connection(self.target) as far:
            back = threading.Thread(target=self._forward, args=(near, far))
            back.start()
            with contextlib.suppress(OSError):
                while (data := far.recv(65536)) and (cut is None or cut > 0):
                    near.sendall(data[:cut])
                    cut = cut if cut is None else cut - len(data)
            for end in (near, far):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join()

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                self.sent += data
                far.sendall(data)
            far.shutdown(socket.SHUT_RDWR)

    def accept(self, listener: socket.socket) -> None:
        """Relay connections until the listener is closed."""
        relays = []
        with contextlib.suppress(OSError):
            while True:
                relays.append(threading.Thread(target=self._relay, args=(listener.accept()[0],)))
                relays[-1].start()
        for relay in relays:
            relay.join()


@contextlib.contextmanager
def wire(url: str) -> Iterator[tuple[Wire, str]]:
    """A wire to the server, and its URL through that wire."""
    host, _, port = url.removeprefix("http://").partition(":")
    relay = Wire((host, int(port)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=relay.accept, args=(listener,))
        thread.start()
        try:
            yield relay, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
