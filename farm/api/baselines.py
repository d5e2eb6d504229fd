"""Baselines over HTTP: list, history, set, remove."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Query

from farm import schemas, selector
from farm.api import asked
from farm.api.auth import Anyone, Engineer, acts_in, sees
from farm.api.services import Farm, Services
from farm.domain import Baseline, Job, Outcome, Token, plan_form, plan_hash
from farm.errors import Conflict, InputError, NotFound
from farm.store import artifacts, baselines, jobs

router = APIRouter(tags=["baselines"])

ModelName = Annotated[schemas.Name, Path()]
Name = Annotated[schemas.BaselineName, Path()]


@router.get("/baselines")
def list_baselines(
    token: Anyone, farm: Farm, model: asked.Model = None, project: asked.ProjectName = None
) -> schemas.BaselinesTold:
    """Every baseline that is set."""
    found = baselines.current(farm.store, sees(token, project), model)
    return schemas.BaselinesTold(baselines=[_told(one) for one in found])


@router.get("/baselines/{model:path}/{name}/history")
def history(
    model: ModelName, name: Name, token: Anyone, farm: Farm, project: asked.ProjectName = None
) -> schemas.BaselinesTold:
    """All that a baseline has been, on each selector and plan."""
    found = baselines.history(farm.store, sees(token, project), model, name)
    if not found:
        raise NotFound(f"Baseline '{name}' of model '{model}' is not known. `farm baselines list` shows what is set.")
    return schemas.BaselinesTold(baselines=[_told(one) for one in found])


@router.post("/baselines", status_code=201)
def set_baseline(body: schemas.BaselineAsked, token: Engineer, farm: Farm) -> schemas.BaselineTold:
    """Set a baseline to what a job measured, or to an artifact; or change the branch it follows, or its pin."""
    _check(body)
    if body.job is not None:
        fresh = _kept(body, _of_job(body, jobs.get_job(farm.store, body.job, project=sees(token)), token, farm), farm)
    elif body.artifact is not None:
        fresh = _kept(body, _of_artifact(body, token, farm), farm)
    else:
        fresh = _changed(body, token, farm)
    return _told(baselines.save(farm.store, fresh))


@router.delete("/baselines/{model:path}/{name}", status_code=204)
def remove(
    model: ModelName,
    name: Name,
    token: Engineer,
    farm: Farm,
    on: Annotated[schemas.Line | None, Query()] = None,
    plan_hash: Annotated[schemas.PlanHash | None, Query()] = None,
) -> None:
    """Remove a baseline; its history stays."""
    gone = _the_one(model, name, on, plan_hash, token, farm)
    nothing = replace(gone, artifact=None, plan=None, job_id=None, board=None, commit=None)
    baselines.save(farm.store, replace(nothing, note="removed", set_by=token.name, set_at=farm.clock()))


def _check(body: schemas.BaselineAsked) -> None:
    """Raise InputError where parts of what is asked contradict each other."""
    if body.job is not None and body.artifact is not None:
        raise InputError("A baseline is set to a job or to an artifact, not to both. Leave one of them out.")
    if body.job is not None and (body.on is not None or body.plan is not None):
        raise InputError("A baseline of a job is of that job's selector and plan. Leave `on` and `plan` out.")
    if body.artifact is None and body.plan is not None:
        raise InputError("`plan` is what an artifact runs under, and none is given. Give one, or `plan_hash`.")
    if body.plan_hash is not None and (body.job is not None or body.artifact is not None):
        raise InputError("`plan_hash` tells baselines apart that are set already. Leave it out.")


def _kept(body: schemas.BaselineAsked, fresh: Baseline, farm: Services) -> Baseline:
    """The new Baseline with the branch and the pin of the one in whose place it comes, where nothing else is asked."""
    place = (fresh.name, fresh.selector, fresh.plan_hash)
    known = baselines.current(farm.store, fresh.project, fresh.model)
    before = next((one for one in known if (one.name, one.selector, one.plan_hash) == place), None)
    if before is None:
        return fresh
    follows = before.follows if body.follows is None else fresh.follows
    return replace(fresh, follows=follows, is_pinned=before.is_pinned if body.pinned is None else body.pinned)


def _of_job(body: schemas.BaselineAsked, job: Job, token: Token, farm: Services) -> Baseline:
    if job.outcome not in (Outcome.OK, Outcome.NOISY):
        seen = f"it is {job.state}" if job.outcome is None else f"it ended {job.outcome}"
        raise Conflict(f"Job {job.id} cannot be a baseline: {seen}. Name one that was measured.")
    if job.model != body.model:
        raise InputError(f"Job {job.id} measured model '{job.model}', not '{body.model}'. Name that model.")
    candidate = job.arms[0]
    return Baseline(
        project=job.project,
        model=job.model,
        name=body.name,
        selector=selector.text(job.selector),
        plan_hash=plan_hash(candidate.plan),
        artifact=candidate.artifact,
        plan=candidate.plan,
        job_id=job.id,
        board=baselines.board_of(farm.store, job.id),
        commit=job.commit,
        follows=body.follows or None,
        is_pinned=bool(body.pinned),
        note=body.note,
        set_by=token.name,
        set_at=farm.clock(),
    )


def _of_artifact(body: schemas.BaselineAsked, token: Token, farm: Services) -> Baseline:
    project = acts_in(token, farm)
    assert body.artifact is not None
    artifact = artifacts.find_own(farm.store, project, body.artifact)
    plan = asked.plan(body.plan or {}, artifact)
    return Baseline(
        project=project,
        model=body.model,
        name=body.name,
        selector=selector.text(selector.parse(body.on or "")),
        plan_hash=plan_hash(plan),
        artifact=artifact,
        plan=plan,
        job_id=None,
        board=None,
        commit=None,
        follows=body.follows or None,
        is_pinned=bool(body.pinned),
        note=body.note,
        set_by=token.name,
        set_at=farm.clock(),
    )


def _changed(body: schemas.BaselineAsked, token: Token, farm: Services) -> Baseline:
    if body.follows is None and body.pinned is None:
        raise InputError("A baseline needs a job or an artifact, or `follows` or `pinned` to change. Give one.")
    before = _the_one(body.model, body.name, body.on, body.plan_hash, token, farm)
    return replace(
        before,
        follows=before.follows if body.follows is None else body.follows or None,
        is_pinned=before.is_pinned if body.pinned is None else body.pinned,
        note=body.note,
        set_by=token.name,
        set_at=farm.clock(),
    )


def _the_one(model: str, name: str, on: str | None, plan: str | None, token: Token, farm: Services) -> Baseline:
    """The Baseline of that name; `on` and how its Plan's hash begins tell which, where it is set several times."""
    wanted = None if on is None else selector.text(selector.parse(on))
    found = [
        one
        for one in baselines.current(farm.store, sees(token), model)
        if one.name == name and (wanted is None or one.selector == wanted) and one.plan_hash.startswith(plan or "")
    ]
    if not found:
        raise NotFound(f"Baseline '{name}' of model '{model}' is not set. `farm baselines list` shows what is.")
    if len(found) > 1:
        where = "; ".join(f"in {one.project} on '{one.selector}' with plan {one.plan_hash[:8]}" for one in found)
        raise InputError(
            f"Baseline '{name}' of model '{model}' is set {len(found)} times: {where}. Say which: on, plan_hash."
        )
    return found[0]


def _told(one: Baseline) -> schemas.BaselineTold:
    return schemas.BaselineTold(
        project=one.project,
        model=one.model,
        name=one.name,
        on=one.selector,
        plan_hash=one.plan_hash,
        plan=None if one.plan is None else plan_form(one.plan),
        artifact=None if one.artifact is None else one.artifact.sha256,
        artifact_name=None if one.artifact is None else one.artifact.name,
        job=one.job_id,
        board=one.board,
        commit=one.commit,
        follows=one.follows,
        pinned=one.is_pinned,
        note=one.note,
        set_by=one.set_by,
        set_at=one.set_at,
    )
