"""The one writer: every change of the database goes through here, in short transactions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from dia_repro.errors import DiaReproError
from dia_repro.results.database import Database
from dia_repro.results.leases import (
    ChangedError,
    Lease,
    Owner,
    check_lease,
    count_epochs,
    lease_of,
    owners_in,
)
from dia_repro.results.parts import forest_parts, is_whole, same_environment
from dia_repro.results.schema import (
    DONE,
    GRADIENTS_SETTINGS,
    OURS,
    AnalysisPartRow,
    AnalysisRow,
    EpochRow,
    LeaseRow,
    ProvenanceRow,
    RunRow,
    SpecRow,
    State,
    forget_leftovers,
    now,
)


class AnalysisGoneError(DiaReproError):
    """The run that is analysed is no longer in the database."""

    def __init__(self) -> None:
        super().__init__(
            "the run that is analysed was removed, or another database has replaced this one: "
            "results of the analysis are not kept"
        )


def ensure_runs(
    database: Database, specs: Mapping[str, str], seeds: Iterable[int]
) -> dict[tuple[str, int], int]:
    """Make the runs of specs with seeds that are not there yet, as pending.

    Args:
        specs: canonical JSON by spec_id.

    Returns:
        The run's number by (spec_id, seed), for all of them.
    """
    seeds = list(dict.fromkeys(seeds))
    wanted = [(spec_id, seed) for spec_id in specs for seed in seeds]
    chosen = select(RunRow.spec_id, RunRow.seed, RunRow.id).where(
        RunRow.spec_id.in_(list(specs)), RunRow.origin == OURS
    )
    with database.writing() as session:
        known_specs = set(session.scalars(select(SpecRow.spec_id)))
        for spec_id in specs.keys() - known_specs:
            session.add(SpecRow(spec_id=spec_id, json=specs[spec_id]))
        session.flush()
        known = {(spec_id, seed) for spec_id, seed, _ in session.execute(chosen)}
        missing = [key for key in wanted if key not in known]
        if missing:
            rows = [{"spec_id": spec_id, "seed": seed} for spec_id, seed in missing]
            session.execute(insert(RunRow), rows)
        numbers = {(spec_id, seed): run for spec_id, seed, run in session.execute(chosen)}
        forget_leftovers(session.connection(), [numbers[key] for key in missing])
    return {key: numbers[key] for key in wanted}


@contextmanager
def _leased(database: Database, lease: Lease) -> Iterator[Session]:
    """Write what the owner of a lease alone may write."""
    with database.writing() as session:
        check_lease(session, lease)
        yield session


def align(
    database: Database,
    lease: Lease,
    history: Sequence[Mapping[str, Any]],
    gradients: Mapping[int, str],
) -> int:
    """Make the rows of a run those of the checkpoint that it resumes from.

    A kill between checkpoint and commit leaves an epoch to add. Where the newest checkpoint was
    damaged, later epochs will be trained again. Rows of another attempt are replaced.

    Args:
        history: the columns of `EpochRow`, by epoch from 1.
        gradients: parts of the analysis that is recorded during training, by epochs done before.

    Returns:
        The number of epochs that were removed or replaced.

    Raises:
        TakenOverError: the run is another process's; so do all functions that take a lease.
    """
    saved = {metrics["epoch"]: metrics for metrics in history}
    with _leased(database, lease) as session:
        run = session.get_one(RunRow, lease.run_id)
        wrong = [row for row in run.epochs if not _is_saved(row, saved.get(row.epoch))]
        for row in wrong:
            run.epochs.remove(row)
        session.flush()
        right = {row.epoch for row in run.epochs}
        run.epochs += [EpochRow(**saved[epoch]) for epoch in saved if epoch not in right]
        # Others were made of a finished network, which this one is not.
        run.analyses = [row for row in run.analyses if row.settings == GRADIENTS_SETTINGS]
        for analysis in run.analyses:
            analysis.parts = [p for p in analysis.parts if gradients.get(p.part) == p.content]
    return len(wrong)


def _is_saved(row: EpochRow, saved: Mapping[str, Any] | None) -> bool:
    return saved is not None and all(
        _text(value) == _text(getattr(row, name)) for name, value in saved.items()
    )


def _text(value: float | None) -> str:
    """Return a number as text, where nan is equal to itself."""
    return repr(None if value is None else float(value))


def record_epoch(database: Database, lease: Lease, metrics: Mapping[str, Any]) -> None:
    """Add the next epoch; its values are the columns of `EpochRow`.

    Raises:
        ChangedError: it does not follow the epochs that are there.
    """
    with _leased(database, lease) as session:
        there, trained = count_epochs(session, lease.run_id), metrics["epoch"]
        if trained != there + 1:
            raise ChangedError(
                f"epoch {trained} of run {lease.run_id} does not follow its {there} epochs in the "
                "database, which was changed meanwhile"
            )
        session.add(EpochRow(run_id=lease.run_id, **metrics))
        session.execute(update(RunRow).where(RunRow.id == lease.run_id).values(changed_at=now()))


def set_parameters(database: Database, lease: Lease, parameters: int) -> None:
    """Record the network's #P."""
    with _leased(database, lease) as session:
        session.get_one(RunRow, lease.run_id).parameters = parameters


def end(
    database: Database,
    lease: Lease,
    state: State,
    *,
    wall_seconds: float,
    peak_memory_bytes: int,
    reason: str | None = None,
    step: str | None = None,
) -> None:
    """Record how an attempt at a run ended, and release the run.

    Args:
        wall_seconds: duration of the attempt by a monotonic clock.
        step: execution mode of its steps.
    """
    with _leased(database, lease) as session:
        _release(session, session.get_one(RunRow, lease.run_id), state, reason)
        attempt = session.get_one(ProvenanceRow, lease.attempt)
        attempt.ended_at, attempt.step = now(), step
        attempt.wall_seconds, attempt.peak_memory_bytes = wall_seconds, peak_memory_bytes


def _release(session: Session, run: RunRow, state: State, reason: str | None = None) -> None:
    """Remove the lease of a run, if there is one, and say how the run was left."""
    session.execute(delete(LeaseRow).where(LeaseRow.run_id == run.id))
    run.state, run.owner, run.reason, run.changed_at = state, None, reason, now()


def record_loss(
    database: Database, spec_id: str, seed: int, lease: Lease | None, failure: str | None = None
) -> None:
    """Record the failure of a run whose worker is gone; without one, make the run free again.

    Args:
        lease: the worker's, None where it had not taken the run up. A run with a result is left
            alone, and one that another process has or has had since.
        failure: the reason; None for a worker that was told to end at once.
    """
    with database.writing() as session:
        run = _left_by(session, spec_id, seed, lease)
        if run is None or run.state in DONE:
            return
        if failure is not None:
            _release(session, run, State.FAILED, failure)
        elif run.state == State.RUNNING:
            _release(session, run, State.INTERRUPTED)


def _left_by(session: Session, spec_id: str, seed: int, lease: Lease | None) -> RunRow | None:
    """Return the run of a worker that is gone, unless another process has it or had it since."""
    run = session.scalar(select(RunRow).filter_by(spec_id=spec_id, seed=seed, origin=OURS))
    if run is None:
        return None
    held = session.get(LeaseRow, run.id)
    if held is not None:
        return run if lease_of(held) == lease else None
    attempts = select(func.max(ProvenanceRow.id)).where(ProvenanceRow.run_id == run.id)
    others = lease is not None and session.scalar(attempts) != lease.attempt
    return None if others or run.state == State.RUNNING else run


def free(database: Database, run_id: int, seen: Owner | None) -> bool:
    """Make a run without a living owner interrupted; return whether it still was one.

    Args:
        seen: its owner when it was found dead; after a heartbeat since then, or with another
            owner, the run is left alone.
    """
    with database.writing() as session:
        run = session.get_one(RunRow, run_id)
        dead = run.state == State.RUNNING and owners_in(session, run_id) == (
            (seen,) if seen else ()
        )
        if dead:
            _release(session, run, State.INTERRUPTED)
    return dead


def remove_run(database: Database, uid: str, changed_at: datetime, seen: tuple[Owner, ...]) -> bool:
    """Remove a run with its epochs, attempts and analyses, and its spec if no other run has it.

    Args:
        changed_at: when it had changed last, as it was shown.
        seen: the owners of its leases when it was found that none of them trains it.

    Returns:
        Whether it was removed: one that has changed, or has another owner, is left alone.
    """
    with database.writing() as session:
        run = session.scalar(select(RunRow).where(RunRow.uid == uid))
        if run is None or run.changed_at != changed_at or owners_in(session, run.id) != seen:
            return False
        spec_id = run.spec_id
        session.execute(delete(RunRow).where(RunRow.uid == uid))
        if session.scalar(select(RunRow.id).where(RunRow.spec_id == spec_id).limit(1)) is None:
            session.execute(delete(SpecRow).where(SpecRow.spec_id == spec_id))
    return True


def record_gradients(
    database: Database, lease: Lease, circumstances: str, records: Mapping[int, str]
) -> None:
    """Keep what a training recorded of its gradients; parts that are there already stay.

    Args:
        circumstances: JSON, see `AnalysisRow`.
        records: JSON by the number of epochs that were done.
    """
    with _leased(database, lease) as session:
        run = session.get_one(RunRow, lease.run_id)
        _add_parts(session, run, GRADIENTS_SETTINGS, circumstances, records, 0.0)


def record_part(
    database: Database,
    uid: str,
    settings: str,
    circumstances: str,
    part: int,
    content: str,
    seconds: float,
) -> None:
    """Keep a part of a run's analysis; one that is there already stays.

    Parts of an analysis that was begun in another environment are removed before: one analysis
    has parts of one environment. A whole analysis stays as it is.

    Numbers of runs are used again after a removal, so the run is named by its uid.

    Args:
        settings, circumstances: JSON, see `AnalysisRow`.

    Raises:
        AnalysisGoneError: there is no such run.
    """
    with database.writing() as session:
        run = session.scalar(select(RunRow).where(RunRow.uid == uid))
        if run is None:
            raise AnalysisGoneError
        begun = session.scalar(select(AnalysisRow).filter_by(run_id=run.id, settings=settings))
        if begun and not same_environment(begun.circumstances, circumstances):
            if is_whole(forest_parts({row.part: row.content for row in begun.parts})):
                return
            begun.parts.clear()
            begun.circumstances = circumstances
            session.flush()
        _add_parts(session, run, settings, circumstances, {part: content}, seconds)


def _add_parts(
    session: Session,
    run: RunRow,
    settings: str,
    circumstances: str,
    contents: Mapping[int, str],
    seconds: float,
) -> None:
    analysis = session.scalar(select(AnalysisRow).filter_by(run_id=run.id, settings=settings))
    if analysis is None:
        analysis = AnalysisRow(run_id=run.id, settings=settings, circumstances=circumstances)
        session.add(analysis)
        session.flush()
    known = session.scalars(select(AnalysisPartRow.part).filter_by(analysis_id=analysis.id))
    for part in contents.keys() - set(known):
        values = {"part": part, "content": contents[part], "seconds": seconds}
        session.add(AnalysisPartRow(analysis_id=analysis.id, **values))
