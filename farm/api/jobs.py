"""Jobs over HTTP: submit, list, show, cancel, try again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

from farm_agent import wire
from fastapi import APIRouter, Query, Response

from farm import intake, schemas, selector
from farm.api import asked, judged, waiting
from farm.api.auth import Anyone, acts_in, sees
from farm.api.services import Farm, Services
from farm.domain import (
    PRIORITIES,
    Artifact,
    BoardStatus,
    Job,
    JobGate,
    JobState,
    Reason,
    Role,
    Run,
    TimeLimits,
    digest,
    new_id,
    plan_form,
)
from farm.errors import Conflict, Forbidden, InputError, NoBoardFits
from farm.store import artifacts, boards, jobs, queue, results

router = APIRouter(tags=["jobs"])

_REPLAYED: dict[int | str, dict[str, Any]] = {
    200: {"model": schemas.JobTold, "description": "The same request came before: the Job that it made"}
}


@router.post("/jobs", status_code=201, responses=_REPLAYED)
def submit(
    body: schemas.JobAsked,
    token: Anyone,
    farm: Farm,
    response: Response,
    idempotency_key: asked.IdempotencyKey = None,
) -> schemas.JobTold:
    """A Job in the queue. With an Idempotency-Key that was used before, the Job of then."""
    project = acts_in(token, farm)
    request_hash = digest(["submit", body.model_dump(mode="json")])
    if before := _before(farm, project, idempotency_key, request_hash, response):
        return before
    if body.priority == "high" and token.role is Role.CI:
        raise Forbidden(
            f"Token {token.id} may not submit with priority high: its role is {token.role}. Leave the priority out."
        )
    artifact = artifacts.find_own(farm.store, project, body.artifact)
    plan = _plan(body, artifact, project, farm)
    gate = judged.asked(body)
    wanted = selector.parse(body.on)
    statuses = boards.statuses(farm.store)
    job = intake.submit(
        store=farm.store,
        artifact=artifact,
        plan=plan,
        model=body.model,
        project=project,
        selector=wanted,
        now=farm.clock(),
        commit=body.commit,
        branch=body.branch,
        repository=body.repository,
        submitted_by=token.name,
        feed_sha256=body.feed,
        priority=PRIORITIES[body.priority],
        limits=TimeLimits(**body.limits.model_dump(exclude_none=True)),
        gate=gate,
        main_branch=farm.settings.main_branch,
        is_fresh=body.fresh,
        check=lambda job: _check_boards(job, statuses),
        idempotency_key=idempotency_key,
        request_hash=request_hash,
    )
    farm.kick()
    return _told_of(job, farm, statuses)


@router.get("/jobs")
def list_jobs(
    token: Anyone,
    farm: Farm,
    state: Annotated[list[JobState] | None, Query()] = None,
    model: asked.Model = None,
    project: asked.ProjectName = None,
    limit: asked.Limit = 50,
    cursor: asked.Cursor = None,
) -> schemas.JobsTold:
    """One page of Jobs, the newest first."""
    found = jobs.list_jobs(
        farm.store,
        project=sees(token, project),
        states=state or (),
        model=model,
        limit=limit,
        before=asked.before_id(cursor),
    )
    more = asked.cursor(found[-1].id) if len(found) == limit else None
    return schemas.JobsTold(jobs=[_told(job) for job in found], next=more)


@router.get("/jobs/{job_id}")
def show_job(job_id: asked.JobId, token: Anyone, farm: Farm) -> schemas.JobTold:
    """A Job with its Runs, and its place in the queue."""
    return _told_of(jobs.get_job(farm.store, job_id, project=sees(token)), farm)


@router.post("/jobs/{job_id}/cancel")
def cancel(job_id: asked.JobId, token: Anyone, farm: Farm) -> schemas.JobTold:
    """Ask for a Job's end: at once where it is queued, else as soon as its worker hears of it. 409 where it is over."""
    job = jobs.get_job(farm.store, job_id, project=sees(token))
    job = queue.cancel(farm.store, job.id, by=token.name, now=farm.clock())
    farm.kick()
    return _told_of(job, farm)


@router.post("/jobs/{job_id}/retry", status_code=201, responses=_REPLAYED)
def retry(
    job_id: asked.JobId,
    token: Anyone,
    farm: Farm,
    response: Response,
    idempotency_key: asked.IdempotencyKey = None,
) -> schemas.JobTold:
    """A new Job that asks the same as one that is over."""
    old = jobs.get_job(farm.store, job_id, project=sees(token))
    request_hash = digest(["retry", old.id])
    if before := _before(farm, old.project, idempotency_key, request_hash, response):
        return before
    if old.state not in queue.TERMINAL:
        raise Conflict(f"Job {old.id} cannot be tried again: it is {old.state}. Cancel it first, or wait for its end.")
    statuses = boards.statuses(farm.store)
    _check_boards(old, statuses)
    fresh = Job(
        id=new_id(),
        project=old.project,
        model=old.model,
        arms=old.arms,
        selector=old.selector,
        submitted_at=farm.clock(),
        commit=old.commit,
        branch=old.branch,
        repository=old.repository,
        submitted_by=token.name,
        priority=min(old.priority, PRIORITIES["normal"]) if token.role is Role.CI else old.priority,
        limits=old.limits,
        affinity=old.affinity,
        retry_of=old.id,
        gate=_gate_again(old),
    )
    job = intake.queue_up(
        fresh, store=farm.store, now=farm.clock(), idempotency_key=idempotency_key, request_hash=request_hash
    )
    farm.kick()
    return _told_of(job, farm, statuses)


def _gate_again(old: Job) -> JobGate | None:
    """The Gate of a Job that is tried again: what it has measured anew is not begun anew a second time."""
    if old.gate is None or old.evidence_id is None:
        return old.gate
    return replace(old.gate, is_fresh=False)


def _before(
    farm: Services, project: str, key: str | None, request_hash: str, response: Response
) -> schemas.JobTold | None:
    """The Job that the same request made before. Raises KeyReused."""
    job = jobs.replayed(farm.store, project, key, request_hash) if key is not None else None
    if job is None:
        return None
    response.status_code = 200
    return _told_of(job, farm)


def _plan(body: schemas.JobAsked, artifact: Artifact, project: str, farm: Services) -> wire.Plan:
    """The checked Plan; a feed is an Artifact of the same Project, by its hash."""
    plan = asked.plan(body.plan, artifact)
    if body.feed is not None:
        feed = artifacts.find_own(farm.store, project, body.feed)
        if feed.is_folder or not feed.entry.endswith(".npz"):
            raise InputError(f"The feed {feed.sha256} is '{feed.name}', which is no .npz file. Send one.")
    return plan


def _check_boards(job: Job, statuses: Sequence[BoardStatus]) -> None:
    """Raise NoBoardFits where no one board has what all its Arms need."""
    why = selector.missing(job.selector, statuses, sorted({arm.plan.runtime for arm in job.arms}))
    if why is not None:
        raise NoBoardFits(why)


def _told_of(job: Job, farm: Services, statuses: Sequence[BoardStatus] | None = None) -> schemas.JobTold:
    """A Job with its Runs, and its place in the queue."""
    place = None
    if job.state is JobState.QUEUED:
        statuses = boards.statuses(farm.store) if statuses is None else statuses
        place = waiting.place(job, statuses, store=farm.store, now=farm.clock())
    told = _told(job, place, results.runs_of(farm.store, job.id))
    return told.model_copy(update={"gate": judged.told(job, farm.store)})


def _told(job: Job, place: schemas.QueuePlace | None = None, runs: list[Run] | None = None) -> schemas.JobTold:
    arm = job.arms[0]
    return schemas.JobTold(
        id=job.id,
        project=job.project,
        model=job.model,
        artifact=arm.artifact.sha256,
        artifact_name=arm.artifact.name,
        plan=plan_form(arm.plan),
        on=selector.text(job.selector),
        priority=next((name for name, value in PRIORITIES.items() if value == job.priority), str(job.priority)),
        state=job.state,
        submitted_at=job.submitted_at,
        submitted_by=job.submitted_by,
        commit=job.commit,
        branch=job.branch,
        repository=job.repository,
        queue=place,
        cancel_at=job.cancel_at,
        ended_at=job.ended_at,
        outcome=job.outcome,
        verdict=job.verdict,
        reasons=[_reason(reason) for reason in job.reasons],
        runs=[_run(run) for run in runs or ()],
        retry_of=job.retry_of,
        virtual=job.selector.virtual or any(run.context.get("virtual") for run in runs or ()),
    )


def _run(run: Run) -> schemas.RunTold:
    return schemas.RunTold(
        id=run.id,
        board=run.board,
        started_at=run.started_at,
        begun_at=run.begun_at,
        ended_at=run.ended_at,
        outcome=run.outcome,
        blame=run.blame,
        reasons=[_reason(reason) for reason in run.reasons],
    )


def _reason(reason: Reason) -> schemas.ReasonTold:
    return schemas.ReasonTold(**asdict(reason))
