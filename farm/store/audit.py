"""The audit log: who changed what, and when. Entries are written in the transaction of the change itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from farm.domain import Change
from farm.store.db import Store
from farm.store.tables import ChangeRow


def add(
    session: Session,
    *,
    actor: str,
    action: str,
    subject: str,
    at: datetime,
    project: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Write down one change, within its transaction."""
    values = dict(data or {})
    session.add(ChangeRow(at=at, actor=actor, action=action, subject=subject, project=project, data=values))


def changes(store: Store, *, project: str | None = None, limit: int = 50, before: int | None = None) -> list[Change]:
    """Changes, the newest first; `before` is the id of the last one of the page before."""
    query = select(ChangeRow).order_by(ChangeRow.id.desc()).limit(limit)
    if project is not None:
        query = query.where(ChangeRow.project == project)
    if before is not None:
        query = query.where(ChangeRow.id < before)
    with store.read() as session:
        return [
            Change(row.id, row.at, row.actor, row.action, row.subject, row.project, row.data)
            for row in session.scalars(query)
        ]
