"""A random token for each claim, since numbers come again in another database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Give the claims that are there a token that nobody has: their holders knew none."""
    op.add_column("claims", sa.Column("token", sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("claims") as table:
        table.alter_column("token", existing_type=sa.String(), server_default=None)
