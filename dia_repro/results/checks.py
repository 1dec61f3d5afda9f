"""Checks of a database: its pages, references and schema, and that dia-repro can have written it.

`db check` makes all of them. A merge checks the rows before it takes them over.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from math import isclose, isfinite

from sqlalchemy import BigInteger, Boolean, Connection, DateTime, Integer, func, or_, select, text
from sqlalchemy.orm import Session

from dia_repro.experiments.spec import InvalidSpecError, Spec, spec_id_of
from dia_repro.results.backends import network_file_system, sqlite_path
from dia_repro.results.database import Database
from dia_repro.results.parts import check_parts, first_reason, same_environment
from dia_repro.results.schema import (
    DONE,
    OURS,
    AnalysisRow,
    Base,
    EpochRow,
    ProvenanceRow,
    Real,
    RunRow,
    SpecRow,
    State,
)
from dia_repro.results.sources import contributing, data_hashes, numbers_of_test_images

# Versions in which two connections that checkpoint a WAL at once cannot damage the database.
FIRST_WITHOUT_WAL_BUG = (3, 51, 3)
ALSO_WITHOUT_WAL_BUG = ((3, 44, 6), (3, 50, 7))
UID = re.compile(r"[0-9a-f]{32}")
ORIGIN = re.compile(r"(?! )[\w .,:&+()'-]{1,60}(?<! )")  # of results that are others'
LARGEST_SEED = 2**31 - 1
UNITS = {column.name: column.info["unit"] for column in EpochRow.__table__.columns}
LEAST_OF_ATTEMPTS = {"threads": 1, "wall_seconds": 0, "peak_memory_bytes": 0, "test_images": 1}
ACCURACIES = tuple(name for name, unit in UNITS.items() if unit == "%")
HARDLY_AN_IMAGE = 1e-3
LARGEST_LOSS = 3.5e38  # of float32
PARTS = ("test", "validation")  # with metrics of an epoch
NOT_NEGATIVE = tuple(name for name, unit in UNITS.items() if unit)
Specs = dict[str, Spec]


@dataclass(frozen=True)
class Finding:
    """A problem of a database.

    Attributes:
        bad: whether results are or may be wrong or lost; otherwise it is only a remark.
    """

    text: str
    bad: bool = True


def database_findings(database: Database) -> Iterator[Finding]:
    """Yield what is wrong inside a database that opens.

    Raises:
        DatabaseError, ForeignDatabaseError: it is damaged so far that it cannot be read.
    """
    path = sqlite_path(database.location)
    with database.reading() as session:
        connection = session.connection()
        if path is not None:
            yield from map(Finding, _sqlite_problems(connection))
            file_system = network_file_system(path)
            if file_system:
                yield Finding(f"{path} is on a network file system ({file_system})", bad=False)
        yield from map(Finding, chain(schema_problems(connection), problems(session)))


def _sqlite_problems(connection: Connection) -> Iterator[str]:
    for (verdict,) in connection.execute(text("pragma integrity_check(20)")):
        if verdict != "ok":
            yield f"damaged: {verdict}"
    for table, row, parent, _ in connection.execute(text("pragma foreign_key_check")):
        yield f"row {row} of {table} refers to a row of {parent} that is not there"
    if (problem := log_problem(connection)) is not None:
        yield problem


def log_problem(connection: Connection) -> str | None:
    """Return why a database's log may damage it, in a sentence; None where it cannot."""
    if connection.dialect.name != "sqlite":
        return None
    (mode,) = connection.execute(text("pragma journal_mode")).one()
    version = sqlite3.sqlite_version_info
    if mode == "wal" and version < FIRST_WITHOUT_WAL_BUG and version not in ALSO_WITHOUT_WAL_BUG:
        return (
            f"it keeps a write-ahead log, which SQLite {sqlite3.sqlite_version} may damage: "
            "sqlite3 FILE 'pragma journal_mode = delete'"
        )
    return None


def schema_problems(connection: Connection) -> Iterator[str]:
    """Yield in what the tables are not this version's."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    for difference in compare_metadata(MigrationContext.configure(connection), Base.metadata):
        what = difference[0] if isinstance(difference, tuple) else difference[0][0]
        yield f"the schema is not this version's: {what} {difference[-1]!r}"[:200]


def problems(session: Session) -> Iterator[str]:
    """Yield what dia-repro does not write, the most basic first.

    Values of another type would stop the search for the rest, which is then left out.
    """
    basic = [*_wrong_types(session)]
    if basic:
        yield from basic
        return
    yield from id_problems(session)
    specs = dict(_readable_specs(session))
    yield from _impossible_epochs(session)
    yield from _impossible_counts(session)
    yield from _wrong_metrics(session, specs)
    yield from _wrong_rates(session, specs)
    yield from _impossible_values(session)
    yield from _wrong_counts(session, specs)
    yield from _mixed_runs(session)
    yield from _unreadable_analyses(session, specs)


def _wrong_types(session: Session) -> Iterator[str]:
    """Yield values of another type than their column's, in which SQLite keeps any value."""
    if session.get_bind().dialect.name != "sqlite":
        return
    # Other backends hold 32 bits in an Integer.
    right = {
        BigInteger: "typeof({0}) = 'integer'",
        Integer: f"typeof({{0}}) = 'integer' and {{0}} between -{2**31} and {2**31 - 1}",
        Boolean: "typeof({0}) = 'integer' and {0} in (0, 1)",
        Real: "typeof({0}) in ('real', 'integer') or {0} in ('nan', 'inf', '-inf')",
        DateTime: "typeof({0}) = 'text' and datetime({0}) is not null",
        object: "typeof({0}) = 'text'",
    }
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            name = f'"{column.name}"'
            allowed = next(right[kind] for kind in right if isinstance(column.type, kind))
            empty = f"{name} is null" if column.nullable else "false"
            condition = f"not ({empty} or {allowed.format(name)})"
            query = f"select rowid from {table.name} where {condition} limit 1"  # noqa: S608
            for (row,) in session.execute(text(query)):
                yield f"row {row} of {table.name} has a {column.name} of another type or size"


def id_problems(session: Session) -> Iterator[str]:
    """Yield ids that are not what they should be; paths of checkpoints are made of them."""
    for row in session.scalars(select(SpecRow)):
        try:
            Spec.from_stored(row.json)
        except InvalidSpecError as error:
            yield f"spec {_shown(row.spec_id)} cannot be read: {error}"
            continue
        if spec_id_of(row.json) != row.spec_id:
            yield f"spec {_shown(row.spec_id)} is not what its spec_id says"
    for number, uid in session.execute(select(RunRow.id, RunRow.uid)):
        if not UID.fullmatch(uid):
            yield f"run {number} has the uid {_shown(uid)}, which is none of dia-repro's"


def _readable_specs(session: Session) -> Iterator[tuple[str, Spec]]:
    """Yield specs by spec_id; `id_problems` names the others."""
    for row in session.scalars(select(SpecRow)):
        with suppress(InvalidSpecError):
            yield row.spec_id, Spec.from_stored(row.json)


def _impossible_epochs(session: Session) -> Iterator[str]:
    """Yield metrics that no training can have given."""
    columns = {name: getattr(EpochRow, name) for name in NOT_NEGATIVE}
    # What is not finite is more than any number, to either backend.
    outside = [column < 0.0 for column in columns.values()]
    outside += [columns[name] > 100.0 for name in ACCURACIES]
    outside += [EpochRow.train_loss > LARGEST_LOSS]  # a run with such a loss diverges
    for row in session.scalars(select(EpochRow).where(or_(*outside))):
        for name in NOT_NEGATIVE:
            value = getattr(row, name)
            if value is None:
                continue
            if (name in ACCURACIES and not 0 <= value <= 100) or (isfinite(value) and value < 0):
                yield f"run {row.run_id} has {name} {value:g} in epoch {row.epoch}"
        if not row.train_loss <= LARGEST_LOSS:
            yield f"run {row.run_id} has train_loss {row.train_loss:g} in epoch {row.epoch}"


def _impossible_counts(session: Session) -> Iterator[str]:
    """Yield test accuracies that no number of correct images gives."""
    correct = EpochRow.test_top1 * ProvenanceRow.test_images / 100
    whole = func.abs(correct - func.round(correct)) < HARDLY_AN_IMAGE
    found = (
        select(EpochRow.run_id, EpochRow.epoch, EpochRow.test_top1, ProvenanceRow.test_images)
        .join(ProvenanceRow, ProvenanceRow.run_id == EpochRow.run_id)
        .where(EpochRow.test_top1.between(0.0, 100.0), ~whole)
        .distinct()
    )
    for run, epoch, top1, images in session.execute(found):
        yield f"run {run} has test_top1 {top1:g} in epoch {epoch}, which no {images} images give"


def _wrong_metrics(session: Session, specs: Specs) -> Iterator[str]:
    """Yield epochs that lack metrics of what their spec evaluates, or have others."""
    columns = [getattr(EpochRow, f"{of}_{what}") for of in PARTS for what in ("loss", "top1")]
    known = (*(column.is_not(None) for column in columns), EpochRow.epoch)
    counted = select(RunRow.spec_id, func.min(RunRow.id), *known).join(
        RunRow, RunRow.id == EpochRow.run_id
    )
    for spec_id, run, *there, epoch in session.execute(counted.group_by(RunRow.spec_id, *known)):
        if spec := specs.get(spec_id):
            held_out = spec.data.validation is not None
            tested = not held_out or epoch == spec.recipe.epochs
            if there != [tested, tested, held_out, held_out]:
                yield f"run {run} has metrics in epoch {epoch} that its spec does not say"


def _wrong_rates(session: Session, specs: Specs) -> Iterator[str]:
    rates = select(RunRow.spec_id, EpochRow.epoch, EpochRow.lr, func.min(RunRow.id))
    grouped = rates.join(RunRow, RunRow.id == EpochRow.run_id).group_by(
        RunRow.spec_id, EpochRow.epoch, EpochRow.lr
    )
    for spec_id, epoch, lr, run in session.execute(grouped):
        spec = specs.get(spec_id)
        if spec and not isclose(lr, spec.recipe.rate_in(epoch - 1), rel_tol=1e-9):
            yield f"run {run} has lr {lr:g} in epoch {epoch}, not its spec's"


def _impossible_values(session: Session) -> Iterator[str]:
    """Yield values of runs and attempts that dia-repro does not write."""
    for run, seed in session.execute(select(RunRow.id, RunRow.seed)):
        if not 0 <= seed <= LARGEST_SEED:
            yield f"run {run} has the seed {seed}"
    for run, origin, state in session.execute(
        select(RunRow.id, RunRow.origin, RunRow.state).where(RunRow.origin != OURS)
    ):
        if not ORIGIN.fullmatch(origin):
            yield f"run {run} has the origin {_shown(origin)}, which is none of dia-repro's"
        if state not in DONE:
            yield f"run {run} is of others and has no result, which no merge takes"
    for run, parameters in session.execute(
        select(RunRow.id, RunRow.parameters).where(RunRow.parameters < 1)
    ):
        yield f"run {run} has {parameters} parameters"
    for name, least in LEAST_OF_ATTEMPTS.items():
        column = getattr(ProvenanceRow, name)
        few = select(ProvenanceRow.run_id, column).where(column < least)
        for run, value in session.execute(few):
            yield f"run {run} has an attempt with {name} {value:g}"


def _wrong_counts(session: Session, specs: Specs) -> Iterator[str]:
    number = EpochRow.epoch
    counted = select(EpochRow.run_id, func.count(), func.min(number), func.max(number))
    epochs = {row[0]: tuple(row[1:]) for row in session.execute(counted.group_by(EpochRow.run_id))}
    attempts: dict[int, list[int]] = {}
    began = select(ProvenanceRow.run_id, ProvenanceRow.from_epoch).order_by(ProvenanceRow.id)
    for run_id, from_epoch in session.execute(began):
        attempts.setdefault(run_id, []).append(from_epoch)
    for run in session.scalars(select(RunRow).order_by(RunRow.id)):
        count, first, last = epochs.get(run.id, (0, 1, 0))
        if (first, last) != (1, count):
            yield f"run {run.id} has {count} epochs, the last of which is epoch {last}"
        if (spec := specs.get(run.spec_id)) is None:
            continue
        most, diverged = spec.recipe.epochs, run.state == State.DIVERGED
        if run.state == State.FINISHED and count != most:
            yield f"run {run.id} is finished with {count} epochs, not all of its spec's"
        elif count > most - diverged:
            yield f"run {run.id} is {run.state} with {count} epochs of {most}"
        begun = attempts.get(run.id, [])
        for from_epoch in begun:
            if not 0 <= from_epoch <= most:
                yield f"run {run.id} has an attempt that began after {from_epoch} epochs"
        behind = contributing(begun, count, diverged=diverged)
        if count + diverged and not (behind and begun[behind[-1]] == 0):
            yield f"run {run.id} has epochs, and nothing says what it ran on from the first one on"


def _mixed_runs(session: Session) -> Iterator[str]:
    """Yield specs whose runs cannot be shown together, and data with several test sets."""
    for origin in session.scalars(select(RunRow.origin).distinct().order_by(RunRow.origin)).all():
        for spec_id, hashes in data_hashes(session, origin=origin).items():
            if len(hashes) > 1:
                several = f"{len(hashes)} different data sets"
                yield f"runs of spec {_shown(spec_id)} were trained on {several}"
        for data_sha256, counts in numbers_of_test_images(session, origin=origin).items():
            if len(counts) > 1:
                numbers = ", ".join(map(str, sorted(counts)))
                yield f"data {_shown(data_sha256)} have different numbers of test images: {numbers}"
    known = func.count(RunRow.parameters.distinct())
    grouped = select(RunRow.spec_id, known).group_by(RunRow.spec_id, RunRow.origin)
    for spec_id, count in session.execute(grouped.having(known > 1)):
        yield f"runs of spec {_shown(spec_id)} count {count} different numbers of parameters"


def _unreadable_analyses(session: Session, specs: Specs) -> Iterator[str]:
    """Yield analyses that dia-repro does not write; those of unreadable specs are left out."""
    columns = (AnalysisRow, RunRow.spec_id, RunRow.state)
    chosen = select(*columns).join(RunRow, RunRow.id == AnalysisRow.run_id)
    for analysis, spec_id, state in session.execute(chosen):
        if spec := specs.get(spec_id):
            contents = {part.part: part.content for part in analysis.parts}
            finished = state == State.FINISHED
            try:
                same_environment(analysis.circumstances, analysis.circumstances)
                of_run = (spec.model, spec.recipe.epochs)
                check_parts(analysis.settings, contents, *of_run, finished=finished)
            except ValueError as error:
                yield f"analysis {analysis.id} cannot be read: {first_reason(error)}"


def _shown(name: str) -> str:
    return repr(name if len(name) <= 40 else f"{name[:40]}…")
