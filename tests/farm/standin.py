"""A stand-in for a farm: a real HTTP server on loopback that answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from farm.client.patience import Time

TOKEN = "bf_ci_1234_a-very-secret-secret"
JOB = "01990000-0000-7000-8000-000000000001"
RUN = "01990000-0000-7000-8000-000000000002"


@dataclass(frozen=True)
class Reply:
    """One answer. `parts` are written one by one; None among them cuts the connection, a number pauses for seconds."""

    status: int = 200
    data: Any = None
    parts: Sequence[bytes | float | None] = ()
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False  # the connection, without a word

    def body(self) -> bytes:
        """The data as bytes."""
        return self.data if isinstance(self.data, bytes) else json.dumps(self.data).encode()


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def problem(status: int, title: str, detail: str, **more: Any) -> Reply:
    """An error as a farm tells it."""
    told = {"type": "about:blank", "title": title, "status": status, "detail": detail, "exit_code": 2, **more}
    return Reply(status, told, kind="application/problem+json")


def event(number: int, kind: str, **data: Any) -> dict[str, Any]:
    """One event of the Job, as JSON."""
    return {"id": number, "job": JOB, "run": None, "at": "2026-01-02T03:04:05Z", "kind": kind, "data": data}


def sse(*events: Mapping[str, Any]) -> bytes:
    """Events as they travel in a stream."""
    text = "".join(f"id: {one['id']}\nevent: {one['kind']}\ndata: {json.dumps(one)}\n\n" for one in events)
    return text.encode()


def stream(*parts: bytes | float | None) -> Reply:
    """A stream of server-sent events."""
    return Reply(parts=parts, kind="text/event-stream")


def job(**more: Any) -> dict[str, Any]:
    """A Job that waits in the queue."""
    told = {
        "id": JOB,
        "project": "vision",
        "model": "mobilenet",
        "artifact": "ab" * 32,
        "artifact_name": "mobilenet.onnx",
        "plan": {"runtime": "onnxruntime"},
        "on": "virtual",
        "priority": "normal",
        "state": "queued",
        "submitted_at": "2026-01-02T03:04:05Z",
        "submitted_by": "token ci",
        "commit": "abc123",
        "branch": "main",
        "queue": None,
        "cancel_at": None,
        "ended_at": None,
        "outcome": None,
        "verdict": None,
        "reasons": [],
        "runs": [],
        "retry_of": None,
        "virtual": True,
    }
    return told | more


def ended(verdict: str | None = "PASS", outcome: str = "OK", **more: Any) -> dict[str, Any]:
    """The Job once it is over, with one Run."""
    run = {
        "id": RUN,
        "board": "virtual-0",
        "started_at": "2026-01-02T03:04:06Z",
        "begun_at": "2026-01-02T03:04:06Z",
        "ended_at": "2026-01-02T03:04:16.5Z",
        "outcome": outcome,
        "blame": None,
        "reasons": more.get("reasons", []),
    }
    over = {"state": "cancelled" if outcome == "CANCELLED" else "done", "outcome": outcome, "verdict": verdict}
    return job(**over, ended_at="2026-01-02T03:04:17Z", runs=[run], **more)


def artifact(name: str, data: bytes, sha256: str) -> dict[str, Any]:
    """An Artifact of one file."""
    files = [{"path": name, "sha256": sha256, "size_bytes": len(data)}]
    more = {"name": name, "entry": name, "is_folder": False, "files": files}
    return {"sha256": sha256, "size_bytes": len(data), **more}


class StandIn:
    """A farm that says what it was told to say: each reply once, in order, the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._replies: dict[tuple[str, str], list[Reply]] = {}
        self._server: _Server | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._port}"

    def on(self, method: str, path: str, *replies: Reply) -> None:
        """What is answered to this from now on."""
        self._replies[method, "/api/v1" + path] = list(replies)

    def of(self, method: str, path: str) -> list[Asked]:
        """What was asked of this, oldest first."""
        return [asked for asked in self.asked if (asked.method, asked.path) == (method, "/api/v1" + path)]

    def start(self) -> None:
        """Answer again, at the same address."""
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Be gone: every connection is cut."""
        if self._server is not None:
            self._server.end()
            self._server = None

    def reply(self, asked: Asked) -> Reply:
        """What is answered now."""
        self.asked.append(asked)
        replies = self._replies.get((asked.method, asked.path))
        if not replies:
            return problem(404, "NotFound", f"There is no {asked.path} here. Ask for something else.")
        return replies.pop(0) if len(replies) > 1 else replies[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], farm: StandIn) -> None:
        self.farm = farm
        self.open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def end(self) -> None:
        """Stop, and cut what is open."""
        self.shutdown()
        self.server_close()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _do(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        asked = Asked(self.command, url.path, parse_qs(url.query), httpx.Headers(self.headers.items()), body)
        reply = self.server.farm.reply(asked)
        if reply.cut:
            self._cut()
            return
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.kind)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if not reply.parts:
            data = b"" if reply.status == 204 else reply.body()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in reply.parts:
            if part is None:
                self._cut()
                return
            if isinstance(part, bytes):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            else:
                time.sleep(part)
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _do

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def standing_in() -> Iterator[StandIn]:
    """A stand-in for the length of a block."""
    farm = StandIn()
    try:
        yield farm
    finally:
        farm.stop()


class Hurried:
    """A clock that only moves when somebody sleeps, and then at once."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def clock(self) -> float:
        """Seconds slept so far."""
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        """Sleep, without taking any time."""
        self.slept.append(seconds)

    @property
    def time(self) -> Time:
        """As the client takes it."""
        return Time(clock=self.clock, sleep=self.sleep)
