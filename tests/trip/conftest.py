"""The trip for tests: the verbs of `farm bench` on a store and a board of one's own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from farm import bench, dispatch, domain, execute, intake, rules, settings
from farm.store import db
from tests import sshd

Watch = Callable[[execute.Event], None]
QUICK = {"duration_s": 0.2, "processes": 2, "min_queries": 20, "warmup_s": 0.02, "warmup_queries": 2}


@dataclass
class Trip:
    """A farm in a folder: one store, any board."""

    folder: Path
    settings: settings.Settings
    store: db.Store
    events: list[execute.Event] = field(default_factory=list)

    def fake(self, name: str = "steady.fake", **behaviour: Any) -> Path:
        """A model file of the runtime `fake` that behaves so."""
        path = self.folder / "models" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"latency_us": 200, **behaviour}))
        return path

    def local(self, **changes: Any) -> domain.Board:
        """This machine as a board with a home of its own."""
        return domain.Board("local", home=str(self.folder / "home"), **changes)

    def submit(
        self,
        model: Path,
        board: domain.Board,
        *,
        gate: rules.Gate | None = None,
        name: str | None = None,
        is_fresh: bool = False,
        branch: str | None = None,
        **plan: Any,
    ) -> domain.Job:
        """A Job of that model, to be judged by that gate."""
        artifact = intake.receive(model, store=self.store)
        return intake.submit(
            store=self.store,
            artifact=artifact,
            plan=intake.plan_from({**QUICK, **plan}, artifact=artifact),
            model=name,
            project="tests",
            selector=domain.Selector(name=board.name),
            now=datetime.now(UTC),
            branch=branch,
            gate=gate,
            is_fresh=is_fresh,
        )

    def granted(self, job: domain.Job, board: domain.Board) -> domain.Run:
        """A Run of that Job that may start."""
        now = datetime.now(UTC)
        dispatch.Patience(self.store).look(now)
        return dispatch.grant(job, board, store=self.store, holder="tests", ttl_s=20.0, now=now)

    def grant(self, model: Path, board: domain.Board, **plan: Any) -> domain.Run:
        """A Run of that model that may start."""
        return self.granted(self.submit(model, board, **plan), board)

    async def execute(self, run: domain.Run, board: domain.Board, watch: Watch | None = None) -> domain.Run:
        """Carry it out; every event is kept, then shown to `watch`."""

        def both(event: execute.Event) -> None:
            self.events.append(event)
            if watch is not None:
                watch(event)

        return await bench.carry_out(run, store=self.store, settings=self.settings, holder="tests", watch=both)

    def bench(self, model: Path, board: domain.Board, watch: Watch | None = None, **plan: Any) -> domain.Run:
        """The whole trip, summaries included."""
        return asyncio.run(self.execute(self.grant(model, board, **plan), board, watch))


@pytest.fixture(params=["local", "ssh", pytest.param("openssh", marks=pytest.mark.system)])
def board(request: pytest.FixtureRequest, trip: Trip) -> Iterator[domain.Board]:
    """This machine, reached by each way: a subprocess, asyncssh's server, and OpenSSH's sshd."""
    if request.param == "local":
        yield trip.local()
        return
    start = sshd.openssh_server if request.param == "openssh" else sshd.asyncssh_server
    with start(trip.folder / "ssh") as server:
        trip.settings = trip.settings.model_copy(update={"known_hosts": server.known_hosts})
        yield server.board(python=sys.executable)


@pytest.fixture
def trip(tmp_path: Path) -> Iterator[Trip]:
    """A farm on SQLite in a folder of its own."""
    chosen = settings.load({"data_dir": str(tmp_path / "data"), "keepalive_s": "1", "connect_timeout_s": "10"}, {})
    store = db.open_store(chosen.database_url, chosen.blobs_dir, upgrade=True)
    yield Trip(tmp_path, chosen, store)
    store.close()
