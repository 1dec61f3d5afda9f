"""Opening a results database: SQLite by default, by path or SQLAlchemy URL.

Writers take SQLite's write lock at the start of a transaction (`BEGIN IMMEDIATE`): a reader
that turns writer half-way would fail at once, whatever the busy timeout. The rollback journal
with full synchronisation is kept, since WAL loses data in many SQLite versions when two
connections checkpoint at once.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from dia_repro.errors import AbsentError, DiaReproError, UsageError
from dia_repro.results.schema import REVISION, Base

BUSY_SECONDS = 60
NOT_A_DATABASE = ("file is not a database", "malformed", "unsupported file format")
EARLIER_REVISIONS = ("0001", "0002")


class DatabaseError(DiaReproError):
    """The database cannot be read or written: locked, damaged, full, out of reach."""


class ForeignDatabaseError(UsageError):
    """The database is not dia-repro's, or of another version of it."""


class Database:
    """An open results database.

    Attributes:
        location: as the user gave it.
    """

    def __init__(self, engine: Engine, location: str) -> None:
        self._engine = engine
        self._immediate = engine.execution_options(immediate=True)
        self.location = location

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the database throughout."""
        with self._translated(), Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that holds the write lock from its start; commits at the end, or not at all."""
        with self._translated(), Session(self._immediate) as session, session.begin():
            yield session

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            message = f"database {self.location}: {_reason(error)}"
            if any(sign in message for sign in NOT_A_DATABASE):
                raise ForeignDatabaseError(message) from error
            raise DatabaseError(message) from error

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def open_database(location: str, *, create: bool) -> Database:
    """Open a results database.

    Args:
        location: a file's path, or a SQLAlchemy URL.
        create: make it where there is none; otherwise what is missing reads as empty.

    Raises:
        ForeignDatabaseError: it holds other tables, or is of an older or newer version.
        DatabaseError: it cannot be opened.
        UsageError: the location is neither a path nor a URL that SQLAlchemy knows.
    """
    path = sqlite_path(location)
    if path is not None:
        _check_place(path)
    absent = path is not None and not create and not path.exists()
    database = Database(_in_memory() if absent else _engine(location, path, create), location)
    try:
        with database._translated():
            if create:
                _create_if_empty(database)
            elif not _table_names(database):
                # Another process is about to create it: to a reader it is empty still.
                database.close()
                return Database(_in_memory(), location)
            _check_version(database)
    except DiaReproError:
        database.close()
        raise
    return database


def upgrade_database(location: str) -> Path | None:
    """Bring a database of an earlier version to this one's schema, whole or not at all.

    Returns:
        The copy that was made of a SQLite file before; None where nothing was to be done, or of
        another backend, which brings its own means.

    Raises:
        ForeignDatabaseError: there is none, it holds other tables, or is of a newer version.
        DatabaseError: it cannot be read or written.
    """
    path = sqlite_path(location)
    if path is not None:
        _check_place(path)
        if not path.exists():
            raise ForeignDatabaseError(f"there is no database {location}")
    database = Database(_engine(location, path, create=True), location)
    try:
        with database._translated():
            if _version(database) not in EARLIER_REVISIONS:
                _check_version(database)
                return None
            with database._immediate.begin() as connection:
                backup = _back_up(path) if path else None
                _migrate(connection)
            return backup
    finally:
        database.close()


def _back_up(path: Path) -> Path:
    """Copy a database that nobody writes to at present, beside it."""
    number = 1
    while (copy := path.with_name(f"{path.name}.before-upgrade-{number}")).exists():
        number += 1
    shutil.copy2(path, copy)
    return copy


def sqlite_path(location: str) -> Path | None:
    """The file of a SQLite location, or None for another backend."""
    if "://" not in location:
        return Path(location)
    try:
        url = make_url(location)
    except ArgumentError as error:
        raise UsageError(f"--db {location!r} is not a database URL") from error
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:":
        raise UsageError("--db needs a file: a database in memory is lost at the end")
    return Path(url.database)


def _engine(location: str, path: Path | None, create: bool) -> Engine:
    if path is None:
        try:
            return create_engine(location)
        except NoSuchModuleError as error:
            raise UsageError(f"--db {location!r}: unknown kind of database") from error
        except ModuleNotFoundError as error:
            raise AbsentError(
                f"--db {location!r} needs the package {error.name}: "
                "pip install 'dia-repro[postgres]'"
            ) from error
    mode = _sqlite_mode(path, create)
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)

    engine = create_engine("sqlite://", creator=connect)
    _prepare_sqlite(engine)
    return engine


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise ForeignDatabaseError(f"--db {path} is a folder: give a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"--db {path}: the folder {path.parent} does not exist")


def _sqlite_mode(path: Path, create: bool) -> str:
    if create:
        return "rwc"
    # A writer that was killed leaves a journal, which only a connection that may write rolls back.
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return "rw" if writable else "ro"


def _in_memory() -> Engine:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    _prepare_sqlite(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("create table alembic_version (version_num varchar(32))"))
        insert = text("insert into alembic_version values (:revision)")
        connection.execute(insert, {"revision": REVISION})
    return engine


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma synchronous = full")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("begin immediate" if immediate else "begin")


def _create_if_empty(database: Database) -> None:
    if _table_names(database):
        return
    # Under the write lock a second look: another process may have been faster.
    with database._immediate.begin() as connection:
        if not inspect(connection).get_table_names():
            _migrate(connection)


def _table_names(database: Database) -> set[str]:
    with database._engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "dia_repro.results:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _version(database: Database) -> str | None:
    """The schema's version, or None where there is no table that says so."""
    if "alembic_version" not in _table_names(database):
        return None
    with database._engine.connect() as connection:
        found = connection.execute(text("select version_num from alembic_version")).scalar()
    return found if isinstance(found, str) else None


def _check_version(database: Database) -> None:
    if not {"alembic_version", "runs", "specs"} <= _table_names(database):
        raise ForeignDatabaseError(
            f"{database.location} is not a dia-repro database: it has other tables"
        )
    version = _version(database)
    if version == REVISION:
        return
    if version in EARLIER_REVISIONS:
        raise ForeignDatabaseError(
            f"{database.location} has the older schema {version}: run 'dia-repro db upgrade'"
        )
    raise ForeignDatabaseError(
        f"{database.location} has schema {version}, newer than this dia-repro knows "
        f"({REVISION}): update dia-repro; nothing was changed"
    )


def _reason(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())
