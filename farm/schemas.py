"""What travels over the REST API as JSON: the same types on both sides, `farm.api` and `farm.client`.

Times are ISO 8601 in UTC, durations seconds, sizes bytes. Answers may gain fields; requests with unknown ones are
refused. Nothing here needs more than the thin install.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from farm.domain import BoardState, Health, JobState, Outcome, Role, Verdict

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Line = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]
Note = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")]
Seconds = Annotated[float, Field(gt=0, le=30 * 86_400, allow_inf_nan=False)]


DEPTH_LIMIT = 8  # of a Plan's options, which are at most three deep
MOST = 2**53  # what every reader of JSON holds exactly


def _plain(value: Any, depth: int = 0) -> Any:
    """JSON as a Plan may hold it: not deep, text on one line, numbers that every database keeps."""
    if depth > DEPTH_LIMIT:
        raise ValueError(f"nested deeper than {DEPTH_LIMIT}")
    if isinstance(value, dict):
        for key, inner in value.items():
            _plain(key, depth)
            _plain(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _plain(inner, depth + 1)
    elif isinstance(value, str):
        if not value.isprintable() or len(value) > 1000:
            raise ValueError("text must be printable, and of at most 1000 characters")
    elif isinstance(value, int | float) and not abs(value) <= MOST:  # NaN is not
        raise ValueError(f"numbers must be finite, and at most {MOST}")
    return value


Plain = Annotated[dict[str, Any], AfterValidator(_plain)]


class Asked(BaseModel):
    """What a client asks for: every field is known, or it is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Told(BaseModel):
    """What the farm answers: newer farms may say more."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Problem(Told):
    """An error as problem+json (RFC 9457); `detail` has the four parts of every message."""

    type: str = "about:blank"
    title: str  # the class of the error, such as NotFound
    status: int
    detail: str
    exit_code: int  # what `farm` ends with
    missing: list[str] = []  # sha256 of what has to be sent first, where that is the matter


class FileEntry(Asked):
    """One file of a folder; its bytes were sent as an Artifact of their own."""

    path: Annotated[Line, Field(min_length=1)]
    sha256: Sha256


class FolderAsked(Asked):
    """A folder as a manifest of files that were sent before."""

    name: Name
    entry: Line | None = None
    files: Annotated[list[FileEntry], Field(min_length=1, max_length=10_000)]


class FileTold(Told):
    """One file of an Artifact."""

    path: str
    sha256: str
    size_bytes: int


class ArtifactTold(Told):
    """An Artifact that the farm has."""

    sha256: str
    name: str
    entry: str
    is_folder: bool
    size_bytes: int
    files: list[FileTold]


class LimitsAsked(Asked):
    """How long each part of a Job may take; what is left out has the farm's default."""

    queue_s: Seconds | None = None
    start_s: Seconds | None = None
    upload_s: Seconds | None = None
    run_s: Seconds | None = None


class JobAsked(Asked):
    """Measure this Artifact by this Plan on a Board that fits the Selector."""

    artifact: Sha256
    on: Line = ""  # a Selector as `farm submit --on` takes it
    plan: Plain = {}  # the fields of docs/plans.md
    model: Name | None = None  # the name to compare later Artifacts under; by default the Artifact's
    feed: Sha256 | None = None  # an .npz file that was sent as an Artifact
    priority: Literal["low", "normal", "high"] = "normal"
    limits: LimitsAsked = LimitsAsked()
    commit: Annotated[Line, Field(max_length=200)] | None = None
    branch: Annotated[Line, Field(max_length=500)] | None = None
    repository: Annotated[Line, Field(max_length=300)] | None = None  # owner/name of the code
    gate: Annotated[str, Field(max_length=100_000, pattern=r"^[^\x00]*$")] | None = None  # a gate file's text
    against: Annotated[list[Line], Field(max_length=8)] = []  # references, instead of the gate's
    fresh: bool = False  # measure anew what the same gate has decided before


class FindingTold(Told):
    """One rule of a gate against one reference, or its limit, as the evidence stands."""

    metric: str
    reference: str | None  # None: a limit
    status: Literal["pass", "fail", "open", "lost"]
    n: int  # pairs
    bound: float  # the allowed change as a share, or the limit
    effect: float | None  # the change as a share; or the figure that is held against the limit
    low: float | None
    high: float | None
    fail_ratio: float  # of the evidence that a FAIL needs: 1 decides
    pass_ratio: float
    text: str


class ArmTold(Told):
    """One side of a job with a gate."""

    letter: str
    reference: str | None  # None: the candidate
    artifact: str
    artifact_name: str
    plan: dict[str, Any]


class GateTold(Told):
    """What a job is judged by, and what is known so far."""

    alpha: float
    beta: float
    pairs_limit: int
    budget_s: float
    on_undecided: str
    arms: list[ArmTold]
    absent: dict[str, str]  # references that there are not yet, and why
    board: str | None = None
    pairs: int = 0  # of the last attempt
    kept: int = 0
    dropped: int = 0
    board_s: float = 0.0  # board-seconds spent on the evidence
    saved_s: float = 0.0  # of the budget, where it was decided
    queries: int | None = None  # of each block
    findings: list[FindingTold] = []


class ReasonTold(Told):
    """Why an Outcome is not OK."""

    code: str
    text: str
    blame: str | None = None


class RunTold(Told):
    """One attempt of a Job."""

    id: str
    board: str
    started_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    outcome: Outcome | None
    blame: str | None
    reasons: list[ReasonTold]


class QueuePlace(Told):
    """Where a queued Job stands."""

    position: int  # 1: next
    expected_wait_s: float | None  # None: no board that fits is in the pool now
    waits_for: str  # what it waits for, in words


class JobTold(Told):
    """A Job, and what came of it."""

    id: str
    project: str
    model: str
    artifact: str
    artifact_name: str
    plan: dict[str, Any]
    on: str
    priority: str
    state: JobState
    submitted_at: datetime
    submitted_by: str | None
    commit: str | None
    branch: str | None
    repository: str | None = None
    queue: QueuePlace | None  # while it is queued; only where one Job is asked for
    cancel_at: datetime | None
    ended_at: datetime | None
    outcome: Outcome | None
    verdict: Verdict | None
    reasons: list[ReasonTold]
    runs: list[RunTold]  # oldest first; only where one Job is asked for
    retry_of: str | None
    gate: GateTold | None = None  # only where one Job is asked for
    virtual: bool  # its figures are not a real board's


class JobsTold(Told):
    """One page of Jobs, the newest first."""

    jobs: list[JobTold]
    next: str | None  # the cursor of the next page


class RunsTold(Told):
    """One page of Runs, the newest first; each as `farm runs --json` gives it."""

    runs: list[dict[str, Any]]
    next: str | None


class EventTold(Told):
    """Something that happened to a Job. As a server-sent event: id, event = kind, data = this as JSON."""

    id: int
    job: str
    run: str | None
    at: datetime
    kind: str
    data: dict[str, Any]


class EventsTold(Told):
    """What happened to a Job so far."""

    events: list[EventTold]


BaselineName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]


PlanHash = Annotated[str, Field(pattern=r"^[0-9a-f]{4,64}$")]  # or how it begins


class BaselineAsked(Asked):
    """A baseline to set: what a job measured, or an artifact; without either, the one that is set is changed."""

    model: Name
    name: BaselineName = "default"
    job: Annotated[Line, Field(min_length=1, max_length=64)] | None = None
    artifact: Sha256 | None = None
    on: Line | None = None  # beside an artifact, or to tell several apart
    plan: Plain | None = None  # beside an artifact
    plan_hash: PlanHash | None = None  # to tell several apart
    follows: Annotated[Line, Field(max_length=500)] | None = None  # None: as before; "": no branch any more
    pinned: bool | None = None  # None: as before
    note: Note = ""


class BaselineTold(Told):
    """A baseline: what a model is compared against on a selector and plan."""

    project: str
    model: str
    name: str
    on: str
    plan_hash: str
    plan: dict[str, Any] | None
    artifact: str | None  # None: it was removed
    artifact_name: str | None
    job: str | None
    board: str | None
    commit: str | None
    follows: str | None
    pinned: bool
    note: str
    set_by: str
    set_at: datetime


class BaselinesTold(Told):
    """Baselines, the newest first."""

    baselines: list[BaselineTold]


class BoardAsked(Asked):
    """A Board to register: the fields of inventory.yaml."""

    transport: Literal["ssh"] = "ssh"  # `local` would be the worker's own machine: only inventory.yaml says that
    address: Annotated[Line, Field(min_length=1, max_length=300)]
    site: Name = "default"
    python: Annotated[Line, Field(max_length=500)] = ""
    home: Annotated[Line, Field(max_length=500)] = ""
    tags: Annotated[list[Name], Field(max_length=50)] = []
    start_temp_c: Annotated[float, Field(ge=-40, le=150)] | None = None


class StateAsked(Asked):
    """What the lab wants of a Board."""

    state: BoardState
    note: Note = ""


class HealthAsked(Asked):
    """A person's word on a Board's health: quarantined, or unknown, which is checked next."""

    health: Literal["unknown", "quarantined"]
    note: Note = ""


class BoardTold(Told):
    """A Board as the farm sees it now."""

    name: str
    site: str
    transport: str
    address: str | None  # admins only
    tags: list[str]
    virtual: bool
    state: str  # idle or leased where the lab wants it ready; else draining, maintenance, retired
    health: Health
    failures: int
    note: str
    next_check_at: datetime | None
    leased_since: datetime | None
    holder: str | None  # admins and engineers only
    family: str | None
    model: str | None
    accelerators: list[str]
    memory_bytes: int | None
    runtimes: list[str]


class BoardsTold(Told):
    """Every Board."""

    boards: list[BoardTold]


class WorkerTold(Told):
    """A worker process."""

    id: str
    site: str
    slots: int
    started_at: datetime
    seen_at: datetime | None
    draining: bool


class WorkersTold(Told):
    """Every worker."""

    workers: list[WorkerTold]


class TokenAsked(Asked):
    """A token to make."""

    name: Name
    role: Role
    project: Name | None = None  # None: every Project, for an admin only
    expires_in_s: Annotated[float, Field(gt=0, le=10 * 366 * 86_400, allow_inf_nan=False)] | None = None


class RotateAsked(Asked):
    """How long the old secret stays good beside the new one."""

    grace_s: Annotated[float, Field(ge=0, le=30 * 86_400, allow_inf_nan=False)] = 86_400.0


class TokenTold(Told):
    """A token without its secret."""

    id: str
    name: str
    role: Role
    project: str | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class TokenMade(TokenTold):
    """A token with its secret, which is shown just this once."""

    secret: str


class TokensTold(Told):
    """Tokens, the newest first."""

    tokens: list[TokenTold]


class ChangeTold(Told):
    """One entry of the audit log."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    project: str | None
    data: dict[str, Any]


class ChangesTold(Told):
    """One page of the audit log, the newest first."""

    changes: list[ChangeTold]
    next: str | None


class Ready(Told):
    """Whether the farm can work now, and what is missing where it cannot."""

    ready: bool
    version: str
    problems: list[str]
