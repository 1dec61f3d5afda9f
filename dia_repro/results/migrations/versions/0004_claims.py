"""Who trains a run, and a sign that it lives."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add what there was no place for."""
    op.create_table(
        "claims",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("beats", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_claims_run_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["attempt"], ["provenance.id"], name="fk_claims_attempt", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name="pk_claims"),
    )
