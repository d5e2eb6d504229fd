"""Artifacts, Models, Plans and Jobs: what is to be measured."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from farm_agent import wire
from sqlalchemy import select
from sqlalchemy.orm import Session

from farm import selector
from farm.domain import (
    Arm,
    Artifact,
    Job,
    JobGate,
    JobState,
    Outcome,
    Reason,
    Selector,
    TimeLimits,
    Verdict,
    plan_form,
    plan_hash,
)
from farm.errors import InputError, KeyReused, NotFound
from farm.store import artifacts, audit, events
from farm.store.db import Store, insert_new
from farm.store.tables import (
    ArmRow,
    ArtifactRow,
    JobRow,
    ModelRow,
    PlanRow,
    ProjectRow,
)

_SHOWN_CANDIDATES = 5
BLOCK_S = 3.0  # to start, load and end one
TYPICAL_PAIRS = 12  # until a gate has decided


def save_artifact(store: Store, artifact: Artifact) -> None:
    """Remember an Artifact; its bytes are the blobs of its files. The same again changes nothing."""
    with store.write() as session:
        artifacts.save_within(session, artifact)


def find_artifact(store: Store, sha256: str) -> Artifact:
    """The Artifact of that sha256, or of the only one that begins so. Raises NotFound, or InputError for several."""
    with store.read() as session:
        found = only_one(session, select(ArtifactRow.sha256), ArtifactRow.sha256, sha256, "Artifact")
        return artifacts.load(session, found)


def replayed(store: Store, project: str, idempotency_key: str, request_hash: str) -> Job | None:
    """The Job that the same request made before under this key. Raises KeyReused where it was another request."""
    with store.read() as session:
        project_id = session.scalars(select(ProjectRow.id).where(ProjectRow.name == project)).one_or_none()
        before = None if project_id is None else _before(session, project_id, idempotency_key, request_hash)
        return None if before is None else from_row(session, before)


def save_job(store: Store, job: Job, *, idempotency_key: str | None = None, request_hash: str | None = None) -> Job:
    """Remember a Job with its Model, Artifacts and Plans. The same again changes nothing, its state included.

    With an idempotency key that this Project has used already, the Job of then is given back; InputError where that
    was another request.
    """
    with store.write() as session:
        project_id = _project_id(session, job.project)
        before = _before(session, project_id, idempotency_key, request_hash)
        if before is not None:
            return from_row(session, before)
        queued_at = job.queued_at or job.submitted_at
        runtimes = sorted({arm.plan.runtime for arm in job.arms})
        values = {
            "id": job.id,
            "model_id": model_id_within(session, job.project, job.model),
            "project_id": project_id,
            "selector": wire.as_dict(job.selector),
            "submitted_at": job.submitted_at,
            "commit": job.commit,
            "branch": job.branch,
            "repository": job.repository,
            "submitted_by": job.submitted_by,
            "state": job.state,
            "demand": selector.key(job.selector, runtimes),
            "runtimes": runtimes,
            "priority": job.priority,
            "limits": wire.as_dict(job.limits),
            "affinity": job.affinity,
            "queued_at": queued_at,
            "avoid": list(job.avoid),
            "reasons": [wire.as_dict(reason) for reason in job.reasons],
            "waited_s": 0.0,
            "expected_s": expected_s(job),
            "give_up_at": queued_at + timedelta(seconds=job.limits.queue_s),
            "ended_at": job.ended_at,
            "outcome": job.outcome,
            "verdict": job.verdict,
            "retry_of": job.retry_of,
            "idempotency_key": idempotency_key,
            "request_hash": request_hash,
            "gate": None if job.gate is None else wire.as_dict(job.gate),
        }
        insert_new(session, JobRow, values)
        before = _before(session, project_id, idempotency_key, request_hash)
        if before is not None and before.id != job.id:  # the same request at the same time
            return from_row(session, before)
        for arm in job.arms:
            artifacts.save_within(session, arm.artifact)
            artifacts.own_within(session, project_id, arm.artifact, job.submitted_at)
            insert_new(session, PlanRow, {"hash": plan_hash(arm.plan), "form": plan_form(arm.plan)})
            values = {
                "job_id": job.id,
                "letter": arm.letter,
                "artifact": arm.artifact.sha256,
                "plan_hash": plan_hash(arm.plan),
                "plan": wire.as_dict(arm.plan),
            }
            insert_new(session, ArmRow, values)
        row = session.get_one(JobRow, job.id)
        if not events.any_of(session, job.id):
            events.add(session, job.id, kind="submitted", at=job.submitted_at, data={"by": job.submitted_by})
            if job.gate is not None and job.gate.is_fresh:  # measuring until it is green would void the error rates
                actor, at = job.submitted_by or job.project, job.submitted_at
                audit.add(session, actor=actor, action="job.fresh", subject=job.id, project=job.project, at=at)
        return from_row(session, row)


def expected_s(job: Job) -> float:
    """How long a Job should take on a Board: its Blocks, and about 3 s to start, load and end each."""
    if job.gate is not None:
        pair_s = sum(arm.plan.warmup_s + BLOCK_S for arm in job.arms)
        return float(min(job.gate.gate["budget_s"], TYPICAL_PAIRS * pair_s))
    return sum(arm.plan.duration_s + arm.plan.processes * (arm.plan.warmup_s + BLOCK_S) for arm in job.arms)


def get_job(store: Store, job_id: str, *, project: str | None = None) -> Job:
    """The Job of that id, or the only one that begins so. Raises NotFound, or InputError listing several.

    With a Project, those of others are not there.
    """
    query = select(JobRow.id)
    if project is not None:
        query = query.join(ProjectRow, ProjectRow.id == JobRow.project_id).where(ProjectRow.name == project)
    with store.read() as session:
        found = only_one(session, query, JobRow.id, job_id, "Job")
        return from_row(session, session.get_one(JobRow, found))


def list_jobs(
    store: Store,
    *,
    project: str | None = None,
    states: Sequence[JobState] = (),
    model: str | None = None,
    limit: int = 50,
    before: str | None = None,
) -> list[Job]:
    """Jobs, the newest first; `before` is the id of the last one of the page before."""
    query = select(JobRow).order_by(JobRow.id.desc()).limit(limit)
    if project is not None:
        query = query.join(ProjectRow, ProjectRow.id == JobRow.project_id).where(ProjectRow.name == project)
    if states:
        query = query.where(JobRow.state.in_(states))
    if model is not None:
        query = query.join(ModelRow, ModelRow.id == JobRow.model_id).where(ModelRow.name == model)
    if before is not None:
        query = query.where(JobRow.id < before)
    with store.read() as session:
        return from_rows(session, session.scalars(query).all())


def row_of(session: Session, job_id: str, *, lock: bool = False) -> JobRow:
    """A Job's row. Raises NotFound."""
    row = session.get(JobRow, job_id, with_for_update=lock)
    if row is None:
        raise NotFound(f"Job {job_id!r} is not known to this farm. Check its id; `farm jobs` lists them.")
    return row


def from_row(session: Session, row: JobRow) -> Job:
    """The Job of a row, with its Arms."""
    return from_rows(session, [row])[0]


def from_rows(session: Session, rows: Sequence[JobRow]) -> list[Job]:
    """The Jobs of rows, with their Arms, in as many statements as one takes."""
    named = (
        select(ModelRow.id, ProjectRow.name, ModelRow.name)
        .join(ProjectRow, ProjectRow.id == ModelRow.project_id)
        .where(ModelRow.id.in_({row.model_id for row in rows}))
    )
    names = {model_id: (project, model) for model_id, project, model in session.execute(named)}
    listed = select(ArmRow).where(ArmRow.job_id.in_({row.id for row in rows})).order_by(ArmRow.letter)
    arms: dict[str, list[ArmRow]] = {}
    for arm in session.scalars(listed):
        arms.setdefault(arm.job_id, []).append(arm)
    wanted = {(arm.artifact, row.project_id) for row in rows for arm in arms.get(row.id, ())}
    found = artifacts.load_all(session, wanted) if wanted else {}
    return [
        _job(
            row,
            names[row.model_id],
            tuple(
                Arm(arm.letter, found[arm.artifact, row.project_id], wire.plan_from(arm.plan))
                for arm in arms.get(row.id, ())
            ),
        )
        for row in rows
    ]


def _job(row: JobRow, names: tuple[str, str], arms: tuple[Arm, ...]) -> Job:
    return Job(
        id=row.id,
        project=names[0],
        model=names[1],
        arms=arms,
        selector=Selector(**{**row.selector, "tags": tuple(row.selector["tags"])}),
        submitted_at=row.submitted_at,
        commit=row.commit,
        branch=row.branch,
        repository=row.repository,
        submitted_by=row.submitted_by,
        priority=row.priority,
        limits=TimeLimits(**row.limits),
        affinity=row.affinity,
        retry_of=row.retry_of,
        state=JobState(row.state),
        queued_at=row.queued_at,
        not_before=row.not_before,
        avoid=tuple(row.avoid),
        cancel_at=row.cancel_at,
        ended_at=row.ended_at,
        outcome=None if row.outcome is None else Outcome(row.outcome),
        verdict=None if row.verdict is None else Verdict(row.verdict),
        reasons=tuple(Reason(**reason) for reason in row.reasons),
        gate=None if row.gate is None else JobGate(**row.gate),
        evidence_id=row.evidence_id,
    )


def model_id_within(session: Session, project: str, model: str) -> int:
    """The id of a Project's Model, which is made where there is none, within a transaction."""
    project_id = _project_id(session, project)
    insert_new(session, ModelRow, {"project_id": project_id, "name": model})
    return session.scalars(select(ModelRow.id).where(ModelRow.project_id == project_id, ModelRow.name == model)).one()


def only_one(session: Session, query: Any, column: Any, prefix: str, noun: str) -> str:
    """The only key that begins with `prefix`. Raises NotFound for none, InputError listing them for several."""
    prefix = prefix.strip().lower()
    if not prefix:
        raise InputError(f"{noun} '' is no name. Give its id, or how that begins.")
    matches = query.where(column.startswith(prefix, autoescape=True)).order_by(column).limit(_SHOWN_CANDIDATES + 1)
    found: list[str] = list(session.scalars(matches))
    if len(found) == 1 or prefix in found:
        return found[0]  # a key that is the prefix itself sorts first
    if not found:
        raise NotFound(f"{noun} {prefix!r} is not known to this farm: none begins so. Look its id up with `farm runs`.")
    more = ", ..." if len(found) > _SHOWN_CANDIDATES else ""
    shown = ", ".join(found[:_SHOWN_CANDIDATES])
    raise InputError(f"{noun} {prefix!r} is ambiguous: {shown}{more} begin so. Give more of it.")


def _before(session: Session, project_id: int, idempotency_key: str | None, request_hash: str | None) -> JobRow | None:
    """The Job that a Project made under this key, if any. Raises KeyReused where that was another request."""
    if idempotency_key is None:
        return None
    known = select(JobRow).where(JobRow.project_id == project_id, JobRow.idempotency_key == idempotency_key)
    before = session.scalars(known).one_or_none()
    if before is not None and before.request_hash != request_hash:
        raise KeyReused(
            f"Idempotency-Key {idempotency_key!r} was used for another request, which made job {before.id}. "
            "Use a fresh key for each submission."
        )
    return before


def _project_id(session: Session, project: str) -> int:
    insert_new(session, ProjectRow, {"name": project})
    return session.scalars(select(ProjectRow.id).where(ProjectRow.name == project)).one()
