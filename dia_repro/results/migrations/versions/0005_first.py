"""The tables before the first release."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = None

STATES = "'pending', 'running', 'finished', 'diverged', 'failed', 'interrupted'"


def _some(kind: type[Any], *names: str) -> list[sa.Column[Any]]:
    """Return columns that always have a value."""
    return [sa.Column(name, kind(), nullable=False) for name in names]


def _perhaps(kind: type[Any], *names: str) -> list[sa.Column[Any]]:
    """Return columns whose value may be missing."""
    return [sa.Column(name, kind()) for name in names]


def _part_of(table: str, column: str, parent: str) -> sa.ForeignKeyConstraint:
    """Return a reference to a row, with which the table's own rows are removed."""
    name = f"fk_{table}_{column}"
    return sa.ForeignKeyConstraint([column], [f"{parent}.id"], name=name, ondelete="CASCADE")


def upgrade() -> None:
    """Create the first tables."""
    _create_runs()
    _create_attempts()
    _create_analyses()


def _create_runs() -> None:
    op.create_table(
        "specs",
        *_some(sa.String, "spec_id", "json"),
        sa.PrimaryKeyConstraint("spec_id", name="pk_specs"),
    )
    op.create_table(
        "runs",
        *_some(sa.Integer, "id"),
        *_some(sa.String, "uid", "spec_id"),
        *_some(sa.Integer, "seed"),
        *_some(sa.String, "state"),
        *_perhaps(sa.String, "reason", "owner"),
        *_perhaps(sa.Integer, "parameters"),
        *_some(sa.DateTime, "created_at", "changed_at"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.ForeignKeyConstraint(["spec_id"], ["specs.spec_id"], name="fk_runs_spec_id"),
        sa.UniqueConstraint("uid", name="uq_runs_uid"),
        sa.UniqueConstraint("spec_id", "seed", name="uq_runs_spec_id"),
        sa.CheckConstraint("seed >= 0", name="ck_runs_seed"),
        sa.CheckConstraint(f"state in ({STATES})", name="ck_runs_state"),
    )
    op.create_table(
        "epochs",
        *_some(sa.Integer, "run_id", "epoch"),
        *_some(sa.Double, "lr", "train_loss", "train_top1", "test_loss", "test_top1", "seconds"),
        sa.PrimaryKeyConstraint("run_id", "epoch", name="pk_epochs"),
        _part_of("epochs", "run_id", "runs"),
    )


def _create_attempts() -> None:
    op.create_table(
        "provenance",
        *_some(sa.Integer, "id", "run_id"),
        *_some(sa.DateTime, "started_at"),
        *_perhaps(sa.DateTime, "ended_at"),
        *_perhaps(sa.Double, "wall_seconds"),
        *_perhaps(sa.BigInteger, "peak_memory_bytes"),
        *_some(sa.String, "host", "device"),
        *_some(sa.Integer, "threads"),
        *_some(sa.String, "python", "torch"),
        *_perhaps(sa.String, "cuda"),
        *_some(sa.String, "package"),
        *_perhaps(sa.String, "git_commit"),
        *_perhaps(sa.Boolean, "git_clean"),
        *_some(sa.String, "command", "data_sha256"),
        *_some(sa.Integer, "from_epoch"),
        *_perhaps(sa.String, "step"),
        *_perhaps(sa.Boolean, "deterministic"),
        sa.PrimaryKeyConstraint("id", name="pk_provenance"),
        _part_of("provenance", "run_id", "runs"),
    )
    op.create_index("ix_provenance_run_id", "provenance", ["run_id"])
    op.create_table(
        "claims",
        *_some(sa.Integer, "run_id", "attempt"),
        *_some(sa.String, "place"),
        *_some(sa.Integer, "beats"),
        *_some(sa.String, "token"),
        _part_of("claims", "run_id", "runs"),
        _part_of("claims", "attempt", "provenance"),
        sa.PrimaryKeyConstraint("run_id", name="pk_claims"),
    )


def _create_analyses() -> None:
    op.create_table(
        "measurements",
        *_some(sa.Integer, "id"),
        *_some(sa.String, "session"),
        *_some(sa.DateTime, "taken_at"),
        *_some(sa.String, "name"),
        *_some(sa.Double, "value"),
        *_some(sa.String, "unit"),
        *_perhaps(sa.Double, "least", "most"),
        *_some(sa.String, "how", "circumstances"),
        sa.PrimaryKeyConstraint("id", name="pk_measurements"),
    )
    op.create_table(
        "analyses",
        *_some(sa.Integer, "id", "run_id"),
        *_some(sa.String, "settings", "circumstances"),
        *_some(sa.DateTime, "begun_at"),
        _part_of("analyses", "run_id", "runs"),
        sa.PrimaryKeyConstraint("id", name="pk_analyses"),
        sa.UniqueConstraint("run_id", "settings", name="uq_analyses_run_id"),
    )
    op.create_table(
        "analysis_parts",
        *_some(sa.Integer, "analysis_id", "part"),
        *_some(sa.String, "content"),
        *_some(sa.Double, "seconds"),
        _part_of("analysis_parts", "analysis_id", "analyses"),
        sa.PrimaryKeyConstraint("analysis_id", "part", name="pk_analysis_parts"),
    )
