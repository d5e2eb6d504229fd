"""A farm to be hurt: real PostgreSQL, Redis, SSH servers as boards; workers and dispatchers in processes of their own.

Everything can be killed, stopped, cut and brought back. `Farmhouse.check` then asks the witness, not the farm.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow
from sqlalchemy import make_url

from farm import dispatch, domain, intake
from farm.services import celery_app
from farm.store import boards, db
from farm.worker import CeleryPost
from tests.faults import witness
from tests.faults.conftest import is_clean, processes_of
from tests.faults.parts import PATIENCE_S, BoardHost, Process, Redis, until

__all__ = ["BoardHost", "Farmhouse", "Process", "farm_template", "house", "opened", "until"]

QUICK = {"duration_s": 0.2, "processes": 2, "min_queries": 20, "warmup_s": 0.02, "warmup_queries": 2}
TTL_S = 3.0
FACTS = {"identity": {"family": "generic"}, "runtimes": {"fake": {"present": True}}}


@dataclass
class Farmhouse:
    """One farm and its boards."""

    folder: Path
    database_url: str
    redis: Redis
    store: db.Store
    stack: contextlib.ExitStack
    boards: dict[str, BoardHost] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    _connection: psycopg.Connection[DictRow] | None = field(default=None, repr=False)
    _rounds: dispatch.Rounds | None = field(default=None, repr=False)

    @property
    def conninfo(self) -> str:
        """The database, as psycopg takes it."""
        return make_url(self.database_url).set(drivername="postgresql").render_as_string(hide_password=False)

    def add_board(self, name: str) -> BoardHost:
        """A board in the pool."""
        host = BoardHost(name, self.folder / name, self.stack)
        self.pin(host.known_hosts)
        self.boards[name] = host
        self.save_board(host.board)
        return host

    def pin(self, known_hosts: Path) -> None:
        """Trust these host keys too."""
        with (self.folder / "known_hosts").open("ab") as file:
            file.write(known_hosts.read_bytes())

    def save_board(self, board: domain.Board) -> None:
        """A board in the pool; known to be well, so that no health check comes first."""
        boards.save_board(self.store, board, datetime.now(UTC))
        facts = json.dumps(FACTS)
        self.sql("UPDATE board SET health = 'good', facts = %s WHERE name = %s", facts, board.name)

    def environ(self, **changes: str) -> dict[str, str]:
        """The settings of its programs."""
        ours = {
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "FARM_DATA_DIR": str(self.folder / "data"),
            "FARM_DATABASE_URL": self.database_url,
            "FARM_REDIS_URL": self.redis.url,
            "FARM_KNOWN_HOSTS": str(self.folder / "known_hosts"),
            "FARM_LEASE_TTL_S": str(TTL_S),
            "FARM_COOL_DOWN_S": "0.5",
            "FARM_KEEPALIVE_S": "1",
            "FARM_CONNECT_TIMEOUT_S": "5",
            "FARM_SLOTS": "8",
            "FARM_API_PORT": "0",
            "OPENBLAS_NUM_THREADS": "1",
            **changes,
        }
        return {**{key: value for key, value in os.environ.items() if not key.startswith("FARM_")}, **ours}

    def worker(self, **environ: str) -> Process:
        """`farm worker`, which has a dispatcher too; back once the farm knows it."""
        process = self.start_worker(**environ)
        self.until_known(process)
        return process

    def start_worker(self, **environ: str) -> Process:
        """The same, without waiting."""
        return self.run("worker", **environ)

    def until_known(self, worker: Process) -> None:
        """Wait until the farm knows a worker."""
        until(lambda: self.worker_id(worker) or not worker.is_alive(), "the worker starts")
        assert worker.is_alive(), worker.log.read_text()

    def worker_id(self, process: Process) -> str | None:
        """By what the farm knows a worker."""
        rows = self.sql("SELECT id FROM worker WHERE id LIKE %s", f"%:{process.pid}:%")
        return rows[0]["id"] if rows else None

    def run(self, *words: str, **environ: str) -> Process:
        """`farm WORDS`."""
        return self._start([sys.executable, "-P", "-m", "farm", *words], words[0], environ)

    def dispatch_often(self) -> None:
        """A dispatcher of the test's own, so that nobody waits for the next round of a worker's."""
        post = CeleryPost(celery_app(self.redis.url))
        ours = dispatch.Dispatcher(self.store, post, ttl_s=TTL_S, cool_down_s=0.5, rng=random.Random(1))
        self._rounds = dispatch.Rounds(ours, every_s=0.25, now=lambda: datetime.now(UTC))
        self._rounds.start()

    def dispatcher(self) -> Process:
        """A dispatcher alone; `step` steps the clocks of these."""
        clock = self.folder / "clock"
        if not clock.exists():
            clock.write_text("0")
        script = Path(__file__).with_name("dispatcher.py")
        return self._start([sys.executable, "-P", str(script), str(clock)], "dispatcher", {})

    def step(self, seconds: float) -> None:
        """Step the clock of the dispatchers that stand alone."""
        part = self.folder / "clock.part"
        part.write_text(str(seconds))
        part.replace(self.folder / "clock")

    def _start(self, argv: Sequence[str], name: str, environ: Mapping[str, str]) -> Process:
        name = f"{name}-{len(self.processes)}"
        process = Process(argv, self.environ(PGAPPNAME=name, **environ), self.folder / f"{name}.log")
        self.processes.append(process)
        return process

    def model(self, name: str = "steady", **behaviour: Any) -> Path:
        """A model file of the runtime `fake` that behaves so."""
        path = self.folder / "models" / f"{name}.fake"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"latency_us": 200, **behaviour}))
        return path

    def large_model(self) -> Path:
        """A model of which the push takes a moment."""
        folder = self.folder / "models" / "large"
        folder.mkdir(parents=True)
        (folder / "m.fake").write_bytes(self.model().read_bytes())
        (folder / "weights").write_bytes(bytes(48 << 20))
        return folder

    def submit(self, model: Path | None = None, *, on: str | None = None, **plan: Any) -> str:
        """A Job in the queue: its id."""
        artifact = intake.receive(model or self.model(), store=self.store)
        job = intake.submit(
            store=self.store,
            artifact=artifact,
            plan=intake.plan_from({**QUICK, **plan}, artifact=artifact),
            model=None,
            project="tests",
            selector=domain.Selector(name=on),
            now=datetime.now(UTC),
        )
        return job.id

    def sql(self, query: str, *values: Any) -> list[DictRow]:
        """Rows of our own look at the database, on a connection that stays open: a new one costs it a process."""
        try:
            cursor = self._connected().execute(query, values)
        except psycopg.OperationalError:  # PostgreSQL was away since
            self._disconnect()
            cursor = self._connected().execute(query, values)
        return cursor.fetchall() if cursor.description else []

    def _connected(self) -> psycopg.Connection[DictRow]:
        if self._connection is None:
            self._connection = witness.connect(self.conninfo)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def job(self, job_id: str) -> DictRow:
        """A Job's row."""
        return self.sql("SELECT * FROM job WHERE id = %s", job_id)[0]

    def runs(self, job_id: str) -> list[DictRow]:
        """A Job's Runs, the oldest first."""
        return self.sql("SELECT * FROM run WHERE job_id = %s ORDER BY id", job_id)

    def kinds(self, job_id: str) -> list[str]:
        """What was told of a Job so far."""
        return [row["kind"] for row in self.sql("SELECT kind FROM event WHERE job_id = %s ORDER BY id", job_id)]

    def until_told(self, job_id: str, kind: str, text: str | None = None) -> None:
        """Wait until an event of this kind (and text) was told of a Job."""
        said = "coalesce(%s, data ->> 'text', '') = coalesce(data ->> 'text', '')"
        query = f"SELECT 1 FROM event WHERE job_id = %s AND kind = %s AND {said}"
        until(lambda: self.sql(query, job_id, kind, text), f"{kind} {text or ''} of job {job_id}", story=self.story)

    def until_over(self, *job_ids: str, within_s: float = PATIENCE_S) -> list[str]:
        """Wait for the end of these Jobs; the outcome of each."""
        query = "SELECT id, outcome FROM job WHERE id = ANY(%s) AND ended_at IS NOT NULL"
        found: dict[str, str] = {}

        def are_over() -> bool:
            found.update((row["id"], row["outcome"]) for row in self.sql(query, list(job_ids)))
            return len(found) == len(set(job_ids))

        until(are_over, f"the end of {job_ids}", story=self.story, within_s=within_s)
        return [found[job_id] for job_id in job_ids]

    def writes(self, job_id: str) -> int:
        """How much was ever written about a Job."""
        runs = "SELECT id FROM run WHERE job_id = %s"
        query = f"new ->> 'id' = %s OR new ->> 'job_id' = %s OR new ->> 'run_id' IN ({runs})"
        found = self.sql(f"SELECT count(*) AS n FROM witness WHERE {query}", job_id, job_id, job_id)
        return int(found[0]["n"])

    def story(self) -> str:
        """All that was told, for who looks for a mistake."""
        rows = self.sql("SELECT * FROM event ORDER BY at, id")
        told = [f"{row['at']:%H:%M:%S.%f} {row['job_id'][-4:]} {row['kind']} {row['data']}" for row in rows]
        return "\n".join([*told, *(f"{process.name}: {process.log.read_text()}" for process in self.processes)])

    def until_blamed(self, board: str, failures: int) -> None:
        """Wait until so many failures in a row were blamed on a board."""
        query = "SELECT 1 FROM board WHERE name = %s AND failures = %s"
        until(lambda: self.sql(query, board, failures), f"{failures} failures of {board}", story=self.story)

    def check(self, *more: Path) -> None:
        """Let the farm come to rest, and have the witness tell whether all was as it must be. `more`: boards' homes."""
        until(lambda: not self.sql("SELECT 1 FROM lease WHERE released_at IS NULL"), "every lease is over")
        homes = [*(host.home for host in self.boards.values()), *more]
        for home in homes:
            assert is_clean(home), processes_of(home)
        assert witness.problems(self.conninfo, homes) == []

    def close(self) -> None:
        """End all of its programs."""
        if self._rounds is not None:
            self._rounds.stop()
        for process in self.processes:
            process.kill()
        self.redis.stop()
        if self._rounds is not None:
            self._rounds.join()
        self._disconnect()


@pytest.fixture(scope="session")
def farm_template(postgres_url: str) -> Iterator[str]:
    """The name of a database with the farm's tables, witnessed, of which others are copies."""
    with _database(postgres_url) as url:
        db.upgrade(url)
        witness.install(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
        yield str(make_url(url).database)


@pytest.fixture
def house(tmp_path: Path, postgres_url: str, farm_template: str) -> Iterator[Farmhouse]:
    """A farm without boards and without programs yet; what it leaves behind is ended."""
    with _database(postgres_url, farm_template) as url, contextlib.ExitStack() as stack:
        with opened(tmp_path, url, stack) as house:
            yield house


@contextlib.contextmanager
def opened(folder: Path, database_url: str, stack: contextlib.ExitStack) -> Iterator[Farmhouse]:
    """A farm in a folder, on a database that has its tables."""
    redis = Redis(folder)
    store = db.open_store(database_url, folder / "data" / "blobs", upgrade=False)
    house = Farmhouse(folder, database_url, redis, store, stack)
    try:
        yield house
    finally:
        house.close()
        store.close()


@contextlib.contextmanager
def _database(admin: str, template: str = "template1") -> Iterator[str]:
    name = f"farm_faults_{uuid.uuid4().hex[:12]}"
    conninfo = make_url(admin).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield make_url(admin).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
