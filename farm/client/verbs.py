"""The farm's verbs over HTTP, for CI and scripts: `with Client(url, token) as farm: farm.submit(…)`.

Synchronous, as a pipeline is: who wants many at once starts threads, which may share one Client. Needs nothing but the
thin install. Every method raises the classes of farm.errors; none has the token in it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from farm.client.follow import GRACE_S, Follower, Looks
from farm.client.link import Answer, Link
from farm.client.patience import Time
from farm.client.upload import Progress, Uploader
from farm.domain import JobState, Outcome
from farm.errors import Conflict, InputError, NotFound
from farm.schemas import (
    ArtifactTold,
    BaselineAsked,
    BaselinesTold,
    BaselineTold,
    BoardAsked,
    BoardsTold,
    BoardTold,
    ChangesTold,
    EventsTold,
    EventTold,
    HealthAsked,
    JobAsked,
    JobsTold,
    JobTold,
    QueuePlace,
    RotateAsked,
    RunsTold,
    StateAsked,
    TokenAsked,
    TokenMade,
    TokensTold,
    TokenTold,
    WorkersTold,
)
from farm.sources import sources

M = TypeVar("M")


def word(job: JobTold) -> str:
    """What a Job that is over came to, in one word: its Verdict, or why there is none. Nothing judged is no PASS."""
    if job.verdict is not None:
        return str(job.verdict)
    if job.state is JobState.CANCELLED or job.outcome is Outcome.CANCELLED:
        return "CANCELLED"
    return {Outcome.OK: "UNDECIDED", Outcome.NOISY: "UNDECIDED", Outcome.FAILED: "FAIL"}.get(
        job.outcome or Outcome.BROKEN, "BROKEN"
    )


class Client:
    """One farm, with one token.

    A farm that does not answer is asked again for `patience_s` seconds (None: for ever), an upload at least once.
    `told` is called with a sentence when that begins and when it is over.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = 30.0,
        patience_s: float | None = 60.0,
        allow_http: bool = False,
        told: Callable[[str], None] = lambda text: None,
        time: Time | None = None,
    ) -> None:
        self._link = Link(url, token, timeout_s=timeout_s, allow_http=allow_http, told=told, time=time or Time())
        self._uploader = Uploader(self._link, patience_s=patience_s)
        self._patience_s = patience_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    @property
    def url(self) -> str:
        """The farm's URL."""
        return self._link.url

    def close(self) -> None:
        """Close every connection."""
        self._link.close()

    # Artifacts

    def send(self, path: Path, *, entry: str | None = None, progress: Progress | None = None) -> ArtifactTold:
        """The Artifact at `path`, a file or a folder, once the farm has it. Raises InputError."""
        if path.is_dir():
            return self.send_folder(path, entry=entry, progress=progress)
        sources(path, entry=entry)
        return self.send_file(path, progress=progress)

    def send_file(self, path: Path, *, progress: Progress | None = None) -> ArtifactTold:
        """The file as an Artifact. Its bytes are sent only where the farm does not know them of this Project."""
        return self._uploader.file(path, progress)

    def send_folder(self, path: Path, *, entry: str | None = None, progress: Progress | None = None) -> ArtifactTold:
        """The folder as an Artifact; only the files that the farm lacks are sent."""
        return self._uploader.folder(path, entry, progress)

    def artifact(self, sha256: str) -> ArtifactTold | None:
        """The Artifact, where the farm knows that this Project has it."""
        return self._uploader.find(_part(sha256))

    # Jobs

    def submit(self, asked: JobAsked, *, idempotency_key: str | None = None) -> JobTold:
        """The Job that measures what is asked. The same key again gives the same Job. Raises NoBoardFits, KeyReused."""
        key = checked_key(idempotency_key or str(uuid.uuid4()))
        return self._tell("POST", "/jobs", JobTold, json=_asked(asked), headers={"Idempotency-Key": key})

    def job(self, job_id: str) -> JobTold:
        """The Job of that id, or of the only one that begins so."""
        return self._tell("GET", f"/jobs/{_id(job_id, 'job')}", JobTold)

    def jobs(
        self,
        *,
        states: Sequence[JobState] = (),
        model: str | None = None,
        project: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> JobsTold:
        """One page of Jobs, the newest first; its `next` is the cursor of the next page."""
        asked = {"state": list(states), "model": model, "project": project, "limit": limit, "cursor": cursor}
        return self._tell("GET", "/jobs", JobsTold, params=asked)

    def cancel(self, job_id: str) -> JobTold:
        """Ask for a Job's end. Raises Conflict where it has ended otherwise."""
        try:
            return self._tell("POST", f"/jobs/{_id(job_id, 'job')}/cancel", JobTold)
        except Conflict:
            found = self.job(job_id)
            if found.state is JobState.CANCELLED:  # by a try whose answer was lost
                return found
            raise

    def retry(self, job_id: str) -> JobTold:
        """A new Job that asks the same as an ended one."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return self._tell("POST", f"/jobs/{_id(job_id, 'job')}/retry", JobTold, headers=headers)

    def events_so_far(self, job_id: str) -> list[EventTold]:
        """What happened to a Job so far."""
        return self._tell("GET", f"/jobs/{_id(job_id, 'job')}/events", EventsTold).events

    def events(self, job_id: str, *, after: int = 0) -> Iterator[EventTold]:
        """What happens to a Job, each event once, until it is over; the first one's id is larger than `after`.

        Lost connections and restarts of the farm are waited out, however long they take. Where a proxy lets no stream
        through, the farm is asked every two seconds.
        """
        yield from Follower(self._link, _id(job_id, "job")).events(after, lambda: None)

    def wait(
        self,
        job_id: str,
        *,
        watch: Callable[[EventTold], None] | None = None,
        queued: Callable[[QueuePlace], None] | None = None,
        limit_s: float | None = None,
    ) -> JobTold:
        """The Job once it is over, or as it is after `limit_s`. However long the farm is away, it is waited for.

        `watch` is called with each event, `queued` now and then with the Job's place in the queue.
        """
        until = None if limit_s is None else self._link.time.clock() + limit_s
        job = Follower(self._link, _id(job_id, "job"), until=until).job()
        follower = Follower(self._link, job.id, until=until)
        looks = Looks(follower, job, queued)
        for event in follower.events(0, looks.heard):
            looks.watch(event)
            if watch:
                watch(event)
        return follower.job(grace_s=GRACE_S)

    # Runs, Boards, workers, tokens, the audit log

    def run(self, run_id: str) -> dict[str, Any]:
        """What a Run measured: the object of `farm show --json`."""
        return self._tell("GET", f"/runs/{_id(run_id, 'run')}", dict[str, Any])

    def runs(
        self,
        *,
        model: str | None = None,
        board: str | None = None,
        project: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> RunsTold:
        """One page of Runs, the newest first."""
        asked = {"model": model, "board": board, "project": project, "limit": limit, "cursor": cursor}
        return self._tell("GET", "/runs", RunsTold, params=asked)

    def baselines(self, *, model: str | None = None, project: str | None = None) -> list[BaselineTold]:
        """Every Baseline that is set."""
        return self._tell("GET", "/baselines", BaselinesTold, params={"model": model, "project": project}).baselines

    def baseline_history(self, model: str, name: str = "default") -> list[BaselineTold]:
        """All that a Baseline has been, the newest first."""
        return self._tell("GET", f"/baselines/{_part(model)}/{_part(name)}/history", BaselinesTold).baselines

    def set_baseline(self, asked: BaselineAsked) -> BaselineTold:
        """Set a Baseline, or change what it follows. For engineers."""
        return self._tell("POST", "/baselines", BaselineTold, json=_asked(asked), is_repeatable=False)

    def remove_baseline(
        self, model: str, name: str = "default", *, on: str | None = None, plan_hash: str | None = None
    ) -> None:
        """Remove a Baseline; its history stays. For engineers."""
        path = f"/baselines/{_part(model)}/{_part(name)}"
        self._call("DELETE", path, params={"on": on, "plan_hash": plan_hash}, is_repeatable=False)

    def boards(self) -> list[BoardTold]:
        """Every Board, as the farm sees it now."""
        return self._tell("GET", "/boards", BoardsTold).boards

    def board(self, name: str) -> BoardTold:
        """The Board of that name."""
        return self._tell("GET", f"/boards/{_part(name)}", BoardTold)

    def save_board(self, name: str, asked: BoardAsked) -> BoardTold:
        """Register a Board, or change it. For admins."""
        return self._tell("PUT", f"/boards/{_part(name)}", BoardTold, json=_asked(asked))

    def set_board_state(self, name: str, asked: StateAsked) -> BoardTold:
        """Say what the lab wants of a Board. For admins."""
        return self._tell("POST", f"/boards/{_part(name)}/state", BoardTold, json=_asked(asked))

    def set_board_health(self, name: str, asked: HealthAsked) -> BoardTold:
        """Say what is known of a Board's health. For admins."""
        return self._tell("POST", f"/boards/{_part(name)}/health", BoardTold, json=_asked(asked))

    def workers(self) -> WorkersTold:
        """Every worker. For engineers."""
        return self._tell("GET", "/workers", WorkersTold)

    def drain_worker(self, worker_id: str) -> None:
        """Have a worker finish what it has and take nothing new. For admins."""
        self._call("POST", f"/workers/{_part(worker_id)}/drain")

    def whoami(self) -> TokenTold:
        """Our own token."""
        return self._tell("GET", "/tokens/self", TokenTold)

    def tokens(self) -> list[TokenTold]:
        """Every token; of an engineer's own Project for an engineer."""
        return self._tell("GET", "/tokens", TokensTold).tokens

    def make_token(self, asked: TokenAsked) -> TokenMade:
        """A new token with its secret, which is told just this once. For admins."""
        return self._tell("POST", "/tokens", TokenMade, json=_asked(asked), is_repeatable=False)

    def rotate_token(self, token_id: str, asked: RotateAsked) -> TokenMade:
        """The token with a new secret; the old one stays good for a while."""
        path = f"/tokens/{_part(token_id)}/rotate"
        return self._tell("POST", path, TokenMade, json=_asked(asked), is_repeatable=False)

    def revoke_token(self, token_id: str) -> None:
        """End a token."""
        self._call("DELETE", f"/tokens/{_part(token_id)}")

    def changes(
        self, *, project: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> ChangesTold:
        """One page of the audit log, the newest first."""
        return self._tell("GET", "/changes", ChangesTold, params={"project": project, "limit": limit, "cursor": cursor})

    def _tell(self, method: str, path: str, model: type[M], **more: Any) -> M:
        return self._link.read(self._call(method, path, **more), model)

    def _call(self, method: str, path: str, **more: Any) -> Answer:
        patience = self._link.patience(f"{method} {path}", self._patience_s)
        return self._link.call(method, path, patience=patience, **more)


def checked_key(key: str) -> str:
    """An idempotency key as it can be sent. Raises InputError."""
    if not re.fullmatch(r"[!-~]{1,200}", key):
        raise InputError(f"The idempotency key {key!r} is not 1 to 200 letters without spaces. Give another one.")
    return key


def _id(text: str, noun: str) -> str:
    """The id of a Job or a Run, or its start. Raises NotFound for what can be none."""
    if not re.fullmatch(r"[0-9A-Fa-f-]{1,36}", text):
        raise NotFound(f"'{text}' is no id of a {noun}: it has digits, a to f and dashes. `farm {noun}s` lists them.")
    return text


def _part(text: str) -> str:
    """An id or a name as one part of a path. Raises NotFound for what can be none."""
    if text in ("", ".", ".."):
        raise NotFound(f"There is nothing of the name '{text}'. Give an id or a name as the farm lists it.")
    return quote(text, safe="")


def _asked(asked: BaseModel) -> Any:
    """What is asked as JSON, without what a farm takes for granted: an older one need not know it."""
    return asked.model_dump(mode="json", exclude_defaults=True)
