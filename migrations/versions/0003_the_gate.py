"""The gate: Baselines, the Evidence of pairs, and what a Job is to be judged by."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """The gate: Baselines, the Evidence of pairs, and what a Job is to be judged by."""
    op.create_table(
        "baseline",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("plan_hash", sa.String(64), nullable=False),
        sa.Column("artifact", sa.String(64)),
        sa.Column("plan", sa.JSON()),
        sa.Column("job_id", sa.String(36)),
        sa.Column("board", sa.Text()),
        sa.Column("commit", sa.Text()),
        sa.Column("follows", sa.Text()),
        sa.Column("is_pinned", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("set_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_baseline")),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name=op.f("fk_baseline_model_id")),
        sa.ForeignKeyConstraint(["plan_hash"], ["plan.hash"], name=op.f("fk_baseline_plan_hash")),
        sa.ForeignKeyConstraint(["artifact"], ["artifact.sha256"], name=op.f("fk_baseline_artifact")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_baseline_job_id")),
        sa.ForeignKeyConstraint(["board"], ["board.name"], name=op.f("fk_baseline_board")),
        sa.CheckConstraint("(artifact IS NULL) = (plan IS NULL)", name=op.f("ck_baseline_whole")),
    )
    op.create_index("ix_baseline_current", "baseline", ["model_id", "name", "selector", "plan_hash", "id"])
    op.create_table(
        "evidence",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("board", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("queries", sa.Integer()),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.String(16)),
        sa.Column("decided_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
        sa.ForeignKeyConstraint(["board"], ["board.name"], name=op.f("fk_evidence_board")),
        sa.CheckConstraint("verdict IN ('PASS', 'FAIL', 'UNDECIDED')", name=op.f("ck_evidence_verdict")),
        sa.CheckConstraint(
            "outcome IN ('OK', 'NOISY', 'FAILED', 'BROKEN', 'CANCELLED')", name=op.f("ck_evidence_outcome")
        ),
        sa.CheckConstraint("(outcome IS NULL) = (decided_at IS NULL)", name=op.f("ck_evidence_decided")),
    )
    op.create_index(op.f("ix_evidence_key_board_id"), "evidence", ["key", "board", "id"])
    op.create_table(
        "pair",
        sa.Column("evidence_id", sa.String(36), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("measured_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("evidence_id", "index", name=op.f("pk_pair")),
        sa.ForeignKeyConstraint(["evidence_id"], ["evidence.id"], name=op.f("fk_pair_evidence_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_pair_run_id")),
    )
    with op.batch_alter_table("job") as batch:
        batch.add_column(sa.Column("gate", sa.JSON()))
        batch.add_column(sa.Column("evidence_id", sa.String(36)))
        batch.create_foreign_key(op.f("fk_job_evidence_id"), "evidence", ["evidence_id"], ["id"])
