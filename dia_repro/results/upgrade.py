"""Copies of a database, and the upgrade of an older one to this version's schema."""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Double, Float, MetaData
from sqlalchemy.orm import Session

from dia_repro import interrupts
from dia_repro.atomic import flush_file, publish_new
from dia_repro.errors import AbsentError, UsageError, displayed
from dia_repro.results import backends, migrations
from dia_repro.results.backends import ForeignDatabaseError
from dia_repro.results.checks import id_problems, schema_problems
from dia_repro.results.database import Database, DatabaseError, LockedError
from dia_repro.results.migrations import EARLIER_REVISIONS
from dia_repro.results.schema import Real

ROWS_AT_A_TIME = 10_000
LOCK_SECONDS = 10.0  # how long another process may be copying into the same folder
UNFINISHED = ".copy.partial"  # end of the name of a copy that is being written


class BackupError(AbsentError):
    """The copy cannot be made there."""


class BackupExistsError(UsageError):
    """There is a file of that name, which stays as it is."""


def upgrade_database(location: str) -> Path | None:
    """Bring a database of an earlier version to this one's schema, whole or not at all.

    No other process can write meanwhile. A kill half-way leaves the database as it was.

    Returns:
        The copy that was made before, a SQLite file; None if the schema was this version's.

    Raises:
        ForeignDatabaseError: there is none, it holds other tables, columns, views or triggers, or
            is of a newer version.
        BackupError: the copy cannot be made; nothing was changed.
        DatabaseError: it cannot be read or written.
    """
    path = backends.sqlite_path(location)
    if path is not None:
        backends.check_place(path)
        if not path.exists():
            raise ForeignDatabaseError(f"there is no database {displayed(location)}")
    # With create, SQLite refuses a file that may not be written instead of reading it.
    engine = backends.make_engine(location, create=True)
    database = Database(engine, location)
    with database.translated(), backends.upgraders_of(engine).begin() as connection:
        migrations.check_objects(connection, database.name)
        if migrations.found(connection) in EARLIER_REVISIONS:
            with Session(connection) as session:
                problem = next(id_problems(session), None)
            if problem:  # migrations read specs
                raise ForeignDatabaseError(f"{database.name}: {problem}; nothing was changed")
            copy = _new_name(path or Path("runs.db"))
            _copy_within(connection, path, copy)
            migrations.migrate(connection)
            _check_schema(connection, database.name)
            return copy
        migrations.check(connection, database.name)
        _check_schema(connection, database.name)
    return None


def _check_schema(connection: Connection, name: str) -> None:
    """Refuse a database of which migrations do not make this version's.

    Raises:
        ForeignDatabaseError: a table or a column is another one, or is missing.
    """
    if (problem := next(schema_problems(connection), None)) is not None:
        raise ForeignDatabaseError(
            f"{name} is of no version that can be upgraded: {problem}; it was not changed"
        )


def back_up(database: Database, target: Path) -> None:
    """Copy a database, as it is at one moment, into a new SQLite file.

    Raises:
        BackupExistsError: there is such a file.
        ForeignDatabaseError: another database of that name left a journal there.
        BackupError: it cannot be written.
        DatabaseError: the database cannot be read, or another copy into the folder takes long.
    """
    if target.exists():
        raise _exists(target)
    backends.check_leftovers(target)
    path = backends.sqlite_path(database.location)
    with database.reading() as session:
        _copy_within(session.connection(), path, target)


def _new_name(path: Path) -> Path:
    copies = (path.with_name(f"{path.name}.before-upgrade-{number}") for number in count(1))
    return next(copy for copy in copies if not copy.exists())


def _copy_within(connection: Connection, path: Path | None, target: Path) -> None:
    """Copy what a transaction sees; the file appears when it is whole and on the disk."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with _without_leftovers(target.parent):
            if path is None:
                _copy_rows(connection, partial)
            else:
                backends.create_file(partial)
                # Another connection: one that holds the write lock cannot be copied from.
                with closing(_reader(path)) as source, closing(sqlite3.connect(partial)) as copy:
                    source.backup(copy)
            with partial.open("rb+") as file:
                flush_file(file)
            _check_copy(partial)
            publish_new(partial, target)
    except FileExistsError:
        raise _exists(target) from None
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise BackupError(f"cannot copy the database to {target}: {reason}") from error
    finally:
        with suppress(OSError):
            for leftover in (partial, partial.with_name(f"{partial.name}-journal")):
                leftover.unlink(missing_ok=True)


@contextmanager
def _without_leftovers(folder: Path) -> Iterator[None]:
    """Make copies in a folder one at a time, and remove those that killed processes have left.

    Where a file system cannot lock a folder, such as NFS, they stay.

    Raises:
        OSError: there is no such folder.
        LockedError: another process keeps it locked.
    """
    number = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            _lock(number, folder)
            for leftover in folder.glob(f".*{UNFINISHED}*"):  # and its journal
                leftover.unlink()
        yield
    finally:
        os.close(number)


def _lock(number: int, folder: Path) -> None:
    """Lock an open folder; wait a little for another process, whose copy may be large."""
    begun = time.monotonic()
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if interrupts.patience_ends(begun, LOCK_SECONDS):
                raise LockedError(
                    f"the folder {folder.absolute()} is locked by another process, which may be "
                    "copying a database into it: try again when it has ended"
                ) from None
            time.sleep(LOCK_SECONDS / 100)
        else:
            return


def _exists(target: Path) -> BackupExistsError:
    return BackupExistsError(f"{target} exists: a backup overwrites nothing")


def _reader(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file://{quote(os.fsencode(path.absolute()))}?mode=ro", uri=True)


def _check_copy(copy: Path) -> None:
    with closing(_reader(copy)) as connection:
        (verdict,) = connection.execute("pragma quick_check(1)").fetchone()
    if verdict != "ok":
        raise DatabaseError(f"the database is damaged, and was not copied: {verdict}")


def _copy_rows(source: Connection, target: Path) -> None:
    """Copy every row into tables of the same version of the schema."""
    engine = backends.make_engine(str(target), create=True)
    with backends.writers_of(engine).begin() as connection:
        migrations.migrate(connection, migrations.found(source) or "head")
        tables = MetaData()
        tables.reflect(connection)
        for table in tables.sorted_tables:
            for column in table.columns:
                if isinstance(column.type, Double | Float):
                    column.type = Real()  # reflection cannot know how it keeps nan
            if table.name != migrations.TABLE:
                rows = source.execute(
                    table.select(), execution_options={"yield_per": ROWS_AT_A_TIME}
                )
                for part in rows.mappings().partitions():
                    connection.execute(table.insert(), [dict(row) for row in part])
