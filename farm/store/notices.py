"""The outbox: Notices on their way to the channels of notifiers.yaml. Written in the transaction of what they tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from farm.domain import Notice
from farm.store.db import Store, insert_new
from farm.store.tables import NoticeRow

UNDIRECTED = ""  # the channel of a Notice that nobody has looked at yet
LONGEST_WAIT_S = 7200.0  # what is due later than that was put off by a clock that has been stepped back since


@dataclass(frozen=True, slots=True)
class Delivery:
    """One Notice on its way to one channel."""

    notice: Notice
    channel: str
    attempts: int


def add(session: Session, notice: Notice) -> None:
    """Put a Notice into the outbox, within the transaction of what it tells."""
    session.add(NoticeRow(**_values(notice), channel=UNDIRECTED, attempts=0, due_at=notice.at))


def due(store: Store, now: datetime, limit: int = 50) -> list[Delivery]:
    """What is to be delivered now, oldest first; what nobody has directed yet comes with the channel UNDIRECTED."""
    is_due = or_(NoticeRow.due_at <= now, NoticeRow.due_at > now + timedelta(seconds=LONGEST_WAIT_S))
    query = select(NoticeRow).where(is_due).order_by(NoticeRow.due_at).limit(limit)
    with store.read() as session:
        return [Delivery(_notice(row), row.channel, row.attempts) for row in session.scalars(query)]


def direct(store: Store, notice: Notice, channels: Sequence[str], now: datetime) -> None:
    """Say which channels want a Notice; one that no channel wants is forgotten."""
    with store.write() as session:
        rows = [_values(notice) | {"channel": name, "attempts": 0, "due_at": now} for name in channels]
        insert_new(session, NoticeRow, *rows)
        session.execute(delete(NoticeRow).where(NoticeRow.id == notice.id, NoticeRow.channel == UNDIRECTED))


def claim(store: Store, delivery: Delivery, *, until: datetime) -> bool:
    """Take one delivery for oneself until then; False where another process was quicker."""
    with store.write() as session:
        row = session.get(NoticeRow, (delivery.notice.id, delivery.channel), with_for_update=True)
        if row is None or row.due_at is None or row.attempts != delivery.attempts:
            return False
        row.attempts, row.due_at = row.attempts + 1, until
        return True


def settle(store: Store, delivery: Delivery, *, error: str | None, again_at: datetime | None, now: datetime) -> None:
    """What came of a claimed delivery: delivered, to be tried again at some time, or given up (`again_at` None).

    A failure does not count where the claim ran out and another process has claimed it since.
    """
    with store.write() as session:
        row = session.get_one(NoticeRow, (delivery.notice.id, delivery.channel), with_for_update=True)
        if error is not None and row.attempts != delivery.attempts + 1:
            return
        row.error, row.due_at = error, again_at
        row.delivered_at = now if error is None else None


def of_channel(store: Store, channel: str, limit: int = 50) -> list[tuple[Delivery, datetime | None, str | None]]:
    """The newest deliveries of a channel: (delivery, delivered at, last error)."""
    query = select(NoticeRow).where(NoticeRow.channel == channel).order_by(NoticeRow.id.desc()).limit(limit)
    with store.read() as session:
        rows = session.scalars(query)
        return [(Delivery(_notice(row), row.channel, row.attempts), row.delivered_at, row.error) for row in rows]


def _values(notice: Notice) -> dict[str, Any]:
    names = ("id", "kind", "project", "title", "text", "at")
    return {name: getattr(notice, name) for name in names} | {"data": dict(notice.data)}


def _notice(row: NoticeRow) -> Notice:
    return Notice(row.id, row.kind, row.project, row.title, row.text, row.at, row.data)
