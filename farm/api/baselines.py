"""Baselines over HTTP: list, history, set, remove."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Query

from farm import intake, schemas, selector
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


@router.get("/baselines/{model}/{name}/history")
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
    if body.job is not None and body.artifact is not None:
        raise InputError("A baseline is set to a job or to an artifact, not to both. Leave one of them out.")
    if body.job is not None:
        fresh = _of_job(body, jobs.get_job(farm.store, body.job, project=sees(token)), token, farm)
    elif body.artifact is not None:
        fresh = _of_artifact(body, token, farm)
    else:
        fresh = _changed(body, token, farm)
    return _told(baselines.save(farm.store, fresh))


@router.delete("/baselines/{model}/{name}", status_code=204)
def remove(
    model: ModelName, name: Name, token: Engineer, farm: Farm, on: Annotated[schemas.Line | None, Query()] = None
) -> None:
    """Remove a baseline; its history stays."""
    gone = _the_one(model, name, on, token, farm)
    nothing = replace(gone, artifact=None, plan=None, job_id=None, board=None, commit=None)
    baselines.save(farm.store, replace(nothing, note="removed", set_by=token.name, set_at=farm.clock()))


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
    plan = intake.plan_from(body.plan or {}, artifact=artifact)
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
    before = _the_one(body.model, body.name, body.on, token, farm)
    if body.follows is None and body.pinned is None:
        raise InputError("A baseline needs a job or an artifact, or `follows` or `pinned` to change. Give one.")
    return replace(
        before,
        follows=before.follows if body.follows is None else body.follows or None,
        is_pinned=before.is_pinned if body.pinned is None else body.pinned,
        note=body.note,
        set_by=token.name,
        set_at=farm.clock(),
    )


def _the_one(model: str, name: str, on: str | None, token: Token, farm: Services) -> Baseline:
    """The Baseline of that name; `on` tells which, where it is set on several Selectors."""
    project = acts_in(token, farm) if token.project is None else token.project
    wanted = None if on is None else selector.text(selector.parse(on))
    found = [
        one
        for one in baselines.current(farm.store, project, model)
        if one.name == name and (wanted is None or one.selector == wanted)
    ]
    if not found:
        raise NotFound(f"Baseline '{name}' of model '{model}' is not set. `farm baselines list` shows what is.")
    if len(found) > 1:
        where = "; ".join(f"on '{one.selector}' with plan {one.plan_hash[:8]}" for one in found)
        raise InputError(f"Baseline '{name}' of model '{model}' is set {len(found)} times: {where}. Say which: on.")
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
