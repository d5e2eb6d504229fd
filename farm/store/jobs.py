"""Artifacts, Models, Plans and Jobs: what is to be measured."""

from __future__ import annotations

from typing import Any

from farm_agent import wire
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from farm.domain import Arm, Artifact, File, Job, JobState, Selector, plan_form, plan_hash
from farm.errors import InputError, NotFound
from farm.store.db import Store, insert_new
from farm.store.tables import (
    ArmRow,
    ArtifactFileRow,
    ArtifactRow,
    JobRow,
    ModelRow,
    PlanRow,
    ProjectRow,
)

_SHOWN_CANDIDATES = 5


def save_artifact(store: Store, artifact: Artifact) -> None:
    """Remember an Artifact; its bytes are the blobs of its files. The same again changes nothing."""
    with store.write() as session:
        _save_artifact(session, artifact)


def find_artifact(store: Store, sha256: str) -> Artifact:
    """The Artifact of that sha256, or of the only one that begins so. Raises NotFound, or InputError for several."""
    with store.read() as session:
        found = only_one(session, select(ArtifactRow.sha256), ArtifactRow.sha256, sha256, "Artifact")
        return _artifact(session, found)


def save_job(store: Store, job: Job) -> None:
    """Remember a Job with its Model, Artifacts and Plans. The same again changes nothing, its state included."""
    with store.write() as session:
        values = {
            "id": job.id,
            "model_id": _model_id(session, job.project, job.model),
            "selector": wire.as_dict(job.selector),
            "submitted_at": job.submitted_at,
            "commit": job.commit,
            "branch": job.branch,
            "submitted_by": job.submitted_by,
            "state": job.state,
        }
        insert_new(session, JobRow, values)
        for arm in job.arms:
            _save_artifact(session, arm.artifact)
            insert_new(session, PlanRow, {"hash": plan_hash(arm.plan), "form": plan_form(arm.plan)})
            values = {
                "job_id": job.id,
                "letter": arm.letter,
                "artifact": arm.artifact.sha256,
                "plan_hash": plan_hash(arm.plan),
                "plan": wire.as_dict(arm.plan),
            }
            insert_new(session, ArmRow, values)


def get_job(store: Store, job_id: str) -> Job:
    """The Job of that id. Raises NotFound."""
    with store.read() as session:
        row = session.get(JobRow, job_id)
        if row is None:
            raise _no_job(job_id)
        project, model = session.execute(
            select(ProjectRow.name, ModelRow.name)
            .join(ModelRow, ModelRow.project_id == ProjectRow.id)
            .where(ModelRow.id == row.model_id)
        ).one()
        arms = session.scalars(select(ArmRow).where(ArmRow.job_id == job_id).order_by(ArmRow.letter))
        return Job(
            id=row.id,
            project=project,
            model=model,
            arms=tuple(
                Arm(arm.letter, _artifact(session, arm.artifact), wire.plan_from(arm.plan)) for arm in arms.all()
            ),
            selector=Selector(**{**row.selector, "tags": tuple(row.selector["tags"])}),
            submitted_at=row.submitted_at,
            commit=row.commit,
            branch=row.branch,
            submitted_by=row.submitted_by,
            state=JobState(row.state),
        )


def set_job_state(store: Store, job_id: str, state: JobState) -> None:
    """Say where a Job is on its way. Raises NotFound."""
    with store.write() as session:
        changed = session.scalars(update(JobRow).where(JobRow.id == job_id).values(state=state).returning(JobRow.id))
        if changed.one_or_none() is None:
            raise _no_job(job_id)


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


def _save_artifact(session: Session, artifact: Artifact) -> None:
    for name in (artifact.name, artifact.entry, *(file.path for file in artifact.files)):
        if not _is_text(name):
            raise InputError(
                f"Artifact {artifact.sha256[:12]} has the file name {name!r}, which is not UTF-8. Rename that file."
            )
    values = {
        "sha256": artifact.sha256,
        "name": artifact.name,
        "entry": artifact.entry,
        "is_folder": artifact.is_folder,
    }
    insert_new(session, ArtifactRow, values)
    rows = [
        {
            "artifact": artifact.sha256,
            "position": position,
            "path": file.path,
            "sha256": file.sha256,
            "size_bytes": file.size_bytes,
        }
        for position, file in enumerate(artifact.files)
    ]
    insert_new(session, ArtifactFileRow, *rows)


def _is_text(name: str) -> bool:
    """False for the surrogates that Python makes of a file name's wrong bytes, and for NUL."""
    return "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


def _artifact(session: Session, sha256: str) -> Artifact:
    row = session.get_one(ArtifactRow, sha256)
    files = session.scalars(
        select(ArtifactFileRow).where(ArtifactFileRow.artifact == sha256).order_by(ArtifactFileRow.position)
    )
    return Artifact(
        sha256=row.sha256,
        name=row.name,
        entry=row.entry,
        files=tuple(File(file.path, file.sha256, file.size_bytes) for file in files),
        is_folder=row.is_folder,
    )


def _model_id(session: Session, project: str, model: str) -> int:
    insert_new(session, ProjectRow, {"name": project})
    project_id = session.scalars(select(ProjectRow.id).where(ProjectRow.name == project)).one()
    insert_new(session, ModelRow, {"project_id": project_id, "name": model})
    return session.scalars(select(ModelRow.id).where(ModelRow.project_id == project_id, ModelRow.name == model)).one()


def _no_job(job_id: str) -> NotFound:
    return NotFound(
        f"Job {job_id!r} is not known to this farm. Check its id, or which database FARM_DATABASE_URL names."
    )
