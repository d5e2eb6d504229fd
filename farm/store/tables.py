"""The tables: every noun of the house that is remembered, on SQLite and PostgreSQL alike.

The database forbids the impossible: states and outcomes outside the words, two unreleased leases of one board, two
Blocks in one place, a figure without a value or a reason. `migrations/` must lead to exactly this: a test compares DDL.
New columns come last in their table, where a migration puts them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

REVISION = "0003"
"""The newest file of migrations/versions: what this farm's tables are."""

JOB_STATES = "'queued', 'running', 'done', 'cancelled', 'refused'"
BOARD_STATES = "'ready', 'draining', 'maintenance', 'retired'"
HEALTHS = "'unknown', 'good', 'suspect', 'quarantined'"
ROLES = "'ci', 'engineer', 'admin'"
VERDICTS = "'PASS', 'FAIL', 'UNDECIDED'"
OUTCOMES = "'OK', 'NOISY', 'FAILED', 'BROKEN', 'CANCELLED'"


class UtcDateTime(TypeDecorator[datetime]):
    """A timezone-aware UTC datetime both ways; SQLite has no time zones and keeps the UTC wall clock."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"datetime {value.isoformat()} has no time zone; give an aware one")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """What every table shares: names of constraints that are the same on every database, and types."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        str: Text,
        float: Double,
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


class FarmRow(Table):
    """Which farm this database is: one random id, by which the boards' guards tell our tokens from another farm's."""

    __tablename__ = "farm"
    __table_args__ = (CheckConstraint("one = 1", name="one"),)
    one: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String(36))


class ProjectRow(Table):
    """Who owns Artifacts, Jobs and tokens; `usage_s`: board-seconds that it used, which halve each day."""

    __tablename__ = "project"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    usage_s: Mapped[float] = mapped_column(server_default="0")
    usage_at: Mapped[datetime | None]


class ModelRow(Table):
    """The name under which successive Artifacts are compared."""

    __tablename__ = "model"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str]


class ArtifactRow(Table):
    """Bytes that never change, known by their sha256."""

    __tablename__ = "artifact"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str]
    entry: Mapped[str]
    is_folder: Mapped[bool]


class ArtifactFileRow(Table):
    """One file of an Artifact; its bytes are the blob of that sha256."""

    __tablename__ = "artifact_file"
    artifact: Mapped[str] = mapped_column(ForeignKey("artifact.sha256"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    path: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)


class ProjectArtifactRow(Table):
    """Which Project may see an Artifact: the same bytes may belong to many, and none learns of another's."""

    __tablename__ = "project_artifact"
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), primary_key=True)
    artifact: Mapped[str] = mapped_column(ForeignKey("artifact.sha256"), primary_key=True)
    received_at: Mapped[datetime]
    name: Mapped[str]  # as this Project named it, and
    entry: Mapped[str]  # the file within it that a runtime loads: another Project's must not matter


class BoardRow(Table):
    """One physical board; `last_token` is the highest lease token it ever had."""

    __tablename__ = "board"
    __table_args__ = (
        CheckConstraint(f"state IN ({BOARD_STATES})", name="state"),
        CheckConstraint(f"health IN ({HEALTHS})", name="health"),
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str]
    transport: Mapped[str]
    address: Mapped[str]
    is_virtual: Mapped[bool]
    entry: Mapped[dict[str, Any]]  # the rest of its inventory entry
    facts: Mapped[dict[str, Any]]
    saved_at: Mapped[datetime]
    last_token: Mapped[int] = mapped_column(BigInteger, server_default="0")
    state: Mapped[str] = mapped_column(String(16), server_default="ready")
    health: Mapped[str] = mapped_column(String(16), server_default="unknown")
    failures: Mapped[int] = mapped_column(server_default="0")  # BROKEN Runs in a row that were blamed on it
    checks: Mapped[int] = mapped_column(server_default="0")  # health checks in a row that failed
    next_check_at: Mapped[datetime | None]  # when its health is looked at, where that is not good
    note: Mapped[str] = mapped_column(server_default="")


class PlanRow(Table):
    """What to do on a Board: its canonical form, known by that form's hash."""

    __tablename__ = "plan"
    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    form: Mapped[dict[str, Any]]


class JobRow(Table):
    """Measure these Arms on a Board that fits this Selector."""

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint(f"state IN ({JOB_STATES})", name="state"),
        CheckConstraint(f"outcome IN ({OUTCOMES})", name="outcome"),
        CheckConstraint(f"verdict IN ({VERDICTS})", name="verdict"),
        CheckConstraint("(ended_at IS NOT NULL) = (state IN ('done', 'cancelled', 'refused'))", name="ended"),
        UniqueConstraint("project_id", "idempotency_key"),
        Index(None, "model_id"),
        Index(None, "project_id", "id"),
        Index(
            "ix_job_queue",
            "demand",
            "project_id",
            "priority",
            "submitted_at",
            sqlite_where=text("state = 'queued'"),
            postgresql_where=text("state = 'queued'"),
        ),
        Index(
            "ix_job_running",
            "id",
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
    )
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    selector: Mapped[dict[str, Any]]
    submitted_at: Mapped[datetime]
    commit: Mapped[str | None]
    branch: Mapped[str | None]
    submitted_by: Mapped[str | None]
    state: Mapped[str] = mapped_column(String(16))
    repository: Mapped[str | None]
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    demand: Mapped[str] = mapped_column(String(16))  # hash of all that decides which Boards can serve it
    runtimes: Mapped[list[Any]]
    priority: Mapped[int]
    limits: Mapped[dict[str, Any]]
    affinity: Mapped[str | None]
    queued_at: Mapped[datetime]
    not_before: Mapped[datetime | None]
    avoid: Mapped[list[Any]]
    cancel_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(16))
    verdict: Mapped[str | None] = mapped_column(String(16))
    reasons: Mapped[list[Any]]
    waited_s: Mapped[float]  # in the queue, before the last grant
    expected_s: Mapped[float]  # on a Board, as its Plans say
    give_up_at: Mapped[datetime]  # when it has been in the queue for too long
    retry_of: Mapped[str | None] = mapped_column(String(36))
    idempotency_key: Mapped[str | None]
    request_hash: Mapped[str | None] = mapped_column(String(64))
    gate: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # domain.JobGate
    evidence_id: Mapped[str | None] = mapped_column(ForeignKey("evidence.id"))  # that its Verdict rests on


class ArmRow(Table):
    """An Artifact with the full Plan it runs under: defaults, seeds and limits too."""

    __tablename__ = "arm"
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    letter: Mapped[str] = mapped_column(String(8), primary_key=True)
    artifact: Mapped[str] = mapped_column(ForeignKey("artifact.sha256"))
    plan_hash: Mapped[str] = mapped_column(ForeignKey("plan.hash"))
    plan: Mapped[dict[str, Any]]


class BaselineRow(Table):
    """What a Model is compared against on a Selector and Plan, from `set_at` to the next row; all are its history."""

    __tablename__ = "baseline"
    __table_args__ = (
        CheckConstraint("(artifact IS NULL) = (plan IS NULL)", name="whole"),
        Index("ix_baseline_current", "model_id", "name", "selector", "plan_hash", "id"),
    )
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    name: Mapped[str]
    selector: Mapped[str]  # as selector.text writes it
    plan_hash: Mapped[str] = mapped_column(ForeignKey("plan.hash"))
    artifact: Mapped[str | None] = mapped_column(ForeignKey("artifact.sha256"))  # NULL: it was removed
    plan: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"))  # that measured it
    board: Mapped[str | None] = mapped_column(ForeignKey("board.name"))  # on which
    commit: Mapped[str | None]
    follows: Mapped[str | None]  # the branch whose passing Jobs become it
    is_pinned: Mapped[bool]  # it follows nothing until it is unpinned
    note: Mapped[str]
    set_by: Mapped[str]
    set_at: Mapped[datetime]


class EvidenceRow(Table):
    """What the pairs of two Arms under one Gate say on one Board, so far: `farm.pairs.Evidence` as JSON."""

    __tablename__ = "evidence"
    __table_args__ = (
        CheckConstraint(f"verdict IN ({VERDICTS})", name="verdict"),
        CheckConstraint(f"outcome IN ({OUTCOMES})", name="outcome"),
        CheckConstraint("(outcome IS NULL) = (decided_at IS NULL)", name="decided"),
        Index(None, "key", "board", "id"),
    )
    id: Mapped[str] = mapped_column(String(36), primary_key=True)  # uuid7
    key: Mapped[str] = mapped_column(String(64))  # hash of Project, Arms and Gate
    board: Mapped[str] = mapped_column(ForeignKey("board.name"))
    fingerprint: Mapped[str | None] = mapped_column(String(64))  # of the Board, while its pairs were measured
    queries: Mapped[int | None]  # timed, of each Block
    state: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    verdict: Mapped[str | None] = mapped_column(String(16))
    reasons: Mapped[list[Any]]
    outcome: Mapped[str | None] = mapped_column(String(16))
    decided_at: Mapped[datetime | None]  # set without a Verdict where an attempt was NOISY or BROKEN


class PairRow(Table):
    """One pair of Blocks, as the Gate saw it: `farm.pairs.Pair` as JSON. Replaying all leads to the state above."""

    __tablename__ = "pair"
    evidence_id: Mapped[str] = mapped_column(ForeignKey("evidence.id"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    run_id: Mapped[str] = mapped_column(ForeignKey("run.id"))
    data: Mapped[dict[str, Any]]
    measured_at: Mapped[datetime]


class LeaseRow(Table):
    """The right to touch one Board. Over once `released_at` is set, by its holder or because it expired."""

    __tablename__ = "lease"
    __table_args__ = (
        CheckConstraint("token > 0 AND ttl_s > 0", name="positive"),
        Index(
            "uq_lease_one_unreleased",
            "board",
            unique=True,
            sqlite_where=text("released_at IS NULL"),
            postgresql_where=text("released_at IS NULL"),
        ),
        Index(
            "uq_lease_one_of_a_host",
            "host",
            unique=True,
            sqlite_where=text("released_at IS NULL AND host IS NOT NULL"),
            postgresql_where=text("released_at IS NULL AND host IS NOT NULL"),
        ),
    )
    board: Mapped[str] = mapped_column(ForeignKey("board.name"), primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    holder: Mapped[str]
    ttl_s: Mapped[float]
    granted_at: Mapped[datetime]
    renewed_at: Mapped[datetime]
    released_at: Mapped[datetime | None]
    renewals: Mapped[int] = mapped_column(BigInteger, server_default="0")  # rises while the holder lives
    host: Mapped[str | None]  # of Boards that share one machine, which measures one at a time
    is_check: Mapped[bool] = mapped_column(server_default=text("false"))  # of the Board's health, not for a Run


class RunRow(Table):
    """One attempt of a Job on one Board under one Lease; half-written while it has no outcome."""

    __tablename__ = "run"
    __table_args__ = (
        ForeignKeyConstraint(["board", "token"], ["lease.board", "lease.token"]),
        CheckConstraint(f"outcome IN ({OUTCOMES})", name="outcome"),
        CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="ended"),
        CheckConstraint("blame IN ('board', 'farm')", name="blame"),
        CheckConstraint("(blame IS NOT NULL) = (outcome IS NOT NULL AND outcome = 'BROKEN')", name="broken"),
        Index(None, "job_id"),
        Index(None, "board", "token"),
        Index(
            "ix_run_unfinished",
            "id",
            sqlite_where=text("outcome IS NULL"),
            postgresql_where=text("outcome IS NULL"),
        ),
    )
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    board: Mapped[str]
    token: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(16))
    blame: Mapped[str | None] = mapped_column(String(16))
    reasons: Mapped[list[Any]]
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    identity: Mapped[dict[str, Any]]
    context: Mapped[dict[str, Any]]
    begun_at: Mapped[datetime | None]
    worker: Mapped[str | None]


class BlockRow(Table):
    """What one fresh process ended in. `content` is the hash of all that was saved with it, Samples included."""

    __tablename__ = "block"
    __table_args__ = (CheckConstraint(f"outcome IN ({OUTCOMES})", name="outcome"),)
    run_id: Mapped[str] = mapped_column(ForeignKey("run.id"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    arm: Mapped[str] = mapped_column(String(8))
    pair: Mapped[int]
    outcome: Mapped[str] = mapped_column(String(16))
    reasons: Mapped[list[Any]]
    stages: Mapped[dict[str, Any]]
    facts: Mapped[dict[str, Any]]
    content: Mapped[str] = mapped_column(String(64))


class SamplesRow(Table):
    """Where one metric of one Block lies: a slice of a blob, in the stated codec."""

    __tablename__ = "samples"
    __table_args__ = (ForeignKeyConstraint(["run_id", "block"], ["block.run_id", "block.index"]),)
    run_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    block: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    metric: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger)
    t_type: Mapped[str] = mapped_column(String(1))
    v_type: Mapped[str] = mapped_column(String(1))
    codec: Mapped[str] = mapped_column(String(32))
    blob: Mapped[str] = mapped_column(String(64))
    offset_bytes: Mapped[int] = mapped_column(BigInteger)
    size_bytes: Mapped[int] = mapped_column(BigInteger)


class SeriesRow(Table):
    """One Model x Board x Plan x metric over time, cut where the Fingerprint changes."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("model_id", "board", "plan_hash", "fingerprint", "metric"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.id"))
    board: Mapped[str] = mapped_column(ForeignKey("board.name"))
    plan_hash: Mapped[str] = mapped_column(ForeignKey("plan.hash"))
    fingerprint: Mapped[str] = mapped_column(String(64))
    metric: Mapped[str]


class SummaryRow(Table):
    """What statistics says of one metric of one Block, or over a Run's Blocks (`block` NULL, then in a Series)."""

    __tablename__ = "summary"
    __table_args__ = (
        CheckConstraint("value IS NOT NULL OR reason IS NOT NULL", name="absent_has_reason"),
        Index(
            "uq_summary_of_block",
            "run_id",
            "block",
            "metric",
            unique=True,
            sqlite_where=text("block IS NOT NULL"),
            postgresql_where=text("block IS NOT NULL"),
        ),
        Index(
            "uq_summary_of_run",
            "run_id",
            "metric",
            unique=True,
            sqlite_where=text("block IS NULL"),
            postgresql_where=text("block IS NULL"),
        ),
        Index(None, "series_id"),
    )
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("run.id"))
    block: Mapped[int | None]
    metric: Mapped[str]
    value: Mapped[float | None]
    n: Mapped[int] = mapped_column(BigInteger)
    processes: Mapped[int]
    low: Mapped[float | None]
    high: Mapped[float | None]
    reason: Mapped[str | None]
    series_id: Mapped[int | None] = mapped_column(ForeignKey("series.id"))


class EventRow(Table):
    """Something that happened to a Job, in the order it was told: ids rise as they are committed, within one Job."""

    __tablename__ = "event"
    __table_args__ = (Index(None, "job_id", "id"),)
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    run_id: Mapped[str | None] = mapped_column(String(36))
    at: Mapped[datetime]
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]


class WorkerRow(Table):
    """A worker process; `beats` rises while it lives."""

    __tablename__ = "worker"
    id: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str]
    slots: Mapped[int]
    started_at: Mapped[datetime]
    beats: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[datetime]
    draining: Mapped[bool]


class TokenRow(Table):
    """What a client shows to be let in. Its secret is 256 random bits, so that a plain sha256 of it is enough."""

    __tablename__ = "token"
    __table_args__ = (
        CheckConstraint(f"role IN ({ROLES})", name="role"),
        CheckConstraint("project_id IS NOT NULL OR role = 'admin'", name="project"),
        UniqueConstraint("secret_sha256"),
    )
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str]
    role: Mapped[str] = mapped_column(String(16))
    project_id: Mapped[int | None] = mapped_column(ForeignKey("project.id"))
    secret_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class ChangeRow(Table):
    """The audit log: who changed what, and when. Rows are only ever added."""

    __tablename__ = "change"
    __table_args__ = (Index(None, "project"),)
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    project: Mapped[str | None]
    data: Mapped[dict[str, Any]]


class NoticeRow(Table):
    """A Notice on its way to one channel of notifiers.yaml; delivered, given up, or due again."""

    __tablename__ = "notice"
    __table_args__ = (
        Index(
            "ix_notice_due",
            "due_at",
            sqlite_where=text("due_at IS NOT NULL"),
            postgresql_where=text("due_at IS NOT NULL"),
        ),
    )
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    channel: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    project: Mapped[str | None]
    title: Mapped[str]
    text: Mapped[str]
    at: Mapped[datetime]
    data: Mapped[dict[str, Any]]
    attempts: Mapped[int]
    due_at: Mapped[datetime | None]  # NULL: delivered or given up
    delivered_at: Mapped[datetime | None]
    error: Mapped[str | None]
