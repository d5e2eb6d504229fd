"""Baselines: what a Model is compared against on a Selector and Plan, and the Artifacts that a Gate's References name.

Each change is a new row: the newest of a name is the Baseline, all of them are its history.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from farm_agent import wire
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from farm import selector
from farm.domain import Artifact, Baseline, Job, JobState, Outcome, Run, Verdict, plan_form, plan_hash
from farm.errors import InputError, NotFound
from farm.store import artifacts, audit, jobs, results
from farm.store.db import Store, insert_new
from farm.store.tables import (
    ArmRow,
    BaselineRow,
    BoardRow,
    EvidenceRow,
    JobRow,
    ModelRow,
    PlanRow,
    ProjectArtifactRow,
    ProjectRow,
    RunRow,
)

MEASURED = (Outcome.OK, Outcome.NOISY)
MOST_LOOKED_AT = 500  # Jobs, for the newest one that passed
ME = "farm"


def save(store: Store, baseline: Baseline) -> Baseline:
    """Set a Baseline, or remove it where it has no Artifact; the change is in the audit log."""
    with store.write() as session:
        if baseline.board is not None:  # before the Model, as whoever promotes has them
            its_board = select(BoardRow.name).where(BoardRow.name == baseline.board)
            session.execute(its_board.with_for_update(read=True, key_share=True))
        model_id = jobs.model_id_within(session, baseline.project, baseline.model)
        session.execute(_for_change(model_id))
        _add(session, model_id, baseline)
    return baseline


def current(store: Store, project: str | None, model: str | None = None) -> list[Baseline]:
    """Every Baseline of a Project (None: of all), the newest first."""
    newest = select(func.max(BaselineRow.id)).group_by(
        BaselineRow.model_id, BaselineRow.name, BaselineRow.selector, BaselineRow.plan_hash
    )
    query = select(BaselineRow).where(BaselineRow.id.in_(newest), BaselineRow.artifact.is_not(None))
    return _found(store, query, project, model, None)


def history(store: Store, project: str | None, model: str, name: str) -> list[Baseline]:
    """All that a Baseline has been, on each Selector and Plan, the newest first."""
    return _found(store, select(BaselineRow), project, model, name)


def find(store: Store, job: Job, name: str) -> Baseline | None:
    """The Baseline of that name for what this Job measures: its Model, its Selector and its Plan."""
    with store.read() as session:
        row = session.scalars(_of(job).where(BaselineRow.name == name).limit(1)).one_or_none()
        return None if row is None or row.artifact is None else _from_row(session, row)


def names(store: Store, project: str, model: str) -> list[str]:
    """The Baselines of a Model in words, for who named another."""
    return [f"{one.name} (on {one.selector or 'any board'})" for one in current(store, project, model)]


def last_passing(store: Store, job: Job, *, branches: tuple[str | None, ...]) -> Job | None:
    """The newest Job of one of these branches that passed, and asked what this one asks of Board and Plan."""
    return next((one for one in _passed(store, job) if one.branch in branches), None)


def board_of(store: Store, job_id: str) -> str | None:
    """The Board on which a Job was measured last; of the Evidence, where an earlier Job's was its answer."""
    measured = select(RunRow.board).where(RunRow.job_id == job_id, RunRow.outcome.in_(MEASURED))
    answered = select(EvidenceRow.board).join(JobRow, JobRow.evidence_id == EvidenceRow.id).where(JobRow.id == job_id)
    with store.read() as session:
        found = session.scalars(measured.order_by(RunRow.id.desc()).limit(1)).one_or_none()
        return found or session.scalars(answered).one_or_none()


def job_of_run(store: Store, project: str, run_id: str) -> tuple[Job, Run]:
    """The Run of that id, or of the only one that begins so, with its Job. Raises NotFound, InputError."""
    owned = (
        select(RunRow.id)
        .join(JobRow, JobRow.id == RunRow.job_id)
        .join(ProjectRow, ProjectRow.id == JobRow.project_id)
        .where(ProjectRow.name == project)
    )
    with store.read() as session:
        run = results.from_row(session.get_one(RunRow, jobs.only_one(session, owned, RunRow.id, run_id, "Run")))
        return jobs.from_row(session, session.get_one(JobRow, run.job_id)), run


def artifact_of(store: Store, project: str, sha256: str) -> Artifact:
    """The Project's Artifact of that hash, or of the only one that begins so. Raises NotFound, InputError."""
    owned = (
        select(ProjectArtifactRow.artifact)
        .join(ProjectRow, ProjectRow.id == ProjectArtifactRow.project_id)
        .where(ProjectRow.name == project)
    )
    with store.read() as session:
        found = jobs.only_one(session, owned, ProjectArtifactRow.artifact, sha256, "Artifact")
        project_id = session.scalars(select(ProjectRow.id).where(ProjectRow.name == project)).one()
        return artifacts.load(session, found, project_id)


def is_followed(session: Session, job: JobRow) -> bool:
    """Whether a Baseline of the Job's Model has ever followed its branch."""
    same = (BaselineRow.model_id == job.model_id, BaselineRow.follows == job.branch)
    return job.branch is not None and session.scalar(select(BaselineRow.id).where(*same).limit(1)) is not None


def promote(session: Session, job: Job, board: str | None, now: datetime) -> None:
    """Make a Job that passed the Baseline of every name that follows its branch, within the transaction of its end."""
    candidate = job.arms[0]
    session.execute(_for_change(jobs.model_id_within(session, job.project, job.model)))  # nobody pins it meanwhile
    seen: set[str] = set()
    for row in session.scalars(_of(job)):
        if row.name in seen:
            continue
        seen.add(row.name)  # the newest of its name
        same = row.artifact == candidate.artifact.sha256
        if row.artifact is None or row.is_pinned or row.follows is None or row.follows != job.branch or same:
            continue
        before = _from_row(session, row)
        _add(
            session,
            row.model_id,
            Baseline(
                project=job.project,
                model=job.model,
                name=row.name,
                selector=row.selector,
                plan_hash=row.plan_hash,
                artifact=candidate.artifact,
                plan=candidate.plan,
                job_id=job.id,
                board=board,
                commit=job.commit,
                follows=before.follows,
                is_pinned=False,
                note=f"job {job.id} of branch {job.branch} passed",
                set_by=ME,
                set_at=now,
            ),
        )


def _for_change(model_id: int) -> Any:
    """Locks a Model's Baselines for one who changes them; the Model's own row may be read and referred to."""
    return select(ModelRow.id).where(ModelRow.id == model_id).with_for_update(key_share=True)


def _of(job: Job) -> Any:
    plan = plan_hash(job.arms[0].plan)
    return (
        select(BaselineRow)
        .join(ModelRow, ModelRow.id == BaselineRow.model_id)
        .join(ProjectRow, ProjectRow.id == ModelRow.project_id)
        .where(ProjectRow.name == job.project, ModelRow.name == job.model)
        .where(BaselineRow.selector == selector.text(job.selector), BaselineRow.plan_hash == plan)
        .order_by(BaselineRow.id.desc())
    )


def _passed(store: Store, job: Job) -> Iterator[Job]:
    query = (
        select(JobRow)
        .join(ModelRow, ModelRow.id == JobRow.model_id)
        .join(ProjectRow, ProjectRow.id == JobRow.project_id)
        .join(ArmRow, ArmRow.job_id == JobRow.id)
        .where(ProjectRow.name == job.project, ModelRow.name == job.model, JobRow.id != job.id)
        .where(JobRow.state == JobState.DONE, JobRow.verdict == Verdict.PASS)
        .where(ArmRow.letter == job.arms[0].letter, ArmRow.plan_hash == plan_hash(job.arms[0].plan))
        .order_by(JobRow.id.desc())
        .limit(MOST_LOOKED_AT)
    )
    with store.read() as session:
        found = jobs.from_rows(session, session.scalars(query).all())
    wanted = selector.text(job.selector)
    yield from (one for one in found if selector.text(one.selector) == wanted)


def _found(store: Store, query: Any, project: str | None, model: str | None, name: str | None) -> list[Baseline]:
    query = query.join(ModelRow, ModelRow.id == BaselineRow.model_id).order_by(BaselineRow.id.desc())
    if project is not None:
        query = query.join(ProjectRow, ProjectRow.id == ModelRow.project_id).where(ProjectRow.name == project)
    if model is not None:
        query = query.where(ModelRow.name == model)
    if name is not None:
        query = query.where(BaselineRow.name == name)
    with store.read() as session:
        return [_from_row(session, row) for row in session.scalars(query)]


def _add(session: Session, model_id: int, baseline: Baseline) -> None:
    if (baseline.artifact is None) != (baseline.plan is None):
        raise InputError(f"Baseline {baseline.name!r} needs an artifact and a plan, or neither to remove it.")
    if baseline.plan is not None:
        insert_new(session, PlanRow, {"hash": plan_hash(baseline.plan), "form": plan_form(baseline.plan)})
    session.add(
        BaselineRow(
            model_id=model_id,
            name=baseline.name,
            selector=baseline.selector,
            plan_hash=baseline.plan_hash,
            artifact=None if baseline.artifact is None else baseline.artifact.sha256,
            plan=None if baseline.plan is None else wire.as_dict(baseline.plan),
            job_id=baseline.job_id,
            board=baseline.board,
            commit=baseline.commit,
            follows=baseline.follows,
            is_pinned=baseline.is_pinned,
            note=baseline.note,
            set_by=baseline.set_by,
            set_at=baseline.set_at,
        )
    )
    session.flush()
    audit.add(
        session,
        actor=baseline.set_by,
        action="baseline.remove" if baseline.artifact is None else "baseline.set",
        subject=f"{baseline.model}/{baseline.name}",
        project=baseline.project,
        at=baseline.set_at,
        data={
            "on": baseline.selector,
            "artifact": None if baseline.artifact is None else baseline.artifact.sha256,
            "job": baseline.job_id,
            "follows": baseline.follows,
            "pinned": baseline.is_pinned,
            "note": baseline.note,
        },
    )


def _from_row(session: Session, row: BaselineRow) -> Baseline:
    model = session.get_one(ModelRow, row.model_id)
    project = session.get_one(ProjectRow, model.project_id)
    if row.artifact is not None and row.plan is None:
        raise NotFound(f"Baseline {row.name!r} of {model.name} has no plan. Set it again.")
    return Baseline(
        project=project.name,
        model=model.name,
        name=row.name,
        selector=row.selector,
        plan_hash=row.plan_hash,
        artifact=None if row.artifact is None else artifacts.load(session, row.artifact, project.id),
        plan=None if row.plan is None else wire.plan_from(row.plan),
        job_id=row.job_id,
        board=row.board,
        commit=row.commit,
        follows=row.follows,
        is_pinned=row.is_pinned,
        note=row.note,
        set_by=row.set_by,
        set_at=row.set_at,
    )
