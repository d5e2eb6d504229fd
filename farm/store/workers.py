"""Worker processes: who is there to carry out Runs, at which site, and with how many slots."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select, update

from farm.domain import Worker
from farm.errors import NotFound
from farm.store import audit
from farm.store.db import Store, insert_new
from farm.store.tables import WorkerRow


def beat(store: Store, worker: Worker, now: datetime) -> bool:
    """A worker says that it lives. True where it shall take nothing new: a person asked it to drain."""
    values = {
        "id": worker.id,
        "site": worker.site,
        "slots": worker.slots,
        "started_at": worker.started_at,
        "beats": 0,
        "seen_at": now,
        "draining": worker.draining,
    }
    with store.write() as session:
        insert_new(session, WorkerRow, values)
        alive = {"beats": WorkerRow.beats + 1, "seen_at": now}
        if worker.draining:
            alive["draining"] = True
        changed = update(WorkerRow).where(WorkerRow.id == worker.id).values(alive).returning(WorkerRow.draining)
        return session.scalars(changed).one()


def list_workers(store: Store) -> list[Worker]:
    """Every worker that has not been forgotten, by site."""
    with store.read() as session:
        rows = session.scalars(select(WorkerRow).order_by(WorkerRow.site, WorkerRow.id))
        return [
            Worker(row.id, row.site, row.slots, row.started_at, row.beats, row.seen_at, row.draining) for row in rows
        ]


def drain(store: Store, worker_id: str, *, by: str, now: datetime) -> None:
    """Ask a worker to finish what it has and take nothing new. Raises NotFound."""
    with store.write() as session:
        changed = update(WorkerRow).where(WorkerRow.id == worker_id).values(draining=True).returning(WorkerRow.id)
        if session.scalars(changed).one_or_none() is None:
            raise NotFound(f"Worker {worker_id!r} is not known to this farm. See `farm workers`.")
        audit.add(session, actor=by, action="worker.drain", subject=worker_id, at=now)


def forget(store: Store, worker_id: str) -> None:
    """A worker has ended, or was not heard of for long; nothing happens where it is unknown."""
    with store.write() as session:
        session.execute(delete(WorkerRow).where(WorkerRow.id == worker_id))
