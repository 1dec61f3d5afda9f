"""How runs went, epoch by epoch with their losses, and all that they ran on; for many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from dia_repro.results.database import Database
from dia_repro.results.schema import EpochRow, ProvenanceRow

MEASURES = ("test_top1", "test_loss", "train_loss")


@dataclass(frozen=True)
class Course:
    """A run's figures by epoch.

    Attributes:
        epochs: in their order, counted from 1.
        measures: for each of `MEASURES` a figure an epoch; nan or inf where a loss blew up.
    """

    epochs: tuple[int, ...]
    measures: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Attempt:
    """What one attempt at a run ran on.

    Attributes:
        started_at: UTC.
        git_clean: None where the code is in no git checkout.
    """

    started_at: datetime
    host: str
    device: str
    python: str
    torch: str
    cuda: str | None
    package: str
    git_commit: str | None
    git_clean: bool | None


def courses(database: Database, run_ids: Sequence[int]) -> dict[int, Course]:
    """The course of each of these runs that has one, by number."""
    columns = (EpochRow.run_id, EpochRow.epoch, *(getattr(EpochRow, name) for name in MEASURES))
    chosen = (
        select(*columns)
        .where(EpochRow.run_id.in_(run_ids))
        .order_by(EpochRow.run_id, EpochRow.epoch)
    )
    rows: dict[int, list[tuple[float, ...]]] = {}
    with database.reading() as session:
        for run, *figures in map(tuple, session.execute(chosen)):
            rows.setdefault(run, []).append(tuple(figures))
    return {run: _course(figures) for run, figures in rows.items()}


def _course(rows: Sequence[tuple[float, ...]]) -> Course:
    epochs, *measures = zip(*rows, strict=True)
    return Course(tuple(map(int, epochs)), dict(zip(MEASURES, measures, strict=True)))


def attempts(database: Database, run_ids: Sequence[int]) -> dict[int, tuple[Attempt, ...]]:
    """All attempts at each of these runs, in their order; empty before the first."""
    names = tuple(Attempt.__dataclass_fields__)
    chosen = (
        select(ProvenanceRow.run_id, *(getattr(ProvenanceRow, name) for name in names))
        .where(ProvenanceRow.run_id.in_(run_ids))
        .order_by(ProvenanceRow.id)
    )
    found: dict[int, list[Attempt]] = {run: [] for run in run_ids}
    with database.reading() as session:
        for run, *known in map(tuple, session.execute(chosen)):
            found[run].append(Attempt(*known))
    return {run: tuple(tried) for run, tried in found.items()}
