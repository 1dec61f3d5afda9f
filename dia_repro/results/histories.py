"""What happened in runs, epoch by epoch and attempt by attempt, for many runs at once."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from sqlalchemy import select

from dia_repro.results.database import Database
from dia_repro.results.schema import EpochRow, ProvenanceRow

TOP1 = "test_top1"
MEASURES = (TOP1, "test_loss", "train_loss")


@dataclass(frozen=True)
class Attempt:
    """What one attempt at a run ran on.

    Attributes:
        started_at: UTC.
        ended_at: UTC; None while it runs, or if it was killed.
        git_clean: None where the code is in no git checkout.
    """

    started_at: datetime
    ended_at: datetime | None
    host: str
    device: str
    python: str
    torch: str
    cuda: str | None
    package: str
    git_commit: str | None
    git_clean: bool | None


@dataclass(frozen=True)
class History:
    """The course of a run.

    Attributes:
        epochs: in their order, counted from 1.
        measures: for each of `MEASURES` a figure an epoch, accuracy in %; nan or inf where a loss
            blew up.
        attempts: in their order; more than one where it was interrupted or failed.
    """

    epochs: Sequence[int]
    measures: Mapping[str, Sequence[float]]
    attempts: tuple[Attempt, ...]

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the highest accuracy; None before the first."""
        # What is not finite compares as false either way, and would hide what comes after it.
        top1 = zip(self.epochs, self.measures[TOP1], strict=True)
        known = [(epoch, figure) for epoch, figure in top1 if figure <= 100.0]
        return max(known, key=lambda one: one[1])[0] if known else None

    @property
    def last_epoch(self) -> int | None:
        """The last epoch that is recorded; None before the first."""
        return self.epochs[-1] if self.epochs else None

    @property
    def last(self) -> Attempt | None:
        """The last attempt; None before the first."""
        return self.attempts[-1] if self.attempts else None


def histories(database: Database, run_ids: Sequence[int]) -> dict[int, History]:
    """The course of each of these runs, by number; runs that are not there have an empty one."""
    columns = (EpochRow.run_id, EpochRow.epoch, *(getattr(EpochRow, name) for name in MEASURES))
    epochs = (
        select(*columns)
        .where(EpochRow.run_id.in_(run_ids))
        .order_by(EpochRow.run_id, EpochRow.epoch)
    )
    names = tuple(Attempt.__dataclass_fields__)
    attempts = (
        select(ProvenanceRow.run_id, *(getattr(ProvenanceRow, name) for name in names))
        .where(ProvenanceRow.run_id.in_(run_ids))
        .order_by(ProvenanceRow.id)
    )
    tried: dict[int, list[Attempt]] = {}
    with database.reading() as session:
        # By the connection: a session makes an object of every row, and there can be millions.
        rows = session.connection().execute(epochs)
        figures = {run: _by_measure(list(of_run)) for run, of_run in groupby(rows, _first)}
        for run, *known in map(tuple, session.execute(attempts)):
            tried.setdefault(run, []).append(Attempt(*known))
    nothing = _by_measure([])
    return {run: History(*figures.get(run, nothing), tuple(tried.get(run, ()))) for run in run_ids}


def _first(row: Sequence[int]) -> int:
    return row[0]


def _by_measure(
    rows: Sequence[Sequence[float]],
) -> tuple[Sequence[int], Mapping[str, array[float]]]:
    if not rows:
        return (), {name: array("d") for name in MEASURES}
    _, epochs, *measures = zip(*rows, strict=True)
    figures = {name: array("d", one) for name, one in zip(MEASURES, measures, strict=True)}
    return array("q", map(int, epochs)), figures
