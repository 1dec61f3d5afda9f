"""Metrics of images held out for validation; versions and changes that restore an environment.

Where images are held out, most epochs have no test metrics.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns, empty: no images were held out before."""
    with op.batch_alter_table("epochs") as epochs:
        for metric in ("loss", "top1"):
            epochs.alter_column(f"test_{metric}", existing_type=sa.Double(), nullable=True)
            epochs.add_column(sa.Column(f"validation_{metric}", sa.Double(), nullable=True))
    for name in ("capability", "packages", "git_diff"):
        op.add_column("provenance", sa.Column(name, sa.String(), nullable=True))
