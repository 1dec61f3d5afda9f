"""Attempts know how many images the test set has: the smallest step of an accuracy."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
# Data that are the same everywhere. ImageNet's number depends on `--skip-damaged`.
KNOWN = {"digits": 355, "cifar10": 10_000, "cifar100": 10_000}


def upgrade() -> None:
    """Fill in the number for runs on known data."""
    op.add_column("provenance", sa.Column("test_images", sa.Integer(), nullable=True))
    connection = op.get_bind()
    fill = sa.text(
        "update provenance set test_images = :images "
        "where run_id in (select id from runs where spec_id = :spec_id)"
    )
    for spec_id, content in connection.execute(sa.text("select spec_id, json from specs")).all():
        images = KNOWN.get(json.loads(content)["data"]["dataset"])
        if images is not None:
            connection.execute(fill, {"images": images, "spec_id": spec_id})
