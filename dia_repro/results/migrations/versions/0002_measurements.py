"""Measurements of speed, and in which way a run's steps were made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what there was no place for."""
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
    op.add_column("provenance", sa.Column("step", sa.String()))
    op.add_column("provenance", sa.Column("deterministic", sa.Boolean()))
