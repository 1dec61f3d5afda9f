"""The database that is exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from dia_repro.results.database import Database
from tests.export.known import fill


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """Runs in every state, with figures and texts of every kind."""
    return fill(str(tmp_path / "runs.db"))
