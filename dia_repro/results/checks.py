"""Whether a database is sound: its pages, its references, its schema, its runs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from dia_repro.results.backends import sqlite_path
from dia_repro.results.database import Database
from dia_repro.results.place import network_file_system
from dia_repro.results.schema import Base, EpochRow, RunRow, SpecRow, State

# Versions in which two connections that checkpoint a WAL at once may damage the database.
FIRST_WITHOUT_WAL_BUG = (3, 51, 3)
ALSO_WITHOUT_WAL_BUG = ((3, 44, 6), (3, 50, 7))


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        bad: whether results are or may be wrong or lost; else it is only to be known.
    """

    text: str
    bad: bool = True


def database_findings(database: Database) -> Iterator[Finding]:
    """What is wrong inside a database that opens.

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
        yield from _run_findings(connection)


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


def _run_findings(connection: Connection) -> Iterator[Finding]:
    counts = select(EpochRow.run_id, func.count().label("epochs"), func.max(EpochRow.epoch))
    epochs = {
        run: (count, last) for run, count, last in connection.execute(counts.group_by("run_id"))
    }
    stored = connection.execute(select(SpecRow.__table__))
    specs = {row.spec_id: _epochs_of(row.json) for row in stored}
    for spec_id, wanted in specs.items():
        if wanted is None:
            yield Finding(f"a spec cannot be read: {spec_id} is no JSON with recipe.epochs")
    for run in connection.execute(select(RunRow.__table__).order_by(RunRow.id)):
        count, last = epochs.get(run.id, (0, 0))
        if count != last:
            yield Finding(f"run {run.id} has {count} epochs, the last of which is epoch {last}")
        wanted = specs.get(run.spec_id)
        if run.state == State.FINISHED and wanted is not None and count != wanted:
            yield Finding(f"run {run.id} is finished with {count} epochs, not all of its spec's")


def _epochs_of(spec: str) -> int | None:
    try:
        epochs = json.loads(spec)["recipe"]["epochs"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return epochs if isinstance(epochs, int) else None
