"""Leases: the right to train a run, which one process at a time owns and renews.

A lease is fenced: a process that was taken for dead and comes back finds that its lease is no
longer valid, and writes nothing. Nothing here reads a clock to judge a lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dia_repro.errors import DiaReproError
from dia_repro.results.database import Database
from dia_repro.results.schema import DONE, EpochRow, LeaseRow, ProvenanceRow, RunRow, State, now
from dia_repro.results.sources import data_hashes


@dataclass(frozen=True)
class Lease:
    """The right to change a run, which a process shows with each change.

    Attributes:
        attempt: number of the attempt.
        token: random. The numbers alone would fit a new database at the same path, or an older
            copy that replaced this one.
    """

    run_id: int
    attempt: int
    token: str


@dataclass(frozen=True)
class Owner:
    """Owner of a run's lease, as other processes see it.

    Attributes:
        process: description of the process that trains.
        lock_id: identity of its lock, see `leasing.lock_id`.
        beats: number of heartbeats so far.
    """

    lease: Lease
    process: str
    lock_id: str
    beats: int


class AlreadyDoneError(DiaReproError):
    """The run has a result: another process was faster."""


class HeldError(DiaReproError):
    """Another process has the run, and may be alive."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(f"run {owner.lease.run_id} is being trained by {owner.process}")
        self.owner = owner

    def __reduce__(self) -> tuple[type[HeldError], tuple[Owner]]:
        """Return what unpickling calls, in the process that the error is sent to."""
        return HeldError, (self.owner,)


class ChangedError(DiaReproError):
    """The run is not what it was when its checkpoint was read: a merge has changed it."""


class OtherDataError(DiaReproError):
    """Runs of the same spec were trained on other data."""


class TakenOverError(DiaReproError):
    """This process was taken for dead, and another has its run now."""


def take(
    database: Database,
    run_id: int,
    process: str,
    lock_id: str,
    provenance: Mapping[str, Any],
    dead: Owner | None = None,
    seen: tuple[str, int] | None = None,
) -> Lease:
    """Return a new lease of a run, for the process that is going to train it.

    Args:
        process: description of that process.
        lock_id: identity of the lock that it holds; an earlier owner of the same lock is dead.
        provenance: the columns of `ProvenanceRow` that are known at the start.
        dead: an owner that has given no heartbeat for too long.
        seen: uid and number of epochs that the run had when its checkpoint was read.

    Raises:
        AlreadyDoneError: the run has a result.
        HeldError: another process has it, which is not known to be dead.
        ChangedError: the run is not what was seen.
        OtherDataError: the data are not those of the spec's other runs.
    """
    with database.writing() as session:
        run = session.get_one(RunRow, run_id)
        if run.state in DONE:
            raise AlreadyDoneError(f"run {run_id} is {run.state} already")
        if seen is not None and seen != (run.uid, count_epochs(session, run_id)):
            raise ChangedError(f"run {run_id} was changed by a merge")
        _check_data(session, run, provenance["data_sha256"])
        for owner in owners_in(session, run_id):
            if owner != dead and owner.lock_id != lock_id:
                raise HeldError(owner)
            session.delete(session.get_one(LeaseRow, run_id))
        run.state, run.owner, run.reason, run.changed_at = State.RUNNING, process, None, now()
        attempt = ProvenanceRow(run_id=run_id, started_at=now(), **provenance)
        session.add(attempt)
        session.flush()
        lease = LeaseRow(run_id=run_id, attempt=attempt.id, lock_id=lock_id)
        session.add(lease)
        session.flush()
        return Lease(run_id, attempt.id, lease.token)


def count_epochs(session: Session, run_id: int) -> int:
    """Return how many epochs a run has."""
    return session.scalar(select(func.count()).where(EpochRow.run_id == run_id)) or 0


def _check_data(session: Session, run: RunRow, digest: str) -> None:
    """Refuse data that would be mixed into a cell with other data."""
    known = data_hashes(session, run.spec_id, but_lease_of=run.id).get(run.spec_id, set())
    if known and digest not in known:
        raise OtherDataError(
            f"the data here are not those that runs of this experiment were trained on (SHA-256 "
            f"{digest[:12]}… instead of {min(known)[:12]}…): train on these in another database"
        )


def renew(database: Database, lease: Lease) -> None:
    """Renew a lease: write a heartbeat.

    Raises:
        TakenOverError: the run is another process's.
    """
    with database.writing() as session:
        check_lease(session, lease)
        session.get_one(LeaseRow, lease.run_id).beats += 1


def owners(database: Database, run_id: int | None = None) -> tuple[Owner, ...]:
    """Return the owners of the leases of all runs or of one run, by run number."""
    with database.reading() as session:
        return owners_in(session, run_id)


def look(database: Database, run_id: int | None = None) -> tuple[Owner, ...]:
    """Return what `owners` does, at a moment at which a heartbeat could be written.

    Raises:
        LockedError: other processes keep this transaction out, and heartbeats with it.
    """
    with database.writing() as session:
        found = owners_in(session, run_id)
        # Readers of SQLite keep out only a commit that changes pages: equal values change none.
        for change in (1, -1):
            session.execute(update(LeaseRow).values(beats=LeaseRow.beats + change))
    return found


def owners_in(session: Session, run_id: int | None) -> tuple[Owner, ...]:
    """Return what `owners` does, within a transaction."""
    chosen = select(LeaseRow).order_by(LeaseRow.run_id)
    if run_id is not None:
        chosen = chosen.where(LeaseRow.run_id == run_id)
    return tuple(
        Owner(lease_of(row), row.run.owner or "another process", row.lock_id, row.beats)
        for row in session.scalars(chosen)
    )


def check_lease(session: Session, lease: Lease) -> None:
    """Raise `TakenOverError` unless the lease is the run's."""
    held = session.get(LeaseRow, lease.run_id)
    if held is None or lease_of(held) != lease:
        raise TakenOverError(f"run {lease.run_id} was taken over by another process")


def lease_of(row: LeaseRow) -> Lease:
    """Return the lease that its owner shows."""
    return Lease(row.run_id, row.attempt, row.token)
