"""A real HTTP server on loopback that records what is POSTed to it, and answers as it is told."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from farm.domain import Notice

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
SECRET = "5f2d8a1c9be04477aa10c3e6d9f8b721"
TOKEN = "ghp_0123456789abcdefghijABCDEFGHIJ012345"
COMMIT = "4b1d0c9f7e6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c"

Answer = Callable[["Handler"], None]


@dataclass
class Request:
    """What was received; the names of headers in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Handler(BaseHTTPRequestHandler):
    """One request: recorded, then answered by the next of the receiver's answers; the last one stays."""

    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.receiver.requests.append(Request(self.path, headers, body))
        answers = self.receiver.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        with contextlib.suppress(OSError):  # the farm may be gone by now
            answer(self)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Receiver:
    """Where notices are sent to."""

    url: str
    server: ThreadingHTTPServer
    requests: list[Request] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


def says(status: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer; `_` in the name of a header is a dash."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def drips(start: bytes, drop: bytes, every_s: float = 0.05) -> Answer:
    """An answer that never ends, in drops."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(start)
        while True:
            handler.wfile.write(drop)
            time.sleep(every_s)

    return answer


def hangs_up(handler: Handler) -> None:
    """No answer: the connection is closed."""
    handler.close_connection = True


@contextlib.contextmanager
def running(*answers: Answer) -> Iterator[Receiver]:
    """A receiver as long as the context."""

    class Bound(Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Bound) as server:
        Bound.receiver = Receiver(
            f"http://127.0.0.1:{server.server_port}", server, answers=list(answers) or [says(200)]
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Bound.receiver
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def client(timeout_s: float = 10.0) -> Iterator[httpx.Client]:
    """A client that knows no proxy."""
    with httpx.Client(timeout=timeout_s, trust_env=False) as found:
        yield found


def notice(**changes: object) -> Notice:
    """A notice of a Job that passed."""
    data = {
        "job": "0197a000-0000-7000-8000-000000000001",
        "project": "default",
        "model": "mobilenet_v2",
        "board": "pi5-a",
        "outcome": "OK",
        "verdict": "PASS",
        "commit": COMMIT,
        "branch": "main",
        "repository": "acme/vision",
        "url": "https://farm.lab/jobs/1",
        "reasons": [],
        "metrics": [{"metric": "p50_latency_ns", "value": 1637000.0, "low": 1.6e6, "high": None, "n": 500}],
    }
    values = {
        "id": "0197a000-0000-7000-8000-00000000000a",
        "kind": "job.done",
        "project": "default",
        "title": "PASS: mobilenet_v2 on pi5-a",
        "text": "p50 latency 1.637 ms",
        "at": NOW,
    }
    own = {key: value for key, value in changes.items() if key in values}
    return Notice(**{**values, **own}, data={**data, **{k: v for k, v in changes.items() if k not in own}})  # type: ignore[arg-type]
