"""Artifacts: bytes that never change, and which Project may see them under which name.

The same bytes may belong to many Projects; none learns of another's, nor of the name that they have there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from farm.domain import Artifact, File
from farm.errors import Conflict, InputError, NotFound
from farm.store.db import Store, insert_new
from farm.store.tables import ArtifactFileRow, ArtifactRow, ProjectArtifactRow, ProjectRow

_AT_ONCE = 500  # names in one statement


def save_own(store: Store, project: str, artifact: Artifact, now: datetime) -> tuple[Artifact, bool]:
    """Remember an Artifact as the Project's, which has given its bytes: as it is known there, and whether it is new.

    The name of the first time stays. Raises Conflict where a folder was given before with another entry.
    """
    with store.write() as session:
        insert_new(session, ProjectRow, {"name": project})
        # Its row's lock: of two who send the same at once, one is the first.
        project_id = session.scalars(select(ProjectRow.id).where(ProjectRow.name == project).with_for_update()).one()
        known = session.get(ProjectArtifactRow, (project_id, artifact.sha256))
        save_within(session, artifact)
        own_within(session, project_id, artifact, now)
        kept = load(session, artifact.sha256, project_id)
        if kept.is_folder and kept.entry != artifact.entry:
            raise Conflict(
                f"Artifact {artifact.sha256} cannot have the entry '{artifact.entry}': the project has it with "
                f"'{kept.entry}'. Leave the entry out, or add to the folder what tells the two apart."
            )
        return kept, known is None


def find_own(store: Store, project: str | None, sha256: str) -> Artifact:
    """The Artifact of that sha256, where the Project may see it; any where it is None. Raises NotFound."""
    with store.read() as session:
        if project is None:
            found = session.get(ArtifactRow, sha256) is not None
            project_id = None
        else:
            query = (
                select(ProjectArtifactRow.project_id)
                .join(ProjectRow, ProjectRow.id == ProjectArtifactRow.project_id)
                .where(ProjectRow.name == project, ProjectArtifactRow.artifact == sha256)
            )
            project_id = session.scalars(query).one_or_none()
            found = project_id is not None
        if not found:
            raise NotFound(f"Artifact {sha256} is not known to the project. Send its bytes first: PUT /artifacts.")
        return load(session, sha256, project_id)


def file_sizes(store: Store, project: str, sha256s: Sequence[str]) -> dict[str, int]:
    """Of these files, those that the Project has given: sha256 -> size in bytes."""
    sizes: dict[str, int] = {}
    with store.read() as session:
        for start in range(0, len(sha256s), _AT_ONCE):
            query = (
                select(ArtifactFileRow.sha256, ArtifactFileRow.size_bytes)
                .join(ArtifactRow, ArtifactRow.sha256 == ArtifactFileRow.artifact)
                .join(ProjectArtifactRow, ProjectArtifactRow.artifact == ArtifactRow.sha256)
                .join(ProjectRow, ProjectRow.id == ProjectArtifactRow.project_id)
                .where(ProjectRow.name == project, ArtifactRow.is_folder.is_(False))
                .where(ArtifactRow.sha256.in_(sha256s[start : start + _AT_ONCE]))
            )
            sizes |= {row.sha256: row.size_bytes for row in session.execute(query)}
    return sizes


def save_within(session: Session, artifact: Artifact) -> None:
    """Remember an Artifact, within a transaction. The same again changes nothing."""
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


def own_within(session: Session, project_id: int, artifact: Artifact, now: datetime) -> None:
    """Let a Project see an Artifact under its name, within a transaction. The same again changes nothing."""
    values = {
        "project_id": project_id,
        "artifact": artifact.sha256,
        "received_at": now,
        "name": artifact.name,
        "entry": artifact.entry,
    }
    insert_new(session, ProjectArtifactRow, values)


def load(session: Session, sha256: str, project_id: int | None = None) -> Artifact:
    """An Artifact that is there, under the name that it has in the Project."""
    return load_all(session, {(sha256, project_id)})[sha256, project_id]


def load_all(session: Session, wanted: Collection[tuple[str, int | None]]) -> dict[tuple[str, int | None], Artifact]:
    """Artifacts that are there, each under the name that it has in its Project: (sha256, Project) -> Artifact."""
    hashes = {sha256 for sha256, _ in wanted}
    rows = {row.sha256: row for row in session.scalars(select(ArtifactRow).where(ArtifactRow.sha256.in_(hashes)))}
    files: dict[str, list[File]] = {}
    listed = select(ArtifactFileRow).where(ArtifactFileRow.artifact.in_(hashes)).order_by(ArtifactFileRow.position)
    for file in session.scalars(listed):
        files.setdefault(file.artifact, []).append(File(file.path, file.sha256, file.size_bytes))
    projects = {project_id for _, project_id in wanted if project_id is not None}
    owned = select(ProjectArtifactRow).where(
        ProjectArtifactRow.artifact.in_(hashes), ProjectArtifactRow.project_id.in_(projects)
    )
    names = {(own.artifact, own.project_id): own for own in session.scalars(owned)} if projects else {}
    found = {}
    for sha256, project_id in wanted:
        row, own = rows[sha256], names.get((sha256, project_id)) if project_id is not None else None
        listed_files = tuple(files.get(sha256, ()))
        if own is None:
            found[sha256, project_id] = Artifact(sha256, row.name, row.entry, listed_files, row.is_folder)
        else:
            only = listed_files[0] if not row.is_folder and listed_files else None
            named = (File(own.entry, only.sha256, only.size_bytes),) if only else listed_files
            found[sha256, project_id] = Artifact(sha256, own.name, own.entry, named, row.is_folder)
    return found


def _is_text(name: str) -> bool:
    """False for the surrogates that Python makes of a file name's wrong bytes, and for NUL."""
    return "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)
