"""What goes on in a database at a moment: how many runs are in which state, and those under way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dia_repro.results.database import Database
from dia_repro.results.schema import EpochRow, LeaseRow, RunRow, SpecRow, State


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
