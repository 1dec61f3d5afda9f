"""What happened in runs, epoch by epoch and attempt by attempt, for several runs at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from dia_repro.results.database import Database
from dia_repro.results.schema import EpochRow, ProvenanceRow


@dataclass(frozen=True)
class LastAttempt:
    """What a run ran on in the end.

    Attributes:
        ended_at: UTC; None while it runs, or if it was killed.
        git_clean: None where the code is in no git checkout.
    """

    host: str
    device: str
    torch: str
    git_commit: str | None
    git_clean: bool | None
    ended_at: datetime | None


@dataclass(frozen=True)
class History:
    """The course of a run.

    Attributes:
        top1: (epoch, test accuracy in %), in their order; epochs count from 1.
        attempts: how many there were; more than one where it was interrupted or failed.
        last: None before the first.
    """

    top1: tuple[tuple[int, float], ...]
    attempts: int
    last: LastAttempt | None

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the highest accuracy; None before the first."""
        # What is not finite compares as false either way, and would hide what comes after it.
        known = [(epoch, top1) for epoch, top1 in self.top1 if top1 <= 100.0]
        return max(known, key=lambda one: one[1])[0] if known else None

    @property
    def last_epoch(self) -> int | None:
        """The last epoch that is recorded; None before the first."""
        return self.top1[-1][0] if self.top1 else None


def histories(database: Database, run_ids: Sequence[int]) -> dict[int, History]:
    """The course of each of these runs, by number; runs that are not there have an empty one."""
    epochs = (
        select(EpochRow.run_id, EpochRow.epoch, EpochRow.test_top1)
        .where(EpochRow.run_id.in_(run_ids))
        .order_by(EpochRow.run_id, EpochRow.epoch)
    )
    attempts = (
        select(ProvenanceRow).where(ProvenanceRow.run_id.in_(run_ids)).order_by(ProvenanceRow.id)
    )
    top1: dict[int, list[tuple[int, float]]] = {run: [] for run in run_ids}
    tried: dict[int, list[LastAttempt]] = {run: [] for run in run_ids}
    with database.reading() as session:
        for run, epoch, figure in session.execute(epochs):
            top1[run].append((epoch, figure))
        for row in session.scalars(attempts):
            tried[row.run_id].append(_attempt(row))
    return {
        run: History(tuple(top1[run]), len(tried[run]), tried[run][-1] if tried[run] else None)
        for run in run_ids
    }


def _attempt(row: ProvenanceRow) -> LastAttempt:
    return LastAttempt(
        host=row.host,
        device=row.device,
        torch=row.torch,
        git_commit=row.git_commit,
        git_clean=row.git_clean,
        ended_at=row.ended_at,
    )
