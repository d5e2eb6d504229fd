"""A whole farm for a benchmark: its services as a user starts them, in their own processes, and a client of its API."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg
from farm_agent import wire
from psycopg import sql
from sqlalchemy import make_url

from benchmarks import crowd, standin
from farm import broker, domain
from farm.store import db, tokens

API = "/api/v1"
READY_S = 300.0
STOP_S = 40.0
SLOTS = 32

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Services:
    """Which services carry a farm."""

    name: str
    prefix: str  # of its boards' names
    database_url: str | None  # None: SQLite in its data folder
    redis_url: str
    is_split: bool  # API and worker started apart, as a real lab has it; else `farm up`


class Lab:
    """A farm at work."""

    def __init__(
        self, services: Services, database_url: str, url: str, secret: str, processes: tuple[int, int]
    ) -> None:
        self.services, self.database_url, self.url = services, database_url, url
        self._worker, self._front = processes  # who has the connections to boards, and who the API: maybe the same
        self._headers = {"Authorization": f"Bearer {secret}"}
        self.client = self.new_client()
        self.artifact = hashlib.sha256(standin.MODEL).hexdigest()

    def new_client(self) -> httpx.Client:
        """One connection to its API."""
        return httpx.Client(base_url=self.url + API, headers=self._headers, timeout=60.0, trust_env=False)

    def ask(self, method: str, path: str, client: httpx.Client | None = None, **more: Any) -> Any:
        """What its API answers. Ends the benchmark where that is an error."""
        answer = (client or self.client).request(method, path, **more)
        if answer.status_code >= 400:
            raise SystemExit(f"{self.services.name}: {method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def receive(self) -> None:
        """The model is sent."""
        self.ask("PUT", f"/artifacts/{self.artifact}", params={"name": standin.MODEL_NAME}, content=standin.MODEL)

    def submit(self, client: httpx.Client | None = None) -> str:
        """A Job of one Block, on any board; its id."""
        plan = {"runtime": "fake", "processes": 1}
        job: dict[str, Any] = self.ask("POST", "/jobs", client, json={"artifact": self.artifact, "plan": plan})
        return str(job["id"])

    def wait_done(self, job_id: str, every_s: float = 0.02) -> None:
        """Until the Job is over, which must have gone well."""
        give_up = time.monotonic() + READY_S
        while (job := self.ask("GET", f"/jobs/{job_id}"))["state"] != "done":
            if time.monotonic() > give_up:
                raise SystemExit(f"{self.services.name}: job {job_id} does not end: {job}")
            time.sleep(every_s)
        if job["outcome"] != "OK":
            raise SystemExit(f"{self.services.name}: job {job_id} ended as {job['outcome']}: {job['reasons']}")

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """What happened to a Job."""
        found = self.ask("GET", f"/jobs/{job_id}/events", headers={"Accept": "application/json"})
        events: list[dict[str, Any]] = found["events"]
        return events

    def count(self, *states: str) -> int:
        """How many Jobs are in one of these states, 1 standing for any number."""
        return len(self.ask("GET", "/jobs", params={"state": list(states), "limit": 1})["jobs"])

    def outcomes(self) -> list[str]:
        """The outcome of every Job."""
        found: list[str] = []
        query: dict[str, Any] = {"limit": 200}
        while True:
            page = self.ask("GET", "/jobs", params=query)
            found += [str(job["outcome"]) for job in page["jobs"]]
            if page["next"] is None:
                return found
            query["cursor"] = page["next"]

    def kill(self) -> None:
        """End it without a word."""
        for pid in {self._front, self._worker}:
            os.kill(pid, signal.SIGKILL)

    def cpu_s(self) -> float:
        """The processor time that its processes have used, in user and in system."""
        found = 0
        for pid in {self._front, self._worker}:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found += int(fields[11]) + int(fields[12])
        return found / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> tuple[int, int]:
        """The memory that its worker has now, and its API."""
        return _rss_bytes(self._worker), _rss_bytes(self._front)

    def wait_warm(self, count: int) -> None:
        """Until every board was looked at by the worker, whose connection to it then stays open."""
        give_up = time.monotonic() + READY_S
        while True:
            told = self.ask("GET", "/boards")["boards"]
            good = sum(board["health"] == "good" and board["leased_since"] is None for board in told)
            if good == count:
                return
            if time.monotonic() > give_up:
                bad = next(board for board in told if board["health"] != "good")
                raise SystemExit(f"{self.services.name}: {good} of {count} boards are well; {bad}")
            time.sleep(max(0.1, count / 200))  # to tell of many is work for the farm


@contextlib.contextmanager
def running(services: Services, folder: Path, boards: standin.Boards, count: int, slots: int = SLOTS) -> Iterator[Lab]:
    """A farm with `count` stand-in boards, all of them looked at and warm."""
    folder.mkdir()
    mine = [boards.board(f"{services.prefix}{number}", tags=crowd.tags(number)) for number in range(count)]
    (folder / "inventory.yaml").write_text(_inventory(mine))
    database_url = services.database_url or f"sqlite:///{folder / 'farm.db'}"
    store = db.open_store(database_url, folder / "blobs", upgrade=True)
    _, secret = tokens.create(
        store, name="benchmark", role=domain.Role.ADMIN, project=None, created_by="benchmark", expires_at=None,
        now=datetime.now(UTC),
    )  # fmt: skip
    store.close()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FARM_")} | {
        "XDG_CONFIG_HOME": str(folder),
        "FARM_DATA_DIR": str(folder),
        "FARM_DATABASE_URL": database_url,
        "FARM_REDIS_URL": services.redis_url,
        "FARM_INVENTORY": str(folder / "inventory.yaml"),
        "FARM_KNOWN_HOSTS": str(boards.known_hosts),
        "FARM_API_PORT": "0",
        "FARM_SLOTS": str(slots),
    }
    with contextlib.ExitStack() as stack:
        if services.is_split:
            worker = stack.enter_context(_started(["worker"], environ, folder / "worker.log"))
            process = stack.enter_context(_started(["api"], environ, folder / "api.log"))
            url = _url(process, folder / "api.log", "API at ")
        else:
            process = stack.enter_context(_started(["up"], environ, folder / "up.log"))
            url = _url(process, folder / "up.log", "The farm is up at ")
            worker = process
        lab = Lab(services, database_url, url, secret, (_worker_of(worker.pid), process.pid))
        stack.callback(lab.client.close)
        lab.wait_warm(count)
        lab.receive()
        yield lab


@contextlib.contextmanager
def database(admin_url: str) -> Iterator[str]:
    """A fresh database on a PostgreSQL: its URL."""
    admin = make_url(admin_url)
    name = f"farm_bench_{uuid.uuid4().hex[:12]}"
    conninfo = admin.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield admin.set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def combinations(postgres_url: str, redis_url: str) -> tuple[Services, ...]:
    """What is compared. Each farm on Redis has a database of it to itself: no worker takes another's message."""
    redis = redis_url.rpartition("/")[0]
    return (
        Services("PostgreSQL + Redis", "p", postgres_url, f"{redis}/1", is_split=True),
        Services("SQLite + Redis", "s", None, f"{redis}/2", is_split=False),
        Services("SQLite, in process", "m", None, broker.MEMORY, is_split=False),
    )


def turned(many: Sequence[T], number: int) -> Sequence[T]:
    """The same, another one first each time."""
    turn = number % len(many)
    return [*many[turn:], *many[:turn]]


def _rss_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def _inventory(mine: Sequence[domain.Board]) -> str:
    entries = []
    for board in mine:
        entry = wire.as_dict(board)
        entries.append({name: entry[name] for name in ("name", "transport", "address", "home", "options", "tags")})
    return json.dumps({"version": 1, "boards": entries})  # which is YAML


@contextlib.contextmanager
def _started(words: list[str], environ: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-P", "-m", "farm", *words]
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            preexec_fn=standin.dies_with_us(),
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _url(process: subprocess.Popen[bytes], log: Path, before: str) -> str:
    """What it says it listens at."""
    give_up = time.monotonic() + READY_S
    while True:
        text = log.read_text(errors="replace")
        line = next((line for line in text.splitlines() if before in line), None)
        if line is not None:
            return line.partition(before)[2].split()[0].removesuffix(API)
        if process.poll() is not None or time.monotonic() > give_up:
            raise SystemExit(f"{' '.join(map(str, process.args[3:]))} did not start: {text[-3000:]}")  # type: ignore[index]
        time.sleep(0.05)


def _worker_of(pid: int) -> int:
    """The child that is the worker, where there is one."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in children:
        if b"worker" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
            return int(child)
    return pid
