"""Runs over HTTP: what was measured, as `farm runs --json` and `farm show --json` give it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from farm import schemas, show
from farm.api import asked
from farm.api.auth import Anyone, sees
from farm.api.services import Farm
from farm.store import results

router = APIRouter(tags=["runs"])


@router.get("/runs")
def list_runs(
    token: Anyone,
    farm: Farm,
    model: asked.Model = None,
    board: asked.OnBoard = None,
    project: asked.ProjectName = None,
    limit: asked.Limit = 50,
    cursor: asked.Cursor = None,
) -> schemas.RunsTold:
    """One page of Runs, the newest first."""
    before = asked.before_id(cursor)
    rows = show.runs(farm.store, model=model, board=board, limit=limit, before=before, project=sees(token, project))
    return schemas.RunsTold(runs=rows, next=asked.cursor(rows[-1]["run"]) if len(rows) == limit else None)


@router.get("/runs/{run_id}")
def show_run(run_id: asked.RunId, token: Anyone, farm: Farm) -> dict[str, Any]:
    """What one Run ended in: outcome, metrics with unit and interval, memory by stage."""
    return show.run_json(farm.store, results.get_run(farm.store, run_id, project=sees(token)).id)
