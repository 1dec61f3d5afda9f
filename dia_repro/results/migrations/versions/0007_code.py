"""Attempts know the Python files that they ran, changed checkouts and installed packages too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Attempts so far do not say."""
    for name in ("code_sha256", "pillow"):
        op.add_column("provenance", sa.Column(name, sa.String(), nullable=True))
