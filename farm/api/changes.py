"""The audit log over HTTP."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter

from farm import schemas
from farm.api import asked
from farm.api.auth import Engineer, sees
from farm.api.services import Farm
from farm.store import audit

router = APIRouter(tags=["changes"])


@router.get("/changes")
def list_changes(
    token: Engineer,
    farm: Farm,
    project: asked.ProjectName = None,
    limit: asked.Limit = 50,
    cursor: asked.Cursor = None,
) -> schemas.ChangesTold:
    """One page of the audit log, the newest first."""
    before = asked.before_number(cursor)
    found = audit.changes(farm.store, project=sees(token, project), limit=limit, before=before)
    return schemas.ChangesTold(
        changes=[schemas.ChangeTold(**asdict(change)) for change in found],
        next=asked.cursor(found[-1].id) if len(found) == limit else None,
    )
