"""The nouns of the house as frozen data: Artifact, Board, Selector, Arm, Job, Lease, Run, Summary, Fingerprint.

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
    """What a Job asks of a Board. Only `name` is matched today; the others are stored and read back."""

    name: str | None = None
    family: str | None = None
    accelerator: str | None = None
    tags: tuple[str, ...] = ()
    virtual: bool = False


@dataclass(frozen=True, slots=True)
class Arm:
    """An Artifact with the Plan it runs under, known within its Job by a letter."""

    letter: str
    artifact: Artifact
    plan: wire.Plan


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
    submitted_by: str | None = None
    state: JobState = JobState.QUEUED


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to touch one Board until it expires; `token` only ever rises for a board."""

    board: str
    token: int
    holder: str
    ttl_s: float
    granted_at: datetime


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an Outcome is not OK: a name from validity.py or the agent, its figures in words, and what to do."""

    code: str
    text: str
    blame: str | None = None  # "artifact", "input", "board" or "farm" where it is somebody's doing


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt of a Job on one Board under one Lease; ends in an Outcome."""

    id: str  # uuid7
    job_id: str
    board: str
    token: int
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    blame: str | None = None  # "board" or "farm" where BROKEN
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


def new_id() -> str:
    """A fresh uuid7 as text: sorts by time."""
    return str(uuid_utils.uuid7())


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
