"""Whose results runs are: those of others may have the same spec and seed as ours."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column, empty: all runs were ours before."""
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("origin", sa.String(), nullable=False, server_default=""))
        runs.drop_constraint("uq_runs_spec_id", type_="unique")
        runs.create_unique_constraint("uq_runs_spec_id", ["spec_id", "seed", "origin"])
