"""The course of many runs at once: their epochs and attempts, and what goes on at a moment."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select

from dia_repro.results.database import Database
from dia_repro.results.schema import OURS, EpochRow, LeaseRow, ProvenanceRow, RunRow, SpecRow, State

TOP1 = "test_top1"
MEASURES = (TOP1, "test_loss", "train_loss", "seconds")
EVALUATED = {name: getattr(EpochRow, name) for name in MEASURES} | {
    TOP1: func.coalesce(EpochRow.validation_top1, EpochRow.test_top1),
    "test_loss": func.coalesce(EpochRow.validation_loss, EpochRow.test_loss),
}


@dataclass(frozen=True)
class History:
    """Epochs and attempts of a run.

    Attributes:
        epochs: numbers of the epochs, from 1.
        measures: for each of `MEASURES` a value an epoch, accuracy in %; nan or inf where a
            training diverged. Where images are held out for validation, accuracy and loss of the
            test set are those of these images instead.
        attempts: in their order; more than one where it was interrupted or failed.
    """

    epochs: array[int] = field(default_factory=lambda: array("q"))
    measures: Mapping[str, array[float]] = field(
        default_factory=lambda: {name: array("d") for name in MEASURES}
    )
    attempts: list[ProvenanceRow] = field(default_factory=list)

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the highest accuracy; None before the first."""
        # A comparison with nan is false, and would hide the epochs after it.
        top1 = zip(self.epochs, self.measures[TOP1], strict=True)
        known = [(epoch, accuracy) for epoch, accuracy in top1 if accuracy <= 100.0]
        return max(known, key=lambda pair: pair[1])[0] if known else None

    @property
    def last_epoch(self) -> int | None:
        """The last epoch that is recorded; None before the first."""
        return self.epochs[-1] if self.epochs else None

    @property
    def last(self) -> ProvenanceRow | None:
        """The last attempt; None before the first."""
        return self.attempts[-1] if self.attempts else None


def histories(database: Database, run_ids: Sequence[int]) -> dict[int, History]:
    """Return the course of each run by its number; that of an absent run is empty."""
    found = {run: History() for run in run_ids}
    epochs = (
        select(EpochRow.run_id, EpochRow.epoch, *(EVALUATED[name] for name in MEASURES))
        .where(EpochRow.run_id.in_(run_ids))
        .order_by(EpochRow.run_id, EpochRow.epoch)
    )
    attempts = select(ProvenanceRow).where(ProvenanceRow.run_id.in_(run_ids))
    with database.reading() as session:
        # By the connection: a session makes an object of every row, and there can be millions.
        for run, epoch, *values in session.connection().execute(epochs):
            found[run].epochs.append(epoch)
            for measure, value in zip(found[run].measures.values(), values, strict=True):
                measure.append(value)
        for attempt in session.scalars(attempts.order_by(ProvenanceRow.id)):
            found[attempt.run_id].attempts.append(attempt)
    return found


@dataclass(frozen=True)
class UnderWay:
    """A run in the state `running`.

    Attributes:
        beats: number of heartbeats so far; None without a lease.
        top1: test accuracy by epoch, %; that on images held out for validation, if any.
        seconds: wall time by epoch.
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
    """States of our runs, and the runs under way, at one moment."""

    counts: Mapping[State, int]
    under_way: tuple[UnderWay, ...]

    @property
    def over(self) -> bool:
        """True if no run is running or pending."""
        return not (self.counts[State.RUNNING] or self.counts[State.PENDING])


def activity(database: Database) -> Activity:
    """Return how many of our runs are in which state, and those under way, at one moment."""
    of_state = select(RunRow.state, func.count()).where(RunRow.origin == OURS)
    counted = of_state.group_by(RunRow.state)
    columns = (RunRow.id, SpecRow.json, RunRow.seed, RunRow.owner, LeaseRow.beats)
    running = (
        select(*columns)
        .join(SpecRow, SpecRow.spec_id == RunRow.spec_id)
        .outerjoin(LeaseRow, LeaseRow.run_id == RunRow.id)
        .where(RunRow.state == State.RUNNING)
        .order_by(RunRow.id)
    )
    with database.reading() as session:
        counts = dict.fromkeys(State, 0) | {
            State(row[0]): row[1] for row in session.execute(counted)
        }
        rows = session.execute(running).all()
        known = histories(database, [row.id for row in rows])
    measures = {run: history.measures for run, history in known.items()}
    under_way = (
        UnderWay(*row, tuple(measures[row.id][TOP1]), tuple(measures[row.id]["seconds"]))
        for row in rows
    )
    return Activity(counts, tuple(under_way))
