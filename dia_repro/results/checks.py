"""Whether a database is sound: its pages, its references, its schema, its rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, text

from dia_repro.results.backends import sqlite_path
from dia_repro.results.database import Database
from dia_repro.results.file_systems import network_file_system
from dia_repro.results.schema import Base
from dia_repro.results.soundness import problems

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
