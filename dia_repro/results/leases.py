"""Leases: the right to train a run, which one process at a time owns and renews.

A lease is fenced: a process that was taken for dead and comes back finds that its lease is no
longer valid, and writes nothing. Nothing here looks at a clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
            copy that was put in this one's place.
    """

    run_id: int
    attempt: int
    token: str


@dataclass(frozen=True)
class Owner:
    """Owner of a run's lease, as other processes see it.

    Attributes:
        process: that trains, in words.
        lock_id: identity of its lock, see `leasing.lock_id`.
        beats: counts up while it lives.
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
        """For its way between processes."""
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
        process: the one that trains, in words.
        lock_id: names the lock that the process holds; an earlier owner of the same is dead.
        provenance: the columns of `ProvenanceRow` that are known at the start.
        dead: the owner that has shown no sign of life.
        seen: uid and number of epochs that the run had when its checkpoint was read.

    Returns:
        What all further changes of the run ask for.

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
        _check_data(session, run_id, run.spec_id, provenance["data_sha256"])
        held = session.get(LeaseRow, run_id)
        if held is not None:
            owner = _owner(held, run)
            if owner != dead and held.lock_id != lock_id:
                raise HeldError(owner)
            session.delete(held)
            session.flush()
        run.state, run.owner, run.reason, run.changed_at = State.RUNNING, process, None, now()
        attempt = ProvenanceRow(run_id=run_id, started_at=now(), **provenance)
        session.add(attempt)
        session.flush()
        lease = Lease(run_id, attempt.id, uuid.uuid4().hex)
        session.add(LeaseRow(**asdict(lease), lock_id=lock_id, beats=0))
        return lease


def count_epochs(session: Session, run_id: int) -> int:
    """Return how many epochs a run has."""
    return session.scalar(select(func.count()).where(EpochRow.run_id == run_id)) or 0


def _check_data(session: Session, run_id: int, spec_id: str, digest: str) -> None:
    """Refuse data that would be mixed into a cell with other data."""
    known = data_hashes(session, spec_id, but_lease_of=run_id).get(spec_id, set())
    if known and digest not in known:
        raise OtherDataError(
            f"the data here are not those that runs of this experiment were trained on (SHA-256 "
            f"{digest[:12]}… instead of {min(known)[:12]}…): train on these in another database"
        )


def renew(database: Database, lease: Lease) -> None:
    """Renew a lease: others see that its owner lives.

    Raises:
        TakenOverError: the run is another's.
    """
    with database.writing() as session:
        check_lease(session, lease)
        mine = update(LeaseRow).where(LeaseRow.run_id == lease.run_id)
        session.execute(mine.values(beats=LeaseRow.beats + 1))


def owners(database: Database, run_id: int | None = None) -> tuple[Owner, ...]:
    """Return the owners of leases, of all runs or of one, by run number."""
    with database.reading() as session:
        return _owners(session, run_id)


def look(database: Database, run_id: int | None = None) -> tuple[Owner, ...]:
    """As `owners`, at a moment at which a heartbeat could be written.

    Raises:
        LockedError: others keep this transaction out, and heartbeats with it.
    """
    with database.writing() as session:
        found = _owners(session, run_id)
        # SQLite's readers keep out a commit of changed pages alone: not of the same values.
        for change in (1, -1):
            session.execute(update(LeaseRow).values(beats=LeaseRow.beats + change))
    return found


def _owners(session: Session, run_id: int | None) -> tuple[Owner, ...]:
    chosen = select(LeaseRow, RunRow).join(RunRow, RunRow.id == LeaseRow.run_id)
    if run_id is not None:
        chosen = chosen.where(LeaseRow.run_id == run_id)
    rows = session.execute(chosen.order_by(LeaseRow.run_id))
    return tuple(_owner(row[0], row[1]) for row in rows)


def owner_of(session: Session, run_id: int) -> Owner | None:
    """Return the owner of a run's lease; None without one."""
    held = session.get(LeaseRow, run_id)
    return _owner(held, session.get_one(RunRow, run_id)) if held is not None else None


def check_lease(session: Session, lease: Lease) -> None:
    """Raise `TakenOverError` unless the run is still that lease's."""
    held = session.get(LeaseRow, lease.run_id)
    if held is None or lease_of(held) != lease:
        raise TakenOverError(f"run {lease.run_id} was taken over by another process")


def release(session: Session, run_id: int) -> None:
    """Remove the lease of a run."""
    held = session.get(LeaseRow, run_id)
    if held is not None:
        session.delete(held)


def _owner(row: LeaseRow, run: RunRow) -> Owner:
    process = run.owner or "another process"
    return Owner(lease_of(row), process, row.lock_id, row.beats)


def lease_of(row: LeaseRow) -> Lease:
    """Return the lease that its owner shows."""
    return Lease(row.run_id, row.attempt, row.token)
