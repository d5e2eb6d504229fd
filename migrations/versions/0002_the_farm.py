"""The farm: the queue, leases that are watched, workers, tokens, the audit log and Notices."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
OUTCOMES = "'OK', 'NOISY', 'FAILED', 'BROKEN', 'CANCELLED'"


def upgrade() -> None:
    """The farm: the queue, leases that are watched, workers, tokens, the audit log and Notices."""
    _projects_and_boards()
    _jobs()
    _leases_and_runs()
    _events()
    _newcomers()


def _projects_and_boards() -> None:
    _add("project", sa.Column("usage_s", sa.Double(), server_default="0", nullable=False), sa.Column("usage_at", TIME))
    _add(
        "board",
        sa.Column("state", sa.String(16), server_default="ready", nullable=False),
        sa.Column("health", sa.String(16), server_default="unknown", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("checks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_check_at", TIME),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        checks={
            "state": "state IN ('ready', 'draining', 'maintenance', 'retired')",
            "health": "health IN ('unknown', 'good', 'suspect', 'quarantined')",
        },
    )


def _jobs() -> None:
    job = sa.table(
        "job",
        *(
            sa.column(name)
            for name in ("id", "model_id", "submitted_at", "state", "project_id", "demand", "priority", "queued_at")
        ),
        *(sa.column(name, sa.JSON()) for name in ("runtimes", "limits", "avoid", "reasons")),
        *(sa.column(name) for name in ("waited_s", "expected_s", "give_up_at", "ended_at", "outcome")),
    )
    with op.batch_alter_table("job") as batch:
        for column in (
            sa.Column("repository", sa.Text()),
            sa.Column("project_id", sa.Integer()),
            sa.Column("demand", sa.String(16)),
            sa.Column("runtimes", sa.JSON()),
            sa.Column("priority", sa.Integer()),
            sa.Column("limits", sa.JSON()),
            sa.Column("affinity", sa.Text()),
            sa.Column("queued_at", TIME),
            sa.Column("not_before", TIME),
            sa.Column("avoid", sa.JSON()),
            sa.Column("cancel_at", TIME),
            sa.Column("ended_at", TIME),
            sa.Column("outcome", sa.String(16)),
            sa.Column("verdict", sa.String(16)),
            sa.Column("reasons", sa.JSON()),
            sa.Column("waited_s", sa.Double()),
            sa.Column("expected_s", sa.Double()),
            sa.Column("give_up_at", TIME),
            sa.Column("retry_of", sa.String(36)),
            sa.Column("idempotency_key", sa.Text()),
            sa.Column("request_hash", sa.String(64)),
        ):
            batch.add_column(column)
    model = sa.table("model", sa.column("id"), sa.column("project_id"))
    run = sa.table("run", sa.column("id"), sa.column("job_id"), sa.column("outcome"), sa.column("ended_at"))
    other = run.alias()
    newest = sa.select(sa.func.max(other.c.id)).where(other.c.job_id == job.c.id).correlate(job).scalar_subquery()
    outcome = sa.select(run.c.outcome).where(run.c.id == newest).scalar_subquery()
    is_half_way = job.c.state.in_(("queued", "running"))
    # Until now a Job lived and ended with the `farm bench` that made it: one that is half-way will not go on. It is
    # done where only that word was missing.
    op.execute(
        sa.update(job).values(
            project_id=sa.select(model.c.project_id).where(model.c.id == job.c.model_id).scalar_subquery(),
            demand="",
            runtimes=[],
            priority=0,
            limits={},
            queued_at=job.c.submitted_at,
            avoid=[],
            reasons=[],
            waited_s=0.0,
            expected_s=0.0,
            give_up_at=job.c.submitted_at,
            state=sa.case(
                (is_half_way & (sa.func.coalesce(outcome, "CANCELLED") == "CANCELLED"), "cancelled"),
                (is_half_way, "done"),
                else_=job.c.state,
            ),
            outcome=sa.case(
                (job.c.state.in_(("queued", "running", "cancelled")), sa.func.coalesce(outcome, "CANCELLED")),
                else_=outcome,
            ),
            ended_at=sa.func.coalesce(
                sa.select(run.c.ended_at).where(run.c.id == newest).scalar_subquery(), job.c.submitted_at
            ),
        )
    )
    given = (
        *("project_id", "demand", "runtimes", "priority", "limits", "queued_at", "avoid", "reasons"),
        *("waited_s", "expected_s", "give_up_at"),
    )
    checks = {
        "outcome": f"outcome IN ({OUTCOMES})",
        "verdict": "verdict IN ('PASS', 'FAIL', 'UNDECIDED')",
        "ended": "(ended_at IS NOT NULL) = (state IN ('done', 'cancelled', 'refused'))",
    }
    with op.batch_alter_table("job") as batch:
        for name, words in checks.items():
            batch.create_check_constraint(op.f(f"ck_job_{name}"), sa.text(words))
        for name in given:
            batch.alter_column(name, nullable=False)
        batch.create_foreign_key(op.f("fk_job_project_id"), "project", ["project_id"], ["id"])
        batch.create_unique_constraint(op.f("uq_job_project_id_idempotency_key"), ["project_id", "idempotency_key"])
    op.create_index(op.f("ix_job_project_id_id"), "job", ["project_id", "id"])
    _partial("ix_job_queue", "job", ["demand", "project_id", "priority", "submitted_at"], "state = 'queued'")
    _partial("ix_job_running", "job", ["id"], "state = 'running'")


def _leases_and_runs() -> None:
    _add(
        "lease",
        sa.Column("renewals", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("host", sa.Text()),
        sa.Column("is_check", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    _partial("uq_lease_one_of_a_host", "lease", ["host"], "released_at IS NULL AND host IS NOT NULL", unique=True)
    _add("run", sa.Column("begun_at", TIME), sa.Column("worker", sa.Text()))
    op.execute("UPDATE run SET begun_at = started_at")
    _partial("ix_run_unfinished", "run", ["id"], "outcome IS NULL")


def _events() -> None:
    op.drop_table("event")  # nothing ever wrote into it
    op.create_table(
        "event",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("run_id", sa.String(36)),
        sa.Column("at", TIME, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_event_job_id")),
    )
    op.create_index(op.f("ix_event_job_id_id"), "event", ["job_id", "id"])


def _newcomers() -> None:
    op.create_table(
        "project_artifact",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("artifact", sa.String(64), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "artifact", name=op.f("pk_project_artifact")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_project_artifact_project_id")),
        sa.ForeignKeyConstraint(["artifact"], ["artifact.sha256"], name=op.f("fk_project_artifact_artifact")),
    )
    op.execute(
        "INSERT INTO project_artifact (project_id, artifact, received_at, name, entry) SELECT job.project_id,"
        " arm.artifact, min(job.submitted_at), artifact.name, artifact.entry FROM arm JOIN job ON job.id = arm.job_id"
        " JOIN artifact ON artifact.sha256 = arm.artifact"
        " GROUP BY job.project_id, arm.artifact, artifact.name, artifact.entry"
    )
    op.create_table(
        "worker",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker")),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("project_id", sa.Integer()),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.Column("last_used_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_token_project_id")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_token_secret_sha256")),
        sa.CheckConstraint("role IN ('ci', 'engineer', 'admin')", name=op.f("ck_token_role")),
        sa.CheckConstraint("project_id IS NOT NULL OR role = 'admin'", name=op.f("ck_token_project")),
    )
    op.create_table(
        "change",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("project", sa.Text()),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change")),
    )
    op.create_index(op.f("ix_change_project"), "change", ["project"])
    op.create_table(
        "notice",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("project", sa.Text()),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", TIME),
        sa.Column("delivered_at", TIME),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("id", "channel", name=op.f("pk_notice")),
    )
    _partial("ix_notice_due", "notice", ["due_at"], "due_at IS NOT NULL")


def _add(table: str, *columns: sa.Column[Any], checks: dict[str, str] | None = None) -> None:
    """New columns at the end of a table, with what the database shall forbid of them."""
    with op.batch_alter_table(table) as batch:
        for column in columns:
            batch.add_column(column)
        for name, words in (checks or {}).items():
            batch.create_check_constraint(op.f(f"ck_{table}_{name}"), sa.text(words))


def _partial(name: str, table: str, columns: Sequence[str], where: str, *, unique: bool = False) -> None:
    words = sa.text(where)
    op.create_index(name, table, list(columns), unique=unique, sqlite_where=words, postgresql_where=words)
