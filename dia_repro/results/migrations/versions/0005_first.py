"""The tables before the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = None

STATES = "'pending', 'running', 'finished', 'diverged', 'failed', 'interrupted'"


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "specs",
        sa.Column("spec_id", sa.String(), nullable=False),
        sa.Column("json", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("spec_id", name="pk_specs"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("spec_id", sa.String(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String()),
        sa.Column("owner", sa.String()),
        sa.Column("parameters", sa.Integer()),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("changed_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.ForeignKeyConstraint(["spec_id"], ["specs.spec_id"], name="fk_runs_spec_id"),
        sa.UniqueConstraint("uid", name="uq_runs_uid"),
        sa.UniqueConstraint("spec_id", "seed", name="uq_runs_spec_id"),
        sa.CheckConstraint("seed >= 0", name="ck_runs_seed"),
        sa.CheckConstraint(f"state in ({STATES})", name="ck_runs_state"),
    )
    figures = ("lr", "train_loss", "train_top1", "test_loss", "test_top1", "seconds")
    op.create_table(
        "epochs",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in figures),
        sa.PrimaryKeyConstraint("run_id", "epoch", name="pk_epochs"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_epochs_run_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "provenance",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime()),
        sa.Column("wall_seconds", sa.Double()),
        sa.Column("peak_memory_bytes", sa.BigInteger()),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("python", sa.String(), nullable=False),
        sa.Column("torch", sa.String(), nullable=False),
        sa.Column("cuda", sa.String()),
        sa.Column("package", sa.String(), nullable=False),
        sa.Column("git_commit", sa.String()),
        sa.Column("git_clean", sa.Boolean()),
        sa.Column("command", sa.String(), nullable=False),
        sa.Column("data_sha256", sa.String(), nullable=False),
        sa.Column("from_epoch", sa.Integer(), nullable=False),
        sa.Column("step", sa.String()),
        sa.Column("deterministic", sa.Boolean()),
        sa.PrimaryKeyConstraint("id", name="pk_provenance"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_provenance_run_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_provenance_run_id", "provenance", ["run_id"])
    op.create_table(
        "measurements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("session", sa.String(), nullable=False),
        sa.Column("taken_at", sa.DateTime(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("least", sa.Double()),
        sa.Column("most", sa.Double()),
        sa.Column("how", sa.String(), nullable=False),
        sa.Column("circumstances", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_measurements"),
    )
    op.create_table(
        "analyses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("settings", sa.String(), nullable=False),
        sa.Column("circumstances", sa.String(), nullable=False),
        sa.Column("begun_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_analyses_run_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_analyses"),
        sa.UniqueConstraint("run_id", "settings", name="uq_analyses_run_id"),
    )
    op.create_table(
        "analysis_parts",
        sa.Column("analysis_id", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["analysis_id"],
            ["analyses.id"],
            name="fk_analysis_parts_analysis_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("analysis_id", "part", name="pk_analysis_parts"),
    )
    op.create_table(
        "claims",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("beats", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_claims_run_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["attempt"], ["provenance.id"], name="fk_claims_attempt", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name="pk_claims"),
    )
