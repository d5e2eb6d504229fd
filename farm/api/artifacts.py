"""Artifacts over HTTP: bytes go straight to the blob store, however many; a Project sees only what it has sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Annotated

import anyio
import anyio.from_thread
import anyio.to_thread
from farm_agent import wire
from fastapi import APIRouter, Query, Request, Response

from farm import intake, schemas
from farm.api import asked
from farm.api.auth import Anyone, acts_in, sees
from farm.api.problems import MissingFiles, TooMany, TooSlow
from farm.api.services import Farm
from farm.domain import Artifact, File
from farm.errors import InputError
from farm.store import artifacts

router = APIRouter(tags=["artifacts"])

UPLOADS = 16  # at once: each has a thread
PIECE_BYTES = 1 << 20  # at a time in memory, of each upload
STEP_BYTES = 1 << 16  # that must come within `upload_idle_s`: a client that trickles is stalled too
_BYTES = {
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"format": "binary"}}}},
    "responses": {"200": {"description": "The project has it already"}},
}

FileName = Annotated[str, Query(min_length=1, max_length=200, pattern=r"^[^/\\\x00-\x1f\x7f]+$")]


def places() -> anyio.CapacityLimiter:
    """The threads of one app's uploads: apart from the others', which answer meanwhile."""
    return anyio.CapacityLimiter(UPLOADS)


@router.put("/artifacts/{sha256}", status_code=201, openapi_extra=_BYTES)
async def put_artifact(
    sha256: asked.Hash, name: FileName, token: Anyone, farm: Farm, request: Request, response: Response
) -> schemas.ArtifactTold:
    """Send a file; its body is the file's bytes. 200 where the project has it already."""
    if not wire.is_safe_path(name):
        raise InputError(f"File name {name!r} cannot be used: it is no name within a folder. Send it as another name.")
    limiter: anyio.CapacityLimiter = request.app.state.uploads
    if limiter.borrowed_tokens >= limiter.total_tokens:
        raise TooMany(f"The farm takes {UPLOADS} uploads at once, and has as many now. Try again in a few seconds.")
    pieces = _pieces(request.stream(), farm.settings.upload_idle_s, sha256)

    def received() -> Iterator[bytes]:
        while piece := anyio.from_thread.run(anext, pieces, b""):
            yield piece

    def receive() -> tuple[Artifact, bool]:
        limit_bytes = farm.settings.upload_limit_bytes
        size_bytes = farm.store.blobs.put_stream(received(), expected=sha256, limit_bytes=limit_bytes)
        sent = Artifact(sha256, name, name, (File(name, sha256, size_bytes),))
        return artifacts.save_own(farm.store, acts_in(token, farm), sent, farm.clock())

    async with contextlib.aclosing(pieces):
        artifact, is_new = await anyio.to_thread.run_sync(receive, limiter=limiter)
    response.status_code = 201 if is_new else 200
    return _told(artifact)


@router.post("/artifacts", status_code=201)
def post_folder(folder: schemas.FolderAsked, token: Anyone, farm: Farm) -> schemas.ArtifactTold:
    """A folder as a manifest of files that were sent before; 409 lists those that were not."""
    _check_paths(folder)
    project = acts_in(token, farm)
    sizes = artifacts.file_sizes(farm.store, project, sorted({file.sha256 for file in folder.files}))
    missing = sorted({file.sha256 for file in folder.files} - set(sizes))
    if missing:
        raise MissingFiles(
            f"Folder {folder.name!r} lacks {len(missing)} of its {len(folder.files)} files: the project has not sent "
            "them. Send those that `missing` lists, then this again.",
            missing,
        )
    files = [File(file.path, file.sha256, sizes[file.sha256]) for file in folder.files]
    sent = intake.folder_artifact(folder.name, files, folder.entry)
    artifact, _ = artifacts.save_own(farm.store, project, sent, farm.clock())
    return _told(artifact)


@router.get("/artifacts/{sha256}")
def get_artifact(sha256: asked.Hash, token: Anyone, farm: Farm) -> schemas.ArtifactTold:
    """An Artifact that the project has sent."""
    return _told(artifacts.find_own(farm.store, sees(token), sha256))


@router.head("/artifacts/{sha256}", response_class=Response)
def head_artifact(sha256: asked.Hash, token: Anyone, farm: Farm) -> None:
    """Whether the project has sent an Artifact."""
    artifacts.find_own(farm.store, sees(token), sha256)


async def _pieces(stream: AsyncIterator[bytes], idle_s: float, sha256: str) -> AsyncGenerator[bytes, None]:
    """The body in pieces worth a thread's while. Raises TooSlow where too little comes for too long."""
    piece = bytearray()
    goal = 0
    is_over = False
    while not is_over:
        goal = len(piece) + STEP_BYTES
        try:
            async with asyncio.timeout(idle_s):
                while len(piece) < goal and not is_over:
                    try:
                        piece += await anext(stream)
                    except StopAsyncIteration:
                        is_over = True
        except TimeoutError:
            raise TooSlow(
                f"Upload of {sha256} stalled: less than {STEP_BYTES} bytes came in {idle_s:g} s. Send it again."
            ) from None
        if piece and (is_over or len(piece) >= PIECE_BYTES):
            yield bytes(piece)
            piece.clear()


def _check_paths(folder: schemas.FolderAsked) -> None:
    for file in folder.files:
        if not wire.is_safe_path(file.path):
            raise InputError(
                f"Path {file.path!r} of folder {folder.name!r} leads out of it, or is none. Give paths within it."
            )
    twice = [path for path, n in Counter(file.path for file in folder.files).items() if n > 1]
    if twice:
        raise InputError(f"Path {twice[0]!r} of folder {folder.name!r} is given twice. Give each file once.")
    paths = {file.path for file in folder.files}
    parents = {path[:place] for path in paths for place, letter in enumerate(path) if letter == "/"}
    if both := sorted(paths & parents):
        raise InputError(f"Path {both[0]!r} of folder {folder.name!r} is a file and a folder. Rename one of the two.")


def _told(artifact: Artifact) -> schemas.ArtifactTold:
    return schemas.ArtifactTold(
        sha256=artifact.sha256,
        name=artifact.name,
        entry=artifact.entry,
        is_folder=artifact.is_folder,
        size_bytes=artifact.size_bytes,
        files=[
            schemas.FileTold(path=file.path, sha256=file.sha256, size_bytes=file.size_bytes) for file in artifact.files
        ],
    )
