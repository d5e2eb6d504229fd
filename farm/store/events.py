"""What happens to a Job, in the order it is told. Ids rise as they are committed, so that a reader misses none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, insert, or_, select
from sqlalchemy.orm import Session

from farm.domain import Event, JobState
from farm.store.db import Store
from farm.store.tables import EventRow, JobRow, RunRow


def tell(
    store: Store, job_id: str, *, kind: str, at: datetime, run_id: str | None = None, data: Mapping[str, Any]
) -> None:
    """Remember something that happened to a Job."""
    with store.write() as session:
        # Its row's lock: of two writers the second gets the higher id, and commits after the first.
        session.execute(select(JobRow.id).where(JobRow.id == job_id).with_for_update())
        add(session, job_id, kind=kind, at=at, run_id=run_id, data=data)


def tell_of_run(store: Store, run_id: str, *, kind: str, at: datetime, data: Mapping[str, Any]) -> None:
    """The same of the Job that a Run is of; nothing is told of a Run that its Job has moved on from."""
    tell_of_runs(store, [Event(0, "", run_id, at, kind, data)])


def tell_of_runs(store: Store, told: Sequence[Event]) -> None:
    """The same of many Runs, in this order: one transaction is as dear as all of them."""
    run_ids = {event.run_id for event in told}
    with store.write() as session:
        # Their rows' locks, see `tell`; in one order: no deadlock.
        jobs = select(RunRow.job_id).where(RunRow.id.in_(run_ids))
        session.execute(select(JobRow.id).where(JobRow.id.in_(jobs)).order_by(JobRow.id).with_for_update())
        # A worker that was frozen past its lease may wake when its Job is tried again, or over.
        newest = select(func.max(RunRow.id)).where(RunRow.job_id == JobRow.id).correlate(JobRow).scalar_subquery()
        found = session.execute(
            select(RunRow.id, RunRow.job_id)
            .join(JobRow, JobRow.id == RunRow.job_id)
            .where(RunRow.id.in_(run_ids), RunRow.id == newest, JobRow.state == JobState.RUNNING)
        )
        job_of = {row.id: row.job_id for row in found}
        rows = [
            {"job_id": job_of[event.run_id], "run_id": event.run_id, "at": event.at, "kind": event.kind}
            | {"data": dict(event.data)}
            for event in told
            if event.run_id in job_of
        ]
        if rows:
            session.execute(insert(EventRow), rows)


def add(
    session: Session,
    job_id: str,
    *,
    kind: str,
    at: datetime,
    run_id: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """The same within a transaction that holds the Job's row already."""
    session.add(EventRow(job_id=job_id, run_id=run_id, at=at, kind=kind, data=dict(data or {})))


def after(store: Store, seen: Mapping[str, int], limit: int = 1000) -> list[Event]:
    """What happened to some Jobs since: `seen` is Job id -> the last event id that was seen of it (0: none)."""
    if not seen:
        return []
    since = [and_(EventRow.job_id == job_id, EventRow.id > last) for job_id, last in seen.items()]
    with store.read() as session:
        rows = session.scalars(select(EventRow).where(or_(*since)).order_by(EventRow.id).limit(limit))
        return [_event(row) for row in rows]


def of_job(store: Store, job_id: str) -> list[Event]:
    """All that happened to a Job."""
    return after(store, {job_id: 0}, limit=1_000_000)


def any_of(session: Session, job_id: str) -> bool:
    """Whether anything was told of a Job yet."""
    return session.scalars(select(EventRow.id).where(EventRow.job_id == job_id).limit(1)).one_or_none() is not None


def _event(row: EventRow) -> Event:
    return Event(row.id, row.job_id, row.run_id, row.at, row.kind, row.data)
