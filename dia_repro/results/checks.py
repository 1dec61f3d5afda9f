"""Whether a database is sound: its pages, references and schema, and rows that dia-repro writes.

`db check` asks for all of it, a merge for the rows before it takes them over.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from math import isclose, isfinite

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Integer,
    Table,
    func,
    or_,
    select,
    text,
)
from sqlalchemy.orm import Session

from dia_repro.experiments.spec import InvalidSpecError, Spec, spec_id_of
from dia_repro.results.backends import network_file_system, sqlite_path
from dia_repro.results.database import Database
from dia_repro.results.parts import check_parts, first_reason
from dia_repro.results.schema import (
    AnalysisPartRow,
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

# Versions in which two connections that checkpoint a WAL at once may damage the database.
FIRST_WITHOUT_WAL_BUG = (3, 51, 3)
ALSO_WITHOUT_WAL_BUG = ((3, 44, 6), (3, 50, 7))
UID = re.compile(r"[0-9a-f]{32}")
LARGEST_SEED = 2**31 - 1
UNITS = {column.name: column.info["unit"] for column in EpochRow.__table__.columns}
LEAST_OF_ATTEMPTS = {"threads": 1, "wall_seconds": 0, "peak_memory_bytes": 0, "test_images": 1}
ACCURACIES = tuple(name for name, unit in UNITS.items() if unit == "%")
NOT_NEGATIVE = tuple(name for name, unit in UNITS.items() if unit)


@dataclass(frozen=True)
class Finding:
    """A problem of a database.

    Attributes:
        bad: whether results are or may be wrong or lost; else it is only to be known.
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
            yield from _sqlite_findings(connection)
            file_system = network_file_system(path)
            if file_system:
                yield Finding(f"{path} is on a network file system ({file_system})", bad=False)
        yield from _schema_findings(connection)
        yield from map(Finding, problems(session))


def _sqlite_findings(connection: Connection) -> Iterator[Finding]:
    for (verdict,) in connection.execute(text("pragma integrity_check(20)")):
        if verdict != "ok":
            yield Finding(f"damaged: {verdict}")
    for table, row, parent, _ in connection.execute(text("pragma foreign_key_check")):
        yield Finding(f"row {row} of {table} refers to a row of {parent} that is not there")
    (mode,) = connection.execute(text("pragma journal_mode")).one()
    if mode == "wal" and not _wal_is_safe(sqlite3.sqlite_version_info):
        yield Finding(
            f"it keeps a write-ahead log, which SQLite {sqlite3.sqlite_version} may damage: "
            "sqlite3 FILE 'pragma journal_mode = delete'"
        )


def _wal_is_safe(version: tuple[int, ...]) -> bool:
    return version >= FIRST_WITHOUT_WAL_BUG or version in ALSO_WITHOUT_WAL_BUG


def _schema_findings(connection: Connection) -> Iterator[Finding]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    for difference in compare_metadata(MigrationContext.configure(connection), Base.metadata):
        what = difference[0] if isinstance(difference, tuple) else difference[0][0]
        yield Finding(f"the schema is not this version's: {what} {difference[-1]!r}"[:200])


def problems(session: Session) -> Iterator[str]:
    """Say what is in a database that dia-repro does not write, the most basic first.

    What is of another type would stop the search for the rest, which is then left out.
    """
    basic = [*_wrong_types(session)]
    yield from basic
    if not basic:
        yield from chain(
            id_problems(session),
            _impossible_values(session),
            _wrong_counts(session),
            _mixed_data(session),
            _mixed_test_images(session),
            _mixed_parameters(session),
            _unreadable_analyses(session),
        )


def _wrong_types(session: Session) -> Iterator[str]:
    """SQLite keeps whatever it is given, in a column of any type."""
    if session.get_bind().dialect.name != "sqlite":
        return
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            wrong = _first_of_another_type(session, table, column)
            if wrong is not None:
                yield f"row {wrong} of {table.name} has a {column.name} of another type or size"


def _first_of_another_type(session: Session, table: Table, column: Column[object]) -> object:
    name = f'"{column.name}"'
    # Other backends hold 32 bits in an Integer.
    right = {
        BigInteger: f"typeof({name}) = 'integer'",
        Integer: f"typeof({name}) = 'integer' and {name} between -{2**31} and {2**31 - 1}",
        Boolean: f"typeof({name}) = 'integer' and {name} in (0, 1)",
        Real: f"typeof({name}) in ('real', 'integer') or {name} in ('nan', 'inf', '-inf')",
        DateTime: f"typeof({name}) = 'text' and datetime({name}) is not null",
    }
    kind = next((known for known in right if isinstance(column.type, known)), None)
    allowed = right[kind] if kind else f"typeof({name}) = 'text'"
    empty = f"{name} is null" if column.nullable else "false"
    query = f"select rowid from {table.name} where not ({empty} or {allowed}) limit 1"  # noqa: S608
    return session.execute(text(query)).scalar()


def id_problems(session: Session) -> Iterator[str]:
    """Say which ids are not what they should be; paths of checkpoints are made of them."""
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


def _impossible_values(session: Session) -> Iterator[str]:
    """Say which values no training can have given."""
    yield from _impossible_epochs(session)
    runs = select(RunRow.id, RunRow.seed, RunRow.parameters)
    for run, seed, parameters in session.execute(runs):
        if not 0 <= seed <= LARGEST_SEED:
            yield f"run {run} has the seed {seed}"
        if parameters is not None and parameters < 1:
            yield f"run {run} has {parameters} parameters"
    for name, least in LEAST_OF_ATTEMPTS.items():
        column = getattr(ProvenanceRow, name)
        for run, value in session.execute(
            select(ProvenanceRow.run_id, column).where(column < least)
        ):
            yield f"run {run} has an attempt with {name} {value:g}"


def _impossible_epochs(session: Session) -> Iterator[str]:
    columns = {name: getattr(EpochRow, name) for name in NOT_NEGATIVE}
    # What is not finite is more than any number, to either backend.
    outside = [column < 0.0 for column in columns.values()]
    outside += [columns[name] > 100.0 for name in ACCURACIES]
    for row in session.scalars(select(EpochRow).where(or_(*outside))):
        for name in NOT_NEGATIVE:
            value = getattr(row, name)
            if (name in ACCURACIES and not 0 <= value <= 100) or (isfinite(value) and value < 0):
                yield f"run {row.run_id} has {name} {value:g} in epoch {row.epoch}"
    rates = select(RunRow.spec_id, EpochRow.epoch, EpochRow.lr, func.min(RunRow.id))
    grouped = rates.join(RunRow, RunRow.id == EpochRow.run_id).group_by(
        RunRow.spec_id, EpochRow.epoch, EpochRow.lr
    )
    specs = {row.spec_id: _spec(row.json) for row in session.scalars(select(SpecRow))}
    for spec_id, epoch, lr, run in session.execute(grouped):
        spec = specs.get(spec_id)
        if spec and not isclose(lr, spec.recipe.rate_in(epoch - 1), rel_tol=1e-9):
            yield f"run {run} has lr {lr:g} in epoch {epoch}, not its spec's"


def _wrong_counts(session: Session) -> Iterator[str]:
    counted = select(
        EpochRow.run_id, func.count(), func.min(EpochRow.epoch), func.max(EpochRow.epoch)
    )
    epochs = {row[0]: tuple(row[1:]) for row in session.execute(counted.group_by(EpochRow.run_id))}
    specs = {row.spec_id: _spec(row.json) for row in session.scalars(select(SpecRow))}
    attempts: dict[int, list[int]] = {}
    began = select(ProvenanceRow.run_id, ProvenanceRow.from_epoch).order_by(ProvenanceRow.id)
    for run_id, from_epoch in session.execute(began):
        attempts.setdefault(run_id, []).append(from_epoch)
    for run in session.scalars(select(RunRow).order_by(RunRow.id)):
        count, first, last = epochs.get(run.id, (0, 1, 0))
        if (first, last) != (1, count):
            yield f"run {run.id} has {count} epochs, the last of which is epoch {last}"
        if (spec := specs.get(run.spec_id)) is None:
            continue  # said already
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


def _mixed_parameters(session: Session) -> Iterator[str]:
    """The network of a spec has one number of parameters."""
    known = func.count(RunRow.parameters.distinct())
    for spec_id, count in session.execute(
        select(RunRow.spec_id, known).group_by(RunRow.spec_id).having(known > 1)
    ):
        yield f"runs of spec {_shown(spec_id)} count {count} different numbers of parameters"


def _spec(content: str) -> Spec | None:
    try:
        return Spec.from_stored(content)
    except InvalidSpecError:
        return None


def _mixed_data(session: Session) -> Iterator[str]:
    """Runs of one spec are shown together: their data have to be the same."""
    for spec_id, hashes in data_hashes(session).items():
        if len(hashes) > 1:
            yield (
                f"runs of spec {_shown(spec_id)} were trained on {len(hashes)} different data sets"
            )


def _mixed_test_images(session: Session) -> Iterator[str]:
    """Data have one number of test images; old rows say none."""
    for data_sha256, counts in numbers_of_test_images(session).items():
        if len(counts) > 1:
            numbers = ", ".join(map(str, sorted(counts)))
            yield f"data {_shown(data_sha256)} have different numbers of test images: {numbers}"


def _unreadable_analyses(session: Session) -> Iterator[str]:
    """Say which analyses are not what dia-repro writes; those of unreadable specs are left out."""
    chosen = (
        select(AnalysisRow.id, AnalysisRow.settings, SpecRow.json)
        .join(RunRow, RunRow.id == AnalysisRow.run_id)
        .join(SpecRow, SpecRow.spec_id == RunRow.spec_id)
    )
    known = {row[0]: (row[1], _spec(row[2])) for row in session.execute(chosen)}
    parts: dict[int, dict[int, str]] = {number: {} for number in known}
    columns = (AnalysisPartRow.analysis_id, AnalysisPartRow.part, AnalysisPartRow.content)
    for number, part, content in session.execute(select(*columns)):
        parts.setdefault(number, {})[part] = content
    for number, (settings, spec) in known.items():
        if spec is None:
            continue  # said already
        try:
            check_parts(settings, parts[number], spec.model.backbone.stages)
        except ValueError as error:
            yield f"analysis {number} cannot be read: {first_reason(error)}"


def _shown(name: str) -> str:
    return repr(name if len(name) <= 40 else f"{name[:40]}…")
