"""The course of many runs at once: their epochs and attempts, and what goes on at a moment."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dia_repro.results.database import Database
from dia_repro.results.schema import EpochRow, LeaseRow, ProvenanceRow, RunRow, SpecRow, State

TOP1 = "test_top1"
MEASURES = (TOP1, "test_loss", "train_loss")


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
    attempts: tuple[ProvenanceRow, ...]

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
    def last(self) -> ProvenanceRow | None:
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
    attempts = (
        select(ProvenanceRow).where(ProvenanceRow.run_id.in_(run_ids)).order_by(ProvenanceRow.id)
    )
    tried: dict[int, list[ProvenanceRow]] = {}
    with database.reading() as session:
        # By the connection: a session makes an object of every row, and there can be millions.
        rows = session.connection().execute(epochs)
        figures = {run: _by_measure(list(of_run)) for run, of_run in groupby(rows, _first)}
        for attempt in session.scalars(attempts):
            tried.setdefault(attempt.run_id, []).append(attempt)
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


@dataclass(frozen=True)
class UnderWay:
    """A run that says it is being trained.

    Attributes:
        beats: counts up while its process lives; None where nobody holds it.
        top1: test accuracy by epoch, %.
        seconds: by epoch.
    """

    id: int
    spec_json: str
    seed: int
    owner: str | None
    beats: int | None
    top1: tuple[float, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Activity:
    """A database at one moment."""

    counts: Mapping[State, int]
    under_way: tuple[UnderWay, ...]

    @property
    def over(self) -> bool:
        """Whether nothing is running or waiting to."""
        return not (self.counts[State.RUNNING] or self.counts[State.PENDING])


def activity(database: Database) -> Activity:
    """What goes on, as one short reading sees it."""
    counted = select(RunRow.state, func.count()).group_by(RunRow.state)
    with database.reading() as session:
        known = {State(row[0]): row[1] for row in session.execute(counted)}
        counts = {state: known.get(state, 0) for state in State}
        return Activity(counts, _under_way(session))


def _under_way(session: Session) -> tuple[UnderWay, ...]:
    running = (
        select(RunRow, SpecRow.json, LeaseRow.beats)
        .join(SpecRow, SpecRow.spec_id == RunRow.spec_id)
        .outerjoin(LeaseRow, LeaseRow.run_id == RunRow.id)
        .where(RunRow.state == State.RUNNING)
        .order_by(RunRow.id)
    )
    rows = [(row[0], row[1], row[2]) for row in session.execute(running)]
    epochs = (
        select(EpochRow.run_id, EpochRow.test_top1, EpochRow.seconds)
        .where(EpochRow.run_id.in_([run.id for run, _, _ in rows]))
        .order_by(EpochRow.run_id, EpochRow.epoch)
    )
    figures: dict[int, list[tuple[float, float]]] = {}
    for run_id, top1, seconds in session.execute(epochs):
        figures.setdefault(run_id, []).append((top1, seconds))
    return tuple(
        UnderWay(
            id=run.id,
            spec_json=json,
            seed=run.seed,
            owner=run.owner,
            beats=beats,
            top1=tuple(top1 for top1, _ in figures.get(run.id, ())),
            seconds=tuple(seconds for _, seconds in figures.get(run.id, ())),
        )
        for run, json, beats in rows
    )
