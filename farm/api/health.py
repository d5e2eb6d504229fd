"""Whether the process lives, and whether the farm can work now. Open to all, so that no detail is told."""

from __future__ import annotations

import logging
from datetime import timedelta
from importlib import metadata

from fastapi import APIRouter, Response

from farm import schemas
from farm.api.services import Farm
from farm.errors import FarmError
from farm.store import workers

router = APIRouter(tags=["health"])
log = logging.getLogger(__name__)

WORKER_LIVES_S = 60.0  # without a beat


@router.get("/healthz")
def is_alive() -> dict[str, str]:
    """200 for as long as the process lives."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"model": schemas.Ready, "description": "Not ready, and why"}})
def is_ready(farm: Farm, response: Response) -> schemas.Ready:
    """Whether the farm can work now, and what is missing where it cannot."""
    problems = []
    try:
        farm.store.check()
        since = farm.clock() - timedelta(seconds=WORKER_LIVES_S)
        if not any(one.seen_at is not None and one.seen_at > since for one in workers.list_workers(farm.store)):
            problems.append(f"no worker was heard of for {WORKER_LIVES_S:g} s: start one, or see why they ended")
    except FarmError as error:
        log.warning("not ready: %s", error)
        problems.append("the database does not answer, or is of another version: the farm's log says more")
    try:
        farm.store.blobs.check()
    except FarmError as error:
        log.warning("not ready: %s", error)
        problems.append("the blob store takes nothing: the farm's log says more")
    if problems:
        response.status_code = 503
    return schemas.Ready(ready=not problems, version=metadata.version("benchfarm"), problems=problems)
