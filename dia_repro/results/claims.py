"""Who trains a run: one process at a time, and it can show that it lives.

A claim is fenced: whoever was declared dead and comes back finds that its claim is another's, and
writes nothing. Nothing here looks at a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dia_repro.errors import DiaReproError
from dia_repro.results.database import Database
from dia_repro.results.schema import DONE, ClaimRow, ProvenanceRow, RunRow, State, now


@dataclass(frozen=True)
class Holder:
    """Who has a run.

    Attributes:
        attempt: number of the attempt.
        owner: the process, in words.
        place: where its lock is.
        beats: counts up while it lives.
    """

    run_id: int
    attempt: int
    owner: str
    place: str
    beats: int


class AlreadyDoneError(DiaReproError):
    """The run has a result: another process was faster."""


class HeldError(DiaReproError):
    """Another process has the run, and may be alive."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(f"run {holder.run_id} is being trained by {holder.owner}")
        self.holder = holder

    def __reduce__(self) -> tuple[type[HeldError], tuple[Holder]]:
        """For its way between processes."""
        return HeldError, (self.holder,)


class TakenOverError(DiaReproError):
    """This process was taken for dead, and another has its run now."""


def take(
    database: Database,
    run_id: int,
    owner: str,
    place: str,
    provenance: Mapping[str, Any],
    dead: Holder | None = None,
) -> int:
    """A process takes up a run.

    Args:
        owner: who trains it, in words.
        place: names the lock that the process holds; whoever held the same before is dead.
        provenance: the columns of `ProvenanceRow` that are known at the start.
        dead: the holder that has shown no sign of life.

    Returns:
        The attempt's number, which all further changes of the run ask for.

    Raises:
        AlreadyDoneError: the run has a result.
        HeldError: somebody else has it, who is not known to be dead.
    """
    with database.writing() as session:
        run = session.get_one(RunRow, run_id)
        if run.state in DONE:
            raise AlreadyDoneError(f"run {run_id} is {run.state} already")
        held = session.get(ClaimRow, run_id)
        if held is not None:
            holder = _holder(held, run)
            if holder != dead and held.place != place:
                raise HeldError(holder)
            session.delete(held)
            session.flush()
        run.state, run.owner, run.reason, run.changed_at = State.RUNNING, owner, None, now()
        attempt = ProvenanceRow(run_id=run_id, started_at=now(), **provenance)
        session.add(attempt)
        session.flush()
        session.add(ClaimRow(run_id=run_id, attempt=attempt.id, place=place, beats=0))
        return attempt.id


def beat(database: Database, run_id: int, attempt: int) -> None:
    """A sign of life.

    Raises:
        TakenOverError: the run is another's.
    """
    with database.writing() as session:
        check_hold(session, run_id, attempt)
        mine = update(ClaimRow).where(ClaimRow.run_id == run_id)
        session.execute(mine.values(beats=ClaimRow.beats + 1))


def holders(database: Database, run_id: int | None = None) -> tuple[Holder, ...]:
    """Who has which run, or that one run, by run number."""
    chosen = select(ClaimRow, RunRow).join(RunRow, RunRow.id == ClaimRow.run_id)
    if run_id is not None:
        chosen = chosen.where(ClaimRow.run_id == run_id)
    with database.reading() as session:
        rows = session.execute(chosen.order_by(ClaimRow.run_id))
        return tuple(_holder(row[0], row[1]) for row in rows)


def check_hold(session: Session, run_id: int, attempt: int) -> None:
    """Raise `TakenOverError` unless the run is that attempt's."""
    held = session.get(ClaimRow, run_id)
    if held is None or held.attempt != attempt:
        raise TakenOverError(f"run {run_id} was taken over by another process")


def let_go(session: Session, run_id: int) -> None:
    """Nobody has the run any more."""
    held = session.get(ClaimRow, run_id)
    if held is not None:
        session.delete(held)


def _holder(claim: ClaimRow, run: RunRow) -> Holder:
    owner = run.owner or "another process"
    return Holder(claim.run_id, claim.attempt, owner, claim.place, claim.beats)
