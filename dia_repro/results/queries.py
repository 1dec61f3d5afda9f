"""What the database holds, as frozen values. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, select
from sqlalchemy.orm import aliased

from dia_repro.errors import UsageError
from dia_repro.results.database import Database, DatabaseError, one_state
from dia_repro.results.schema import (
    DONE,
    AnalysisPartRow,
    AnalysisRow,
    EpochRow,
    ProvenanceRow,
    RunRow,
    SpecRow,
    State,
)

MOST = 2**31 - 1
# Columns of `ProvenanceRow` that results may depend on; in some of them None says nothing.
MAY_BE_UNKNOWN = ("git_clean", "step", "code_sha256", "pillow")
ENVIRONMENT = (
    *("device", "threads", "torch", "cuda", "package", "git_commit"),
    *MAY_BE_UNKNOWN,
    "data_sha256",
)


class UnknownRunError(UsageError):
    """No run has that number."""


@dataclass(frozen=True)
class RunSummary:
    """A run and its results.

    Attributes:
        epochs: how many are recorded.
        best_top1: best test accuracy over epochs, %; None before the first.
        last_top1: test accuracy of the last epoch, %; None before the first.
        last_train_top1: accuracy on the training images during the last epoch, %.
        test_images: in the test set; None where that is not recorded.
        seconds: summed over epochs.
    """

    id: int
    uid: str
    spec_id: str
    seed: int
    state: State
    reason: str | None
    owner: str | None
    parameters: int | None
    epochs: int
    best_top1: float | None
    last_top1: float | None
    last_train_top1: float | None
    test_images: int | None
    seconds: float
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class RunDetail:
    """A run with its spec, epochs and attempts: rows as mappings from column to value."""

    summary: RunSummary
    spec_json: str
    epochs: tuple[dict[str, object], ...]
    provenance: tuple[dict[str, object], ...]


def runs_of(database: Database, spec_ids: Iterable[str]) -> dict[str, tuple[RunSummary, ...]]:
    """Return the runs of each spec, by seed; a spec without any has an empty tuple."""
    wanted = list(dict.fromkeys(spec_ids))
    found: dict[str, list[RunSummary]] = {spec_id: [] for spec_id in wanted}
    for summary in _summaries(database, RunRow.spec_id.in_(wanted)):
        found[summary.spec_id].append(summary)
    return {spec_id: tuple(runs) for spec_id, runs in found.items()}


def all_runs(database: Database) -> tuple[RunSummary, ...]:
    """Return every run, oldest first."""
    return _summaries(database)


def states_of(
    database: Database, spec_ids: Iterable[str], seeds: Iterable[int] | None = None
) -> tuple[State, ...]:
    """Return the states of the runs of these specs, with these seeds or with any."""
    chosen = select(RunRow.state).where(RunRow.spec_id.in_(set(spec_ids)))
    if seeds is not None:
        chosen = chosen.where(RunRow.seed.in_(tuple(seeds)))
    with database.reading() as session:
        return tuple(map(State, session.scalars(chosen)))


def spec_json(database: Database, spec_ids: Iterable[str]) -> dict[str, str]:
    """Return the canonical JSON of specs, by spec_id."""
    wanted = set(spec_ids)
    with database.reading() as session:
        chosen = select(SpecRow).where(SpecRow.spec_id.in_(list(wanted)))
        found = {row.spec_id: row.json for row in session.scalars(chosen)}
    if missing := wanted - found.keys():
        raise DatabaseError(
            f"database {database.name}: spec {min(missing)} is gone: see 'dia-repro db check'"
        )
    return found


def all_spec_json(database: Database) -> tuple[str, ...]:
    """Return the canonical JSON of every spec."""
    with database.reading() as session:
        return tuple(session.scalars(select(SpecRow.json)))


@one_state
def run_detail(database: Database, run_id: int) -> RunDetail:
    """Return one run with its epochs and attempts.

    Raises:
        UnknownRunError: there is no such run.
    """
    known = run_id <= MOST  # backends fail at what is larger
    found = _summaries(database, RunRow.id == run_id) if known else ()
    if not found:
        raise UnknownRunError(f"no run {run_id} in {database.name}: see 'dia-repro runs list'")
    with database.reading() as session:
        spec = session.get_one(SpecRow, found[0].spec_id)
        epochs = session.scalars(
            select(EpochRow).where(EpochRow.run_id == run_id).order_by(EpochRow.epoch)
        )
        attempts = session.scalars(
            select(ProvenanceRow).where(ProvenanceRow.run_id == run_id).order_by(ProvenanceRow.id)
        )
        return RunDetail(
            found[0], spec.json, tuple(map(_columns, epochs)), tuple(map(_columns, attempts))
        )


def seconds_per_epoch(database: Database, device: str) -> dict[str, float]:
    """Return the mean seconds of an epoch on a device of that name, by spec_id."""
    newest = (  # attempt that had begun by the epoch: the one that trained it
        select(func.max(ProvenanceRow.id))
        .where(ProvenanceRow.run_id == EpochRow.run_id, ProvenanceRow.from_epoch < EpochRow.epoch)
        .correlate(EpochRow)
        .scalar_subquery()
    )
    per_epoch = (
        select(RunRow.spec_id, func.avg(EpochRow.seconds))
        .join(EpochRow, EpochRow.run_id == RunRow.id)
        .join(ProvenanceRow, ProvenanceRow.id == newest)
        .where(ProvenanceRow.device == device)
        .group_by(RunRow.spec_id)
    )
    with database.reading() as session:
        return {row[0]: row[1] for row in session.execute(per_epoch)}


def most_used_gpu(database: Database) -> str | None:
    """Return the name of the GPU that most attempts were made on; None without any."""
    most = (
        select(ProvenanceRow.device)
        .where(ProvenanceRow.cuda.is_not(None))
        .group_by(ProvenanceRow.device)
        .order_by(func.count().desc(), ProvenanceRow.device)
    )
    with database.reading() as session:
        return session.scalars(most).first()


@dataclass(frozen=True)
class Differences:
    """Environments that the runs of a table differ in: values by column of `ProvenanceRow`.

    Attributes:
        within: of runs of one spec.
        between: of runs of different specs, where those of each spec agree.
    """

    within: dict[str, tuple[str, ...]] = field(default_factory=dict)
    between: dict[str, tuple[str, ...]] = field(default_factory=dict)


def mixed_environments(
    database: Database, spec_ids: Iterable[str], seeds: Iterable[int] | None = None
) -> Differences:
    """Return what differs between the runs of some specs that have a result.

    A clean checkout and an execution mode that are not known differ from none.

    Args:
        seeds: those of the runs; None for all.
    """
    columns = [getattr(ProvenanceRow, name) for name in ENVIRONMENT]
    chosen = (
        select(RunRow.spec_id, *columns)
        .join(ProvenanceRow, ProvenanceRow.run_id == RunRow.id)
        .where(RunRow.spec_id.in_(set(spec_ids)), RunRow.state.in_(DONE))
        .distinct()
    )
    if seeds is not None:
        chosen = chosen.where(RunRow.seed.in_(tuple(seeds)))
    with database.reading() as session:
        rows = [tuple(row) for row in session.execute(chosen)]
    found = Differences()
    for index, name in enumerate(ENVIRONMENT, start=1):
        by_spec: dict[str, set[str]] = {}
        for row in rows:
            if row[index] is not None or name not in MAY_BE_UNKNOWN:
                by_spec.setdefault(row[0], set()).add(_value(name, row[index]))
        mixed = set().union(*(known for known in by_spec.values() if len(known) > 1))
        everything = set().union(*by_spec.values())
        if mixed:
            found.within[name] = _sorted(mixed)
        elif len(everything) > 1 and name != "data_sha256":  # which is part of what is compared
            found.between[name] = _sorted(everything)
    return found


def _sorted(values: Iterable[str]) -> tuple[str, ...]:
    """Return values in order; whole numbers by size."""
    return tuple(sorted(values, key=lambda text: text.zfill(10) if text.isdigit() else text))


def _value(column: str, value: object) -> str:
    if column == "git_clean":
        return "clean" if value else "changed"
    return str(value or "none")


def gpu_memory(database: Database) -> dict[str, int]:
    """Return the peak GPU memory that torch reserved for a run, in bytes, by spec_id."""
    most = (
        select(RunRow.spec_id, func.max(ProvenanceRow.peak_memory_bytes))
        .join(ProvenanceRow, ProvenanceRow.run_id == RunRow.id)
        .where(ProvenanceRow.cuda.is_not(None))
        .group_by(RunRow.spec_id)
    )
    with database.reading() as session:
        return {row[0]: row[1] for row in session.execute(most) if row[1] is not None}


def analysis_parts(database: Database, run_id: int, settings: str) -> dict[int, str]:
    """Return the content of a run's analysis with these settings, by part."""
    chosen = (
        select(AnalysisPartRow)
        .join(AnalysisRow, AnalysisRow.id == AnalysisPartRow.analysis_id)
        .where(AnalysisRow.run_id == run_id, AnalysisRow.settings == settings)
    )
    with database.reading() as session:
        return {row.part: row.content for row in session.scalars(chosen)}


def analysis_settings(database: Database, run_ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """Return the settings of each run's analyses, sorted; a run without any has none."""
    wanted = list(dict.fromkeys(run_ids))
    found: dict[int, list[str]] = {run_id: [] for run_id in wanted}
    chosen = select(AnalysisRow.run_id, AnalysisRow.settings).where(AnalysisRow.run_id.in_(wanted))
    with database.reading() as session:
        for row in session.execute(chosen):
            found[row[0]].append(row[1])
    return {run_id: tuple(sorted(settings)) for run_id, settings in found.items()}


def select_runs(
    *columns: Any, chosen: ColumnElement[bool] | None = None, last: int | None = None
) -> Select[Any]:
    """Return the query for runs, oldest first, with what their epochs come to.

    Args:
        columns: of `RunRow`; four are added, as in `RunSummary`: epochs, best_top1, last_top1
            and seconds.
        chosen: condition on `RunRow`; by default all runs.
        last: how many of the last of them.
    """
    if last is not None:
        newest = select(RunRow.id).order_by(RunRow.id.desc()).limit(last)
        chosen = RunRow.id.in_(newest if chosen is None else newest.where(chosen))
    # An accuracy is at most 100; what is not finite compares as greater on every backend.
    best = func.max(case((EpochRow.test_top1 <= 100.0, EpochRow.test_top1)))
    totals_query = select(
        EpochRow.run_id,
        func.count().label("epochs"),
        func.max(EpochRow.epoch).label("last"),
        best.label("best_top1"),
        func.sum(EpochRow.seconds).label("seconds"),
    ).group_by(EpochRow.run_id)
    if chosen is not None:  # or all epochs there are would be added up
        totals_query = totals_query.where(EpochRow.run_id.in_(select(RunRow.id).where(chosen)))
    totals = totals_query.subquery()
    last_epoch = aliased(EpochRow)
    query = (
        select(
            *columns,
            func.coalesce(totals.c.epochs, 0).label("epochs"),
            totals.c.best_top1,
            last_epoch.test_top1.label("last_top1"),
            func.coalesce(totals.c.seconds, 0.0).label("seconds"),
        )
        .outerjoin(totals, totals.c.run_id == RunRow.id)
        .outerjoin(
            last_epoch, and_(last_epoch.run_id == RunRow.id, last_epoch.epoch == totals.c.last)
        )
        .order_by(RunRow.id)
    )
    return query if chosen is None else query.where(chosen)


def _summaries(
    database: Database, chosen: ColumnElement[bool] | None = None
) -> tuple[RunSummary, ...]:
    columns = [getattr(RunRow, one.name) for one in fields(RunSummary) if hasattr(RunRow, one.name)]
    test_images = (  # of the last attempt that says: its rows replaced those on other data
        select(ProvenanceRow.test_images)
        .where(ProvenanceRow.run_id == RunRow.id, ProvenanceRow.test_images.is_not(None))
        .order_by(ProvenanceRow.id.desc())
        .limit(1)
        .scalar_subquery()
        .label("test_images")
    )
    last_train_top1 = (
        select(EpochRow.train_top1)
        .where(EpochRow.run_id == RunRow.id)
        .order_by(EpochRow.epoch.desc())
        .limit(1)
        .scalar_subquery()
        .label("last_train_top1")
    )
    query = select_runs(*columns, test_images, last_train_top1, chosen=chosen)
    with database.reading() as session:
        found = session.execute(query).mappings()
        return tuple(RunSummary(**{**row, "state": State(row["state"])}) for row in found)


def _columns(row: EpochRow | ProvenanceRow) -> dict[str, object]:
    names = [column.key for column in row.__table__.columns if column.key not in ("id", "run_id")]
    return {name: getattr(row, name) for name in names}
