"""The nouns of the house as frozen data: Artifact, Board, Selector, Arm, Job, Lease, Run, Token, Notice, ...

Plan and Block also travel to the board and live in `farm_agent.wire`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import uuid_utils
from farm_agent import wire

from farm.stats import Summary as Summary

if TYPE_CHECKING:  # the thin client has no numpy
    import numpy as np
    from numpy.typing import NDArray


class Outcome(StrEnum):
    """Whether the bench worked. Whether the model is good is a Verdict; the two are never mixed."""

    OK = "OK"
    NOISY = "NOISY"
    FAILED = "FAILED"
    BROKEN = "BROKEN"
    CANCELLED = "CANCELLED"


class Verdict(StrEnum):
    """Whether the model is good, of a Job that has ended. Whether the bench worked is an Outcome."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"


class BoardState(StrEnum):
    """What the lab wants of a Board. Only a ready one is given out; whether it is leased, its Lease says."""

    READY = "ready"
    DRAINING = "draining"  # finishes what it has, takes nothing new; then it is in maintenance
    MAINTENANCE = "maintenance"
    RETIRED = "retired"


class Health(StrEnum):
    """What the farm knows of a Board's health. Only a good one is given out; an unknown one is checked first."""

    UNKNOWN = "unknown"
    GOOD = "good"
    SUSPECT = "suspect"
    QUARANTINED = "quarantined"


class Role(StrEnum):
    """What a token may do: `ci` submit and read within its Project; `engineer` all of it; `admin` the whole farm."""

    CI = "ci"
    ENGINEER = "engineer"
    ADMIN = "admin"


class JobState(StrEnum):
    """Where a Job is on its way. The last three are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class File:
    """One file of an Artifact: its path within it, its sha256 and size."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """Bytes that never change: a file, or a folder as a manifest of paths and hashes."""

    sha256: str  # of the file, or of the folder's manifest
    name: str  # as the user named the file or folder
    entry: str  # the file within it that a runtime loads
    files: tuple[File, ...]
    is_folder: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files together."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Board:
    """One physical board, as inventory.yaml names it; its facts are what it last answered to `probe`."""

    name: str
    transport: str = "local"  # a file of transports/
    address: str = ""  # user@host:port for ssh
    site: str = "default"
    python: str = ""  # interpreter that runs the agent and the subject; "" = the transport's default
    home: str = ""  # benchfarm's folder on the board; "" = ~/.benchfarm
    tags: tuple[str, ...] = ()
    sensors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    start_temp_c: float | None = None
    is_virtual: bool = False
    root: str = "/"  # of the tree the agent reads; another than / only on a virtual board
    options: Mapping[str, Any] = field(default_factory=dict)  # of the transport: keys, known_hosts, ...
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selector:
    """What a Job asks of a Board; `selector.py` reads, writes and matches it."""

    name: str | None = None
    family: str | None = None
    generation: int | None = None
    accelerator: str | None = None
    memory_bytes: int | None = None  # at least so much
    tags: tuple[str, ...] = ()  # all of them
    virtual: bool = False


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long each part of a Job may take. Time in the queue never counts as time of a Run."""

    queue_s: float = 86_400.0  # from submission until a Board is granted, over all attempts
    start_s: float = 300.0  # from the grant until the agent says hello
    upload_s: float = 1800.0  # pushing what the board lacks
    run_s: float | None = None  # measuring; None: as long as its Plans can take at most


@dataclass(frozen=True, slots=True)
class Arm:
    """An Artifact with the Plan it runs under, known within its Job by a letter."""

    letter: str
    artifact: Artifact
    plan: wire.Plan


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an Outcome is not OK: a name from validity.py or the agent, its figures in words, and what to do."""

    code: str
    text: str
    blame: str | None = None  # "artifact", "input", "board" or "farm" where it is somebody's doing


@dataclass(frozen=True, slots=True)
class JobGate:
    """What a Job is judged by: a Gate, and which Arm stands for each of its References."""

    gate: Mapping[str, Any]  # a rules.Gate as JSON
    letters: Mapping[str, str] = field(default_factory=dict)  # name of a Reference -> letter of its Arm
    absent: Mapping[str, str] = field(default_factory=dict)  # name of a Reference that there is not yet -> why
    is_fresh: bool = False  # measure anew what was measured before


@dataclass(frozen=True, slots=True)
class Job:
    """Measure this Arm by this Plan on a Board that fits this Selector."""

    id: str  # uuid7
    project: str
    model: str  # the name under which successive Artifacts are compared
    arms: tuple[Arm, ...]
    selector: Selector
    submitted_at: datetime
    commit: str | None = None
    branch: str | None = None
    repository: str | None = None  # owner/name of the code that the commit is of
    submitted_by: str | None = None
    priority: int = 0  # the larger, the earlier: see PRIORITIES
    limits: TimeLimits = TimeLimits()
    affinity: str | None = None  # the Board that holds its baseline: preferred where the Selector allows
    retry_of: str | None = None  # the Job that a person tries again by this one
    state: JobState = JobState.QUEUED
    queued_at: datetime | None = None  # when it last joined the queue; None: when it was submitted
    not_before: datetime | None = None  # a cool-down before the next attempt
    avoid: tuple[str, ...] = ()  # Boards on which an attempt was BROKEN
    cancel_at: datetime | None = None  # when a person asked for its end
    ended_at: datetime | None = None
    outcome: Outcome | None = None  # of its last Run, once it has ended
    verdict: Verdict | None = None
    reasons: tuple[Reason, ...] = ()  # why the outcome is not OK; of a Job with a Gate, what its Verdict rests on
    gate: JobGate | None = None  # None: it is measured, and passes where it can be measured
    evidence_id: str | None = None  # of the Evidence that its Verdict rests on


@dataclass(frozen=True, slots=True)
class Baseline:
    """The Artifact, and the Plan it runs under, that a Model is compared against on a Selector and Plan."""

    project: str
    model: str
    name: str
    selector: str  # canonical text
    plan_hash: str  # of the Jobs that are compared with it
    artifact: Artifact | None  # None: it was removed
    plan: wire.Plan | None
    job_id: str | None  # that measured it
    board: str | None  # on which
    commit: str | None
    follows: str | None  # the branch whose passing Jobs become it
    is_pinned: bool  # it follows nothing until it is unpinned
    note: str
    set_by: str
    set_at: datetime


@dataclass(frozen=True, slots=True)
class Demand:
    """What `assign` needs to know of a queued Job."""

    job_id: str
    project: str
    selector: Selector
    runtimes: frozenset[str]
    priority: int
    submitted_at: datetime
    avoid: frozenset[str] = frozenset()  # Boards taken only where no other that fits exists
    affinity: str | None = None  # the Board that is preferred where it fits
    patient_until: datetime | None = None  # until then it waits while that Board is merely busy
    expected_s: float = 60.0  # how long it will use the Board


PRIORITIES = {"low": -10, "normal": 0, "high": 10}
"""What a person calls a Job's priority."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to touch one Board until it expires; `token` only ever rises for a board."""

    board: str
    token: int
    holder: str
    ttl_s: float
    granted_at: datetime
    renewals: int = 0
    is_check: bool = False  # of the Board's health, not for a Run


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """A Board as the farm sees it now."""

    board: Board
    state: BoardState = BoardState.READY
    health: Health = Health.UNKNOWN
    failures: int = 0  # BROKEN Runs in a row that were blamed on it
    note: str = ""  # why its health is not good, or what a person wrote when its state was changed
    next_check_at: datetime | None = None  # when its health is looked at next, where it is not good
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process that can carry out Runs at its site."""

    id: str  # host:pid:random
    site: str
    slots: int  # Runs at once
    started_at: datetime
    beats: int = 0  # rises while it lives
    seen_at: datetime | None = None
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """What a client shows to be let in; only the hash of its secret is stored."""

    id: str
    name: str
    role: Role
    project: str | None  # None: every Project (admins only)
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a Job, in the order it was told."""

    id: int
    job_id: str
    run_id: str | None
    at: datetime
    kind: str  # submitted, granted, stage, progress, note, block, end, requeued, done, cancelled, ...
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the audit log: who changed what, and when."""

    id: int
    at: datetime
    actor: str  # name of the token, or user@host of a command on the coordinator itself
    action: str  # such as token.create
    subject: str
    project: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a human or a CI system is told."""

    id: str  # uuid7
    kind: str  # job.done, board.quarantined, ...
    project: str | None
    title: str
    text: str
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt of a Job on one Board under one Lease; ends in an Outcome."""

    id: str  # uuid7
    job_id: str
    board: str
    token: int
    started_at: datetime  # when it was granted
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    blame: str | None = None  # "board" or "farm" where BROKEN
    begun_at: datetime | None = None  # when a worker took it up; a granted Run that nobody took up blames nobody
    worker: str | None = None
    reasons: tuple[Reason, ...] = ()
    fingerprint: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Samples:
    """One metric of one Block, raw and immutable, on the board's monotonic clock."""

    metric: str
    t_ns: NDArray[np.int64]  # int64[n]; rising, but for queries that are due while an earlier one still runs
    value: NDArray[Any]  # int64[n] or float64[n]; NaN where the sensor gave nothing


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What one Block ended in: one fresh process of one Arm."""

    index: int
    arm: str
    pair: int
    outcome: Outcome
    reasons: tuple[Reason, ...] = ()
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # stage -> metric -> value
    facts: Mapping[str, Any] = field(default_factory=dict)  # what the subject and the agent said of it
    samples: tuple[Samples, ...] = ()


def new_id(after: str = "") -> str:
    """A fresh uuid7 as text: sorts by time, and after another one whatever the clock did since."""
    fresh = str(uuid_utils.uuid7())
    return fresh if fresh > after else str(uuid_utils.UUID(int=uuid_utils.UUID(after).int + 1))


def plan_line(plan: wire.Plan, identity: Mapping[str, Any] | None = None) -> str:
    """A Plan in one line for people."""
    runtime = dict((identity or {}).get("runtime") or {})
    words = [
        plan.scenario + "".join(f" {name}={value}" for name, value in sorted(plan.scenario_options.items())),
        f"{plan.duration_s:g} s",
        f"{plan.processes} processes" if plan.processes > 1 else "1 process",
        f"{plan.cache} cache",
        " ".join(str(word) for word in (plan.runtime, runtime.get("version")) if word),
        *(f"{name}={value}" for name, value in sorted(plan.options.items())),
    ]
    return ", ".join(words)


def plan_form(plan: wire.Plan) -> dict[str, Any]:
    """The Plan's canonical form: without defaults, seeds, limits and budgets."""
    default = wire.as_dict(wire.Plan(runtime=""))
    form = {k: v for k, v in wire.as_dict(plan).items() if v != default[k] and k not in ("feed_seed", "limits")}
    return json.loads(json.dumps(form, sort_keys=True))  # type: ignore[no-any-return]


def digest(data: Any) -> str:
    """sha256, as 64 hex digits, of data's canonical JSON."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plan_hash(plan: wire.Plan) -> str:
    """What a Plan is known by."""
    return digest(plan_form(plan))
