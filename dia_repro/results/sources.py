"""Attempts that a run's results come from, and the data of these attempts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dia_repro.results.schema import OURS, EpochRow, LeaseRow, ProvenanceRow, RunRow, State


def contributing(from_epochs: Sequence[int], epochs: int, *, diverged: bool) -> list[int]:
    """Return the indices of the attempts that a run's rows come from, newest first.

    An attempt's rows were removed or replaced if a later one began before them. A divergence
    comes from the last attempt, even without rows. An attempt that is left out may have
    trained a part of an epoch, on the data of the next one, which has gone on from its checkpoint.

    Args:
        from_epochs: epochs that were done before each attempt, oldest first.
        epochs: number of the run's epochs.
    """
    found, bound = [], epochs + diverged
    for index, begun in reversed(list(enumerate(from_epochs))):
        if begun < bound:
            found.append(index)
            bound = begun
    return found


def data_behind(
    session: Session, spec_id: str | None = None, *, origin: str = OURS
) -> Iterator[tuple[int, str, str]]:
    """Yield run, spec and hash of the data of each attempt that rows of runs come from.

    Args:
        spec_id: the spec of these runs; None for all.
        origin: whose runs; those of others are never mixed with ours.
    """
    count = select(func.count()).where(EpochRow.run_id == RunRow.id).scalar_subquery()
    begun, digest = ProvenanceRow.from_epoch, ProvenanceRow.data_sha256
    attempts = (
        select(RunRow.id, RunRow.spec_id, RunRow.state, count, begun, digest)
        .join(ProvenanceRow, ProvenanceRow.run_id == RunRow.id)
        .where(RunRow.origin == origin)
        .order_by(RunRow.id, ProvenanceRow.id)
    )
    if spec_id is not None:
        attempts = attempts.where(RunRow.spec_id == spec_id)
    for (run, spec, state, epochs), rows in groupby(session.execute(attempts), lambda row: row[:4]):
        known = [(row[4], row[5]) for row in rows]
        from_epochs = [from_epoch for from_epoch, _ in known]
        for index in contributing(from_epochs, epochs, diverged=state == State.DIVERGED):
            yield run, spec, known[index][1]


def numbers_of_test_images(session: Session, *, origin: str = OURS) -> dict[str, set[int]]:
    """Return the numbers of test images that attempts record, by the hash of their data."""
    recorded = (
        select(ProvenanceRow.data_sha256, ProvenanceRow.test_images)
        .join(RunRow, RunRow.id == ProvenanceRow.run_id)
        .where(RunRow.origin == origin)
        .distinct()
    )
    found: dict[str, set[int]] = {}
    for data_sha256, images in session.execute(recorded):
        if images is not None:
            found.setdefault(data_sha256, set()).add(images)
    return found


def data_hashes(
    session: Session,
    spec_id: str | None = None,
    *,
    but_lease_of: int | None = None,
    origin: str = OURS,
) -> dict[str, set[str]]:
    """Return the hashes of the data that results come from, by spec.

    Those of runs under way count before their first epoch.

    Args:
        but_lease_of: a run that is about to be taken up again.
        origin: whose runs.
    """
    leased = (
        select(RunRow.spec_id, ProvenanceRow.data_sha256)
        .join(LeaseRow, LeaseRow.run_id == RunRow.id)
        .join(ProvenanceRow, ProvenanceRow.id == LeaseRow.attempt)
        .where(RunRow.id != (but_lease_of or 0), RunRow.origin == origin)
    )
    if spec_id is not None:
        leased = leased.where(RunRow.spec_id == spec_id)
    found: dict[str, set[str]] = {}
    for spec, digest in session.execute(leased):
        found.setdefault(spec, set()).add(digest)
    for _, spec, digest in data_behind(session, spec_id, origin=origin):
        found.setdefault(spec, set()).add(digest)
    return found
