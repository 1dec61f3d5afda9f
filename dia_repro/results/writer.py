"""The one writer: every change of the database goes through here, in short transactions."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
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
    owner_of,
    release,
)
from dia_repro.results.schema import (
    DONE,
    GRADIENTS_SETTINGS,
    AnalysisPartRow,
    AnalysisRow,
    EpochRow,
    LeaseRow,
    ProvenanceRow,
    RunRow,
    SpecRow,
    State,
    now,
)


def ensure_runs(
    database: Database, specs: Mapping[str, str], seeds: Iterable[int]
) -> dict[tuple[str, int], int]:
    """Make the runs that are not there yet, as pending.

    Args:
        specs: canonical JSON by spec_id.
        seeds: the seeds each spec is to be trained with.

    Returns:
        The run's number by (spec_id, seed), for all of them.
    """
    seeds = list(dict.fromkeys(seeds))
    wanted = [(spec_id, seed) for spec_id in specs for seed in seeds]
    with database.writing() as session:
        known_specs = set(session.scalars(select(SpecRow.spec_id)))
        session.add_all(
            SpecRow(spec_id=spec_id, json=json)
            for spec_id, json in specs.items()
            if spec_id not in known_specs
        )
        session.flush()
        known = _run_numbers(session, specs)
        missing = [_new_run(*one) for one in wanted if one not in known]
        if missing:
            session.execute(insert(RunRow), missing)
            known = _run_numbers(session, specs)
    return {one: known[one] for one in wanted}


def _run_numbers(session: Session, specs: Iterable[str]) -> dict[tuple[str, int], int]:
    chosen = select(RunRow.spec_id, RunRow.seed, RunRow.id).where(RunRow.spec_id.in_(list(specs)))
    return {(row[0], row[1]): row[2] for row in session.execute(chosen)}


def _new_run(spec_id: str, seed: int) -> dict[str, Any]:
    moment = now()
    return {
        "uid": uuid.uuid4().hex,
        "spec_id": spec_id,
        "seed": seed,
        "state": State.PENDING,
        "created_at": moment,
        "changed_at": moment,
    }


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
        TakenOverError: the run is another's; so do the functions below.
    """
    saved = {figures["epoch"]: dict(figures) for figures in history}
    with database.writing() as session:
        check_lease(session, lease)
        rows = session.scalars(select(EpochRow).where(EpochRow.run_id == lease.run_id)).all()
        wrong = [row for row in rows if not _is_saved(row, saved)]
        for row in wrong:
            session.delete(row)
        session.flush()
        right = {row.epoch for row in rows} - {row.epoch for row in wrong}
        session.add_all(
            EpochRow(run_id=lease.run_id, **saved[epoch]) for epoch in saved if epoch not in right
        )
        _remove_other_gradients(session, lease.run_id, gradients)
    return len(wrong)


def _is_saved(row: EpochRow, saved: Mapping[int, Mapping[str, Any]]) -> bool:
    # Compared by their text, where nan is equal to itself.
    figures = saved.get(row.epoch, {})
    return bool(figures) and all(
        repr(float(value)) == repr(float(getattr(row, name))) for name, value in figures.items()
    )


def _remove_other_gradients(session: Session, run_id: int, kept: Mapping[int, str]) -> None:
    """Remove the parts of the training's own analysis that are not among those."""
    parts = (
        select(AnalysisPartRow)
        .join(AnalysisRow, AnalysisRow.id == AnalysisPartRow.analysis_id)
        .where(AnalysisRow.run_id == run_id, AnalysisRow.settings == GRADIENTS_SETTINGS)
    )
    for part in session.scalars(parts):
        if kept.get(part.part) != part.content:
            session.delete(part)


def record_epoch(database: Database, lease: Lease, figures: Mapping[str, Any]) -> None:
    """Add the next epoch; its values are the columns of `EpochRow`.

    Raises:
        ChangedError: it does not follow the epochs that are there.
    """
    with database.writing() as session:
        check_lease(session, lease)
        there, trained = count_epochs(session, lease.run_id), figures["epoch"]
        if trained != there + 1:
            raise ChangedError(
                f"epoch {trained} of run {lease.run_id} does not follow its {there} epochs in the "
                "database, which was changed meanwhile"
            )
        session.add(EpochRow(run_id=lease.run_id, **figures))
        moved = update(RunRow).where(RunRow.id == lease.run_id).values(changed_at=now())
        session.execute(moved)


def set_parameters(database: Database, lease: Lease, parameters: int) -> None:
    """Note the network's #P."""
    with database.writing() as session:
        check_lease(session, lease)
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
        wall_seconds: of the attempt, by a monotonic clock.
        step: execution mode of its steps.
    """
    with database.writing() as session:
        check_lease(session, lease)
        release(session, lease.run_id)
        run = session.get_one(RunRow, lease.run_id)
        run.state, run.owner, run.reason, run.changed_at = state, None, reason, now()
        row = session.get_one(ProvenanceRow, lease.attempt)
        row.ended_at = now()
        row.wall_seconds, row.peak_memory_bytes = wall_seconds, peak_memory_bytes
        row.step = step


def record_failure(
    database: Database, spec_id: str, seed: int, lease: Lease | None, reason: str
) -> None:
    """Record the failure of a run whose worker failed before it could do so, or died.

    Args:
        lease: the worker's, None where it had not taken the run up. A run with a result is left
            alone, and one that another process has or has had since.
    """
    with database.writing() as session:
        run = _left_by(session, spec_id, seed, lease)
        if run is not None and run.state not in DONE:
            release(session, run.id)
            run.state, run.owner, run.reason, run.changed_at = State.FAILED, None, reason, now()


def record_kill(database: Database, spec_id: str, seed: int, lease: Lease | None) -> None:
    """Make a run whose process was killed interrupted, and free again.

    Args:
        lease: as of `record_failure`.
    """
    with database.writing() as session:
        run = _left_by(session, spec_id, seed, lease)
        if run is not None and run.state == State.RUNNING:
            _interrupt(session, run)


def _left_by(session: Session, spec_id: str, seed: int, lease: Lease | None) -> RunRow | None:
    """Return the run of a worker that is gone, unless it is or was another's since."""
    run = session.scalar(select(RunRow).where(RunRow.spec_id == spec_id, RunRow.seed == seed))
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
        seen: its owner when it was found dead; a heartbeat since then, or another owner,
            leaves it alone.
    """
    with database.writing() as session:
        run = session.get_one(RunRow, run_id)
        dead = run.state == State.RUNNING and owner_of(session, run_id) == seen
        if dead:
            _interrupt(session, run)
    return dead


def _interrupt(session: Session, run: RunRow) -> None:
    release(session, run.id)
    run.state, run.owner, run.changed_at = State.INTERRUPTED, None, now()


def remove_run(database: Database, uid: str) -> None:
    """Remove a run with its epochs, attempts and analyses, and its spec if no other run has it."""
    with database.writing() as session:
        spec_id = session.scalar(select(RunRow.spec_id).where(RunRow.uid == uid))
        session.execute(delete(RunRow).where(RunRow.uid == uid))
        if session.scalar(select(RunRow.id).where(RunRow.spec_id == spec_id).limit(1)) is None:
            session.execute(delete(SpecRow).where(SpecRow.spec_id == spec_id))


def record_gradients(
    database: Database, lease: Lease, circumstances: str, records: Mapping[int, str]
) -> None:
    """Keep what a training recorded of its gradients; parts that are there already stay.

    Args:
        circumstances: JSON.
        records: JSON by the number of epochs that were done.
    """
    with database.writing() as session:
        check_lease(session, lease)
        number = _ensure_analysis(session, lease.run_id, GRADIENTS_SETTINGS, circumstances)
        for part, content in records.items():
            _add_part(session, number, part, content, 0.0)


class AnalysisGoneError(DiaReproError):
    """The run that is analysed, or its analysis, is no longer in the database."""

    def __init__(self) -> None:
        super().__init__(
            "the run that is analysed was removed, or another database is in the place of its own: "
            "nothing of it is kept"
        )


def ensure_analysis(database: Database, uid: str, settings: str, circumstances: str) -> None:
    """Make a run's analysis with these settings where there is none.

    Numbers of runs and analyses are used again after a removal, so the run is named by its uid.

    Args:
        settings, circumstances: JSON, see `AnalysisRow`.

    Raises:
        AnalysisGoneError: there is no such run.
    """
    with database.writing() as session:
        run_id = session.scalar(select(RunRow.id).where(RunRow.uid == uid))
        if run_id is None:
            raise AnalysisGoneError
        _ensure_analysis(session, run_id, settings, circumstances)


def _ensure_analysis(session: Session, run_id: int, settings: str, circumstances: str) -> int:
    chosen = select(AnalysisRow).where(
        AnalysisRow.run_id == run_id, AnalysisRow.settings == settings
    )
    row = session.scalar(chosen)
    if row is None:
        row = AnalysisRow(
            run_id=run_id, settings=settings, circumstances=circumstances, begun_at=now()
        )
        session.add(row)
        session.flush()
    return row.id


def record_part(
    database: Database, uid: str, settings: str, part: int, content: str, seconds: float
) -> None:
    """Keep a part of a run's analysis with these settings; one that is there already stays.

    Raises:
        AnalysisGoneError: there is no such analysis of that run.
    """
    chosen = (
        select(AnalysisRow.id)
        .join(RunRow, RunRow.id == AnalysisRow.run_id)
        .where(RunRow.uid == uid, AnalysisRow.settings == settings)
    )
    with database.writing() as session:
        number = session.scalar(chosen)
        if number is None:
            raise AnalysisGoneError
        _add_part(session, number, part, content, seconds)


def _add_part(session: Session, analysis_id: int, part: int, content: str, seconds: float) -> None:
    if session.get(AnalysisPartRow, (analysis_id, part)) is None:
        row = AnalysisPartRow(analysis_id=analysis_id, part=part, content=content, seconds=seconds)
        session.add(row)
