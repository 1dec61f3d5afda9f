"""Leases under their name; measurements of speed are no results, and were never released."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Take the leases over: runs may be under way."""
    op.create_table(
        "leases",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lock_id", sa.String(), nullable=False),
        sa.Column("beats", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_leases_run_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["attempt"], ["provenance.id"], name="fk_leases_attempt", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name="pk_leases"),
    )
    op.execute(
        "insert into leases (run_id, attempt, lock_id, beats, token) "
        "select run_id, attempt, place, beats, token from claims"
    )
    op.drop_table("claims")
    op.drop_table("measurements")
