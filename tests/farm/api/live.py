"""A farm's API on a real server, with a token of each role in two Projects, and what a test asks of it."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from farm.api.app import Server, Services, create_app
from farm.domain import Board, Health, Role, Worker
from farm.settings import Settings
from farm.store import boards, leases, tokens, workers
from farm.store.db import Store

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PI = Board(
    name="pi5-a",
    transport="ssh",
    address="bench@10.0.0.5:22",
    site="lab",
    tags=("ssd",),
    facts={
        "identity": {"family": "raspberrypi", "model": "Raspberry Pi 5", "accelerators": ["hailo8l"]},
        "context": {"memory_total_bytes": 8_000_000_000},
        "runtimes": {"fake": {"present": True}, "onnxruntime": {"present": False, "reason": "not installed"}},
    },
)
MODEL = b"ok"
MODEL_SHA = hashlib.sha256(MODEL).hexdigest()


class Clock:
    """A clock that is told the time."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def step(self, seconds: float) -> None:
        """Let some time pass."""
        self.now += timedelta(seconds=seconds)


@dataclass
class Live:
    """The running API."""

    port: int
    store: Store
    server: Server
    clock: Clock
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    kicks: list[str] = field(default_factory=list)
    clients: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)
    _by_name: dict[str | None, httpx.Client] = field(default_factory=dict, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, name: str | None) -> httpx.Client:
        """The client with the token of that name: admin, vision-ci, vision-engineer, audio-ci; None: without one."""
        if name not in self._by_name:
            headers = {} if name is None else {"Authorization": f"Bearer {self.secrets[name]}"}
            # Without TLS there is nothing to verify, and to read the certificates takes longer than most tests.
            client = httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=20, verify=False)
            self._by_name[name] = self.clients.enter_context(client)
        return self._by_name[name]

    def raw(self) -> socket.socket:
        """A bare connection."""
        return self.clients.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=20))

    def send(self, name: str = "vision-ci", data: bytes = MODEL, file: str = "mobilenet.fake") -> str:
        """Send a file: its sha256."""
        sha256 = hashlib.sha256(data).hexdigest()
        answer = self.client(name).put(f"/artifacts/{sha256}", params={"name": file}, content=data)
        assert answer.status_code in (200, 201), answer.text
        return sha256

    def submit(self, name: str = "vision-ci", **more: Any) -> dict[str, Any]:
        """Submit a Job: what is told of it."""
        answer = self.client(name).post("/jobs", json={"artifact": self.send(name), **more})
        assert answer.status_code == 201, answer.text
        return answer.json()  # type: ignore[no-any-return]


@contextlib.contextmanager
def serve(
    store: Store, folder: Path, *, listeners: int = 50, kick: Callable[[], None] | None = None, **settings: Any
) -> Iterator[Live]:
    """Serve a store on a free port of the loopback, until the end of the block."""
    clock = Clock()
    kicks: list[str] = []
    kick = kick or (lambda: kicks.append("kick"))
    given = Settings(data_dir=folder, **{"upload_idle_s": 15.0, "upload_limit_bytes": 3_000_000, **settings})
    app = create_app(Services(store, given, kick=kick, clock=clock), listeners=listeners)
    server = Server(uvicorn.Config(app, port=0, ws="none", log_config=None, timeout_graceful_shutdown=10))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        live = Live(port, store, server, clock, kicks=kicks)
        populate(live)
        with live.clients:
            yield live
    finally:
        server.should_exit = True
        thread.join()


def populate(live: Live) -> None:
    """Tokens, a Board in good health, a worker."""
    for name, role, project in (
        ("admin", Role.ADMIN, None),
        ("vision-ci", Role.CI, "vision"),
        ("vision-engineer", Role.ENGINEER, "vision"),
        ("audio-ci", Role.CI, "audio"),
        ("audio-engineer", Role.ENGINEER, "audio"),
    ):
        _, live.secrets[name] = tokens.create(
            live.store, name=name, role=role, project=project, created_by="ann", expires_at=None, now=NOW
        )
    boards.save_board(live.store, PI, NOW)
    lease = leases.grant(live.store, PI.name, holder="check", ttl_s=30, now=NOW, is_check=True)
    boards.checked(live.store, PI.name, lease.token, facts=PI.facts, note="", next_check_at=None, now=NOW)
    leases.release(live.store, lease, now=NOW)
    assert boards.status(live.store, PI.name).health is Health.GOOD
    workers.beat(live.store, Worker("lab1:7:ab", "lab", 2, NOW), NOW)


def problem(answer: httpx.Response, status: int, title: str) -> str:
    """The detail of a problem of that status and title."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told = answer.json()
    assert (answer.status_code, told["status"], told["title"]) == (status, status, title), answer.text
    return str(told["detail"])


def request(method: str, path: str, secret: str, *headers: str) -> bytes:
    """The head of a raw request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: farm", f"Authorization: Bearer {secret}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def answer_of(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            found += data
    return found
