"""Which attempts a run's results come from, and on which data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dia_repro.results.schema import EpochRow, LeaseRow, ProvenanceRow, RunRow, State


def contributing(from_epochs: Sequence[int], epochs: int, *, diverged: bool) -> list[int]:
    """Return the indices of the attempts that a run's rows come from, newest first.

    An attempt's rows were removed or replaced if a later one began before them. How a run diverged
    comes from its last attempt, whatever rows there are. An attempt that is left out may have
    trained a part of an epoch, on the data of the next one, which has gone on from its checkpoint.

    Args:
        from_epochs: epochs that were done before each attempt, oldest first.
        epochs: that the run has.
    """
    found, bound = [], epochs + diverged
    for index in reversed(range(len(from_epochs))):
        if from_epochs[index] < bound:
            found.append(index)
            bound = from_epochs[index]
    return found


def attempts_behind(session: Session, spec_ids: Iterable[str] | None = None) -> set[int]:
    """Return the numbers of the attempts that the rows of runs come from, of all specs or some."""
    counted = select(EpochRow.run_id, func.count()).group_by(EpochRow.run_id)
    attempts = (
        select(RunRow.id, RunRow.state, ProvenanceRow.id, ProvenanceRow.from_epoch)
        .join(ProvenanceRow, ProvenanceRow.run_id == RunRow.id)
        .order_by(RunRow.id, ProvenanceRow.id)
    )
    if spec_ids is not None:
        runs = select(RunRow.id).where(RunRow.spec_id.in_(set(spec_ids)))
        counted = counted.where(EpochRow.run_id.in_(runs))
        attempts = attempts.where(RunRow.id.in_(runs))
    epochs = {row[0]: row[1] for row in session.execute(counted)}
    found: set[int] = set()
    for (run, state), rows in groupby(session.execute(attempts), lambda row: (row[0], row[1])):
        known = [(row[2], row[3]) for row in rows]
        indices = contributing(
            [begun for _, begun in known], epochs.get(run, 0), diverged=state == State.DIVERGED
        )
        found.update(known[index][0] for index in indices)
    return found


def numbers_of_test_images(session: Session) -> dict[str, set[int]]:
    """Return the numbers of test images that attempts record, by the hash of their data."""
    recorded = select(ProvenanceRow.data_sha256, ProvenanceRow.test_images).distinct()
    found: dict[str, set[int]] = {}
    for data_sha256, images in session.execute(recorded):
        if images is not None:
            found.setdefault(data_sha256, set()).add(images)
    return found


def data_hashes(
    session: Session, spec_id: str | None = None, *, but_lease_of: int | None = None
) -> dict[str, set[str]]:
    """Return the hashes of the data that results come from, by spec.

    Those of runs under way count before their first epoch.

    Args:
        but_lease_of: a run that is about to be taken up anew.
    """
    leases = select(LeaseRow.attempt).where(LeaseRow.run_id != (but_lease_of or 0))
    behind = attempts_behind(session, None if spec_id is None else [spec_id])
    behind |= set(session.scalars(leases))
    rows = select(RunRow.spec_id, ProvenanceRow.id, ProvenanceRow.data_sha256).join(
        ProvenanceRow, ProvenanceRow.run_id == RunRow.id
    )
    if spec_id is not None:
        rows = rows.where(RunRow.spec_id == spec_id)
    found: dict[str, set[str]] = {}
    for spec, attempt, digest in session.execute(rows):
        if attempt in behind:
            found.setdefault(spec, set()).add(digest)
    return found
