"""Queries of the database, which return frozen values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Executable, Select, and_, case, func, select
from sqlalchemy.orm import InstrumentedAttribute

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

LARGEST_NUMBER = 2**31 - 1  # of a run; backends fail at larger ones
# Columns of `ProvenanceRow` that results may depend on; in some of them None means unknown.
MAY_BE_UNKNOWN = ("git_clean", "step", "code_sha256", "pillow", "capability")
ENVIRONMENT = (
    *("device", "threads", "torch", "cuda", "package", "git_commit"),
    *MAY_BE_UNKNOWN,
    "data_sha256",
)
# Those that may change a training's numbers where data and code are the same, in words.
HARDWARE = {
    "device": "devices",
    "threads": "numbers of threads",
    "torch": "versions of torch",
    "cuda": "versions of CUDA",
    "step": "execution modes",
    "capability": "CPU instructions",
}


class UnknownRunError(UsageError):
    """No run has that number."""


@dataclass(frozen=True)
class RunSummary:
    """A run and its results.

    Attributes:
        epochs: number of recorded epochs.
        best_top1: best test accuracy over epochs, %; None before the first. Where images are held
            out for validation, that of the epoch that did best on them; None before the end.
        last_top1: test accuracy of the last epoch, %; None before the first, and where images are
            held out: then it is not known.
        last_train_top1: accuracy on the training images during the last epoch, %.
        test_images: images in the test set; None where that is not recorded.
        seconds: wall time of all epochs.
    """

    id: int
    uid: str
    spec_id: str
    seed: int
    origin: str
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

    @property
    def final_top1(self) -> float | None:
        """Test accuracy at the end, %: of the last epoch, or of the one that held-out images chose.

        None before that.
        """
        return self.best_top1 if self.last_top1 is None else self.last_top1


@dataclass(frozen=True)
class RunDetail:
    """A run with its spec, epochs and attempts: rows as mappings from column to value."""

    summary: RunSummary
    spec_json: str
    epochs: tuple[dict[str, object], ...]
    provenance: tuple[dict[str, object], ...]


def runs_of(database: Database, spec_ids: Iterable[str]) -> dict[str, tuple[RunSummary, ...]]:
    """Return the runs of each spec, by seed, that are of the database's origin; maybe none."""
    found: dict[str, list[RunSummary]] = {spec_id: [] for spec_id in spec_ids}
    for summary in _summaries(database, _is_of(database, found)):
        found[summary.spec_id].append(summary)
    return {spec_id: tuple(runs) for spec_id, runs in found.items()}


def all_runs(database: Database) -> tuple[RunSummary, ...]:
    """Return every run, oldest first."""
    return _summaries(database)


def states_of(
    database: Database, spec_ids: Iterable[str], seeds: Iterable[int] | None = None
) -> tuple[State, ...]:
    """Return the states of the runs of these specs, with these seeds or with any."""
    with database.reading() as session:
        found = session.scalars(select(RunRow.state).where(_is_of(database, spec_ids, seeds)))
        return tuple(map(State, found))


def _is_of(
    database: Database, spec_ids: Iterable[str], seeds: Iterable[int] | None = None
) -> ColumnElement[bool]:
    """Return the condition on runs of these specs, with these seeds or with any."""
    chosen = and_(RunRow.spec_id.in_(set(spec_ids)), RunRow.origin == database.origin)
    return chosen if seeds is None else and_(chosen, RunRow.seed.in_(tuple(seeds)))


def _pairs(database: Database, query: Executable) -> dict[Any, Any]:
    """Return the rows of a query as a mapping from their first column to their second."""
    with database.reading() as session:
        return {row[0]: row[1] for row in session.execute(query)}


def spec_json(database: Database, spec_ids: Iterable[str]) -> dict[str, str]:
    """Return the canonical JSON of specs, by spec_id."""
    wanted = set(spec_ids)
    chosen = select(SpecRow.spec_id, SpecRow.json).where(SpecRow.spec_id.in_(wanted))
    found = _pairs(database, chosen)
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
    found = _summaries(database, RunRow.id == run_id) if run_id <= LARGEST_NUMBER else ()
    if not found:
        raise UnknownRunError(f"no run {run_id} in {database.name}: see 'dia-repro runs list'")
    with database.reading() as session:
        run = session.get_one(RunRow, run_id)
        epochs, attempts = tuple(map(_columns, run.epochs)), tuple(map(_columns, run.attempts))
        return RunDetail(found[0], session.get_one(SpecRow, run.spec_id).json, epochs, attempts)


def _columns(row: EpochRow | ProvenanceRow) -> dict[str, object]:
    names = [column.key for column in row.__table__.columns if column.key not in ("id", "run_id")]
    return {name: getattr(row, name) for name in names}


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
    return _pairs(database, per_epoch)


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


def gpu_memory(database: Database) -> dict[str, int]:
    """Return the peak GPU memory that torch reserved for a run, in bytes, by spec_id."""
    most = (
        select(RunRow.spec_id, func.max(ProvenanceRow.peak_memory_bytes))
        .join(ProvenanceRow, ProvenanceRow.run_id == RunRow.id)
        .where(ProvenanceRow.cuda.is_not(None), ProvenanceRow.peak_memory_bytes.is_not(None))
        .group_by(RunRow.spec_id)
    )
    return _pairs(database, most)


@dataclass(frozen=True)
class Differences:
    """Environments that the runs of a table differ in.

    Attributes:
        within: values that runs of one spec have, by column of `ProvenanceRow`.
        between: values that different specs have, where the runs of each spec agree.
    """

    within: dict[str, tuple[str, ...]] = field(default_factory=dict)
    between: dict[str, tuple[str, ...]] = field(default_factory=dict)


def mixed_environments(
    database: Database, spec_ids: Iterable[str], seeds: Iterable[int] | None = None
) -> Differences:
    """Return what differs between the runs of some specs, and seeds, that have a result.

    Unknown values of `MAY_BE_UNKNOWN` differ from none.
    """
    chosen = (
        select(RunRow.spec_id, *(getattr(ProvenanceRow, name) for name in ENVIRONMENT))
        .join(ProvenanceRow, ProvenanceRow.run_id == RunRow.id)
        .where(_is_of(database, spec_ids, seeds), RunRow.state.in_(DONE))
        .distinct()
    )
    with database.reading() as session:
        rows = session.execute(chosen).mappings().all()
    found = Differences()
    for name in ENVIRONMENT:
        values = {
            (row["spec_id"], _value(name, row[name]))
            for row in rows
            if row[name] is not None or name not in MAY_BE_UNKNOWN
        }
        counts = Counter(spec_id for spec_id, _ in values)
        within = {value for spec_id, value in values if counts[spec_id] > 1}
        everything = {value for _, value in values}
        if within:
            found.within[name] = _sorted(within)
        elif len(everything) > 1 and name != "data_sha256":  # data are part of what is compared
            found.between[name] = _sorted(everything)
    return found


def hardware_of(database: Database, run_ids: Iterable[int]) -> dict[int, dict[str, set[str]]]:
    """Return what runs were trained with: the known values of `HARDWARE`, by run and column."""
    chosen = (
        select(ProvenanceRow.run_id, *(getattr(ProvenanceRow, name) for name in HARDWARE))
        .where(ProvenanceRow.run_id.in_(sorted(set(run_ids))))
        .distinct()
    )
    found: dict[int, dict[str, set[str]]] = {}
    with database.reading() as session:
        for row in session.execute(chosen).mappings():
            of_run = found.setdefault(row["run_id"], {name: set() for name in HARDWARE})
            for name in HARDWARE:
                if row[name] is not None or name not in MAY_BE_UNKNOWN:
                    of_run[name].add(_value(name, row[name]))
    return found


def data_of(database: Database, spec_ids: Iterable[str]) -> set[tuple[str, str]]:
    """Return the data that runs with a result were trained on: pairs of spec_id and SHA-256."""
    chosen = (
        select(RunRow.spec_id, ProvenanceRow.data_sha256)
        .join(ProvenanceRow, ProvenanceRow.run_id == RunRow.id)
        .where(_is_of(database, spec_ids), RunRow.state.in_(DONE))
        .distinct()
    )
    with database.reading() as session:
        return {(spec_id, data) for spec_id, data in session.execute(chosen)}


def _sorted(values: Iterable[str]) -> tuple[str, ...]:
    """Return values in order; whole numbers by size."""
    return tuple(sorted(values, key=lambda text: text.zfill(10) if text.isdigit() else text))


def _value(column: str, value: object) -> str:
    if column == "git_clean":
        return "clean" if value else "changed"
    return str(value or "none")


def analysis_parts(database: Database, run_id: int, settings: str) -> dict[int, str]:
    """Return the content of a run's analysis with these settings, by part."""
    chosen = (
        select(AnalysisPartRow.part, AnalysisPartRow.content)
        .join(AnalysisRow, AnalysisRow.id == AnalysisPartRow.analysis_id)
        .where(AnalysisRow.run_id == run_id, AnalysisRow.settings == settings)
    )
    return _pairs(database, chosen)


def analysis_circumstances(database: Database, run_id: int, settings: str) -> str | None:
    """Return what a run's analysis with these settings was made in, JSON; None if there is none."""
    chosen = select(AnalysisRow.circumstances).filter_by(run_id=run_id, settings=settings)
    with database.reading() as session:
        return session.scalar(chosen)


def analysis_settings(database: Database, run_ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """Return the settings of each run's analyses, sorted; a run without any has none."""
    found: dict[int, list[str]] = {run_id: [] for run_id in run_ids}
    chosen = select(AnalysisRow.run_id, AnalysisRow.settings).where(
        AnalysisRow.run_id.in_(list(found))
    )
    with database.reading() as session:
        for run_id, settings in session.execute(chosen):
            found[run_id].append(settings)
    return {run_id: tuple(sorted(settings)) for run_id, settings in found.items()}


def select_runs(
    *columns: Any, chosen: ColumnElement[bool] | None = None, last: int | None = None
) -> Select[Any]:
    """Return the query for runs, oldest first, with totals of their epochs.

    Args:
        columns: columns of `RunRow`; four are added, as in `RunSummary`: epochs, best_top1,
            last_top1 and seconds.
        chosen: condition on `RunRow`; by default all runs.
        last: how many of the last of them.
    """
    if last is not None:
        newest = select(RunRow.id).order_by(RunRow.id.desc()).limit(last)
        chosen = RunRow.id.in_(newest if chosen is None else newest.where(chosen))
    # An accuracy is at most 100; what is not finite compares as greater on every backend.
    best = func.max(case((EpochRow.test_top1 <= 100.0, EpochRow.test_top1)))
    query = select(
        *columns,
        _of_epochs(func.count()).label("epochs"),
        _of_epochs(best).label("best_top1"),
        _newest(EpochRow.test_top1, EpochRow.epoch, EpochRow.validation_top1.is_(None)).label(
            "last_top1"
        ),
        _of_epochs(func.coalesce(func.sum(EpochRow.seconds), 0.0)).label("seconds"),
    ).order_by(RunRow.id)
    return query if chosen is None else query.where(chosen)


def _of_epochs(total: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a total of the epochs of each run."""
    return select(total).where(EpochRow.run_id == RunRow.id).correlate(RunRow).scalar_subquery()


def _summaries(
    database: Database, chosen: ColumnElement[bool] | None = None
) -> tuple[RunSummary, ...]:
    known = RunRow.__table__.columns
    columns = [known[column.name] for column in fields(RunSummary) if column.name in known]
    query = select_runs(
        *columns,
        # The rows of the last attempt that says it replaced those on other data.
        _newest(ProvenanceRow.test_images, ProvenanceRow.id).label("test_images"),
        _newest(EpochRow.train_top1, EpochRow.epoch).label("last_train_top1"),
        chosen=chosen,
    )
    with database.reading() as session:
        found = session.execute(query).mappings()
        return tuple(RunSummary(**{**row, "state": State(row["state"])}) for row in found)


def _newest(
    column: InstrumentedAttribute[Any],
    number: InstrumentedAttribute[int],
    *chosen: ColumnElement[bool],
) -> ColumnElement[Any]:
    """Return a run's value of a column in its last row, by a number, of those that have one."""
    newest = select(column).where(column.class_.run_id == RunRow.id, column.is_not(None), *chosen)
    return newest.order_by(number.desc()).limit(1).correlate(RunRow).scalar_subquery()
