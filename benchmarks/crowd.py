"""How a dispatcher's round grows with the lab: many Boards and a long queue, rows with no board or broker behind them.

The Boards' facts are what the real agent says of this machine. All Jobs come from one that was really submitted, by
copying its rows; their selectors ask for tags, families and memory, so that there are 200 kinds of demands in three
projects.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from farm_agent import wire
from sqlalchemy import insert

from benchmarks import standin
from benchmarks.tables import Row, grown, middle, progress
from farm import dispatch, domain, intake, selector, settle
from farm.store import boards, db, leases, queue, results, workers
from farm.store.tables import ArmRow, BoardRow, JobRow

DEMANDS = 200
TAGS = 10
PROJECTS = 3
LIMIT_MS = 20.0
WORKER = "crowd:1:1"


class Silent:
    """A Post that sends nothing: what a broker takes is part of the latency of a Job, not of a round."""

    def run(self, run_id: str, token: int, site: str) -> None:
        """Nothing."""

    def check(self, board: str, token: int, site: str) -> None:
        """Nothing."""

    def judge(self, run_id: str, site: str) -> None:
        """Nothing."""


class Crowd:
    """A lab of rows, and a dispatcher."""

    def __init__(self, store: db.Store, size: int) -> None:
        self.store, self.size = store, size
        self._dispatcher = dispatch.Dispatcher(store, Silent(), ttl_s=3600.0, cool_down_s=60.0, rng=random.Random(size))
        self._worker = domain.Worker(WORKER, "default", size, now())
        self._granted: deque[domain.Run] = deque()

    def round(self) -> tuple[int, float]:
        """One round of the dispatcher: how many Boards it gave out, and how long it took, in seconds."""
        workers.beat(self.store, self._worker, now())
        started = time.perf_counter()
        report = self._dispatcher.once(now())
        took_s = time.perf_counter() - started
        self._granted += report.granted
        return len(report.granted), took_s

    def end_one(self) -> None:
        """What a worker does in the database with the oldest Run, without the board."""
        run = self._granted.popleft()
        queue.begin(self.store, run.id, run.token, worker=WORKER, now=now())
        ended = replace(run, ended_at=now(), outcome=domain.Outcome.OK, worker=WORKER, fingerprint="0" * 64)
        results.finish_run(self.store, ended, run.token)
        lease = leases.current(self.store, run.board)
        if lease is not None:
            leases.release(self.store, lease, now=now())
        settle.settle(run.job_id, store=self.store, cool_down_s=60.0, now=now())


@contextlib.contextmanager
def crowd(database_url: str, folder: Path, facts: Mapping[str, Any], *, size: int, queued: int) -> Iterator[Crowd]:
    """A lab of `size` idle Boards with `queued` Jobs waiting."""
    store = db.open_store(database_url, folder / "blobs", upgrade=True)
    try:
        _fill_boards(store, facts, size)
        fill_queue(store, folder, queued, board="b0")
        yield Crowd(store, size)
    finally:
        store.close()


def growth(
    kind: str, urls: Mapping[int, str], folder: Path, facts: Mapping[str, Any], *, queued: int, repeats: int
) -> Iterator[Row]:
    """A dispatcher's rounds on labs of several sizes with the same queue, the sizes in turns. `urls`: of databases."""
    sizes = list(urls)
    with contextlib.ExitStack() as stack:
        crowds = []
        for size, url in urls.items():
            place = folder / f"{kind}-{size}"
            place.mkdir()
            crowds.append(stack.enter_context(crowd(url, place, facts, size=size, queued=queued)))
        first = [_took_ms(one, one.size) for one in crowds]
        progress(f"rounds: {kind}, all boards free")
        free: list[list[float]] = [[] for _ in crowds]
        for number in range(repeats):
            for one, found in zip(crowds, free, strict=True):
                one.end_one()
                found.append(_took_ms(one, 1))
            progress(f"rounds: {kind}, {number + 1} of {repeats}")
    yield grown(f"{kind}: a round, one board free, median", [middle(found) for found in free], sizes, LIMIT_MS)
    yield grown(f"{kind}: a round, all boards free", first, sizes)


def _took_ms(one: Crowd, count: int) -> float:
    """How long a round took, which must have given out so many Boards."""
    granted, took_s = one.round()
    if granted != count:
        raise SystemExit(f"{granted} of {one.size} boards were given out where {count} were free and wanted")
    return took_s * 1e3


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def _fill_boards(store: db.Store, facts: Mapping[str, Any], size: int) -> None:
    first = domain.Board("b0", transport="ssh", address="bench@10.0.0.1", facts=facts)
    boards.save_board(store, first, now())
    with store.write() as session:
        row = session.get_one(BoardRow, "b0")
        row.health = domain.Health.GOOD
        row.entry = {**row.entry, "tags": list(tags(0))}
        values = {column.name: getattr(row, column.name) for column in BoardRow.__table__.columns}
        many = [
            values | {"name": f"b{i}", "address": f"bench@10.0.{i >> 8}.{i & 255}"}
            | {"entry": {**row.entry, "tags": list(tags(i))}}
            for i in range(1, size)
        ]  # fmt: skip
        if many:
            session.execute(insert(BoardRow), many)


def tags(board: int) -> tuple[str, ...]:
    """What a board is tagged with, by its number."""
    return (f"rack-{board % TAGS}", "active-cooler")


def _selectors(memory_bytes: int, family: str) -> list[domain.Selector]:
    """Kinds of demands, each of which a tenth of the boards can meet."""
    found = []
    for number in range(DEMANDS):
        at_least = memory_bytes * (number // TAGS + 1) // (DEMANDS // TAGS + 1)
        asked = family if number % 2 else None
        found.append(domain.Selector(tags=(f"rack-{number % TAGS}",), memory_bytes=at_least, family=asked))
    return found


def fill_queue(store: db.Store, folder: Path, queued: int, *, board: str) -> None:
    """So many Jobs wait; `board` is one that has told its facts."""
    facts = boards.get_board(store, board).facts
    kinds = _selectors(int(facts["context"]["memory_total_bytes"]), facts["identity"]["family"])
    model = folder / standin.MODEL_NAME
    model.write_bytes(standin.MODEL)
    artifact = intake.receive(model, store=store)
    plan = intake.plan_from({"runtime": "fake", "processes": 1}, artifact=artifact)
    jobs = [
        intake.submit(
            store=store, artifact=artifact, plan=plan, model=None, project=f"team-{number}", selector=kinds[number],
            now=now(),
        )
        for number in range(PROJECTS)
    ]  # fmt: skip
    rng = random.Random(7)
    with store.write() as session:
        for number, job in enumerate(jobs):
            arm = _plain(session.get_one(ArmRow, (job.id, "a")))
            row = _plain(session.get_one(JobRow, job.id))
            fresh = []
            for i in range(number, queued - PROJECTS, PROJECTS):
                kind = kinds[rng.randrange(DEMANDS)]
                at = job.submitted_at + timedelta(milliseconds=i)
                fresh.append(
                    row | {"id": domain.new_id(), "submitted_at": at, "queued_at": at}
                    | {"state": domain.JobState.QUEUED, "waited_s": 0.0}  # it may be under way already
                    | {"selector": wire.as_dict(kind), "demand": selector.key(kind, ["fake"])}
                )  # fmt: skip
            session.execute(insert(JobRow), fresh)
            session.execute(insert(ArmRow), [arm | {"job_id": one["id"]} for one in fresh])


def _plain(row: Any) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in row.__table__.columns}
