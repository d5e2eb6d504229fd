"""Workers over HTTP: who is there to carry out Runs."""

from __future__ import annotations

from fastapi import APIRouter

from farm import schemas
from farm.api import asked
from farm.api.auth import Admin, Engineer
from farm.api.services import Farm
from farm.domain import Worker
from farm.store import workers

router = APIRouter(tags=["workers"])


@router.get("/workers")
def list_workers(_: Engineer, farm: Farm) -> schemas.WorkersTold:
    """Every worker."""
    return schemas.WorkersTold(workers=[_told(worker) for worker in workers.list_workers(farm.store)])


@router.post("/workers/{worker_id}/drain", status_code=204)
def drain(worker_id: asked.WorkerId, token: Admin, farm: Farm) -> None:
    """Ask a worker to finish what it has and take nothing new."""
    workers.drain(farm.store, worker_id, by=token.name, now=farm.clock())
    farm.kick()


def _told(worker: Worker) -> schemas.WorkerTold:
    return schemas.WorkerTold(
        id=worker.id,
        site=worker.site,
        slots=worker.slots,
        started_at=worker.started_at,
        seen_at=worker.seen_at,
        draining=worker.draining,
    )
