"""The two kinds of database: a SQLite file, by path or URL, and PostgreSQL.

Both keep the same promises. A writing transaction holds the one write lock from its start:
SQLite's own (`BEGIN IMMEDIATE`: a reader that becomes a writer would fail at once, whatever the
busy timeout), or a PostgreSQL advisory lock. A reading one sees one state throughout. SQLite keeps
its rollback journal with full synchronisation, since WAL loses data in many versions when two
connections checkpoint at once. Connections are not kept: a file that was removed or a server that
was restarted is noticed at the next transaction.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from dia_repro import interrupts
from dia_repro.errors import AbsentError, UsageError, displayed

# How long other processes may be writing. The drivers wait for a part of it at a time: Python runs
# no handler of a signal while SQLite's own code waits.
BUSY_SECONDS = 60.0
ONE_WAIT_SECONDS = 1.0
# Options of libpq, by which a server or a network that is gone is noticed within two minutes.
POSTGRES_OPTIONS = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "client_encoding": "UTF8",  # a database of an older cluster may have SQL_ASCII
}
SMALLEST_PAGE = 512
DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")
LONGEST_SHOWN = 100  # characters of a path that cannot be used
# SQLite's instructions between two moments in which Python runs handlers of signals: about 2 ms.
INSTRUCTIONS = 100_000
LOCKED = "database is locked"  # SQLite's words
# PostgreSQL's codes, since its words are in the server's language: a lock was not to be had in
# time, or two transactions waited for each other.
LOCKED_CODES = ("55P03", "40P01")
# Number of the advisory lock that PostgreSQL's writers take; no other program uses it.
WRITE_LOCK = 0x_D1A_2020
# These keep SQLite's locks badly.
NETWORK_FILE_SYSTEM = re.compile(
    r"nfs4?|cifs|smb3|smbfs|9p|afs|beegfs|ceph|glusterfs|gpfs|lustre|fuse\.(sshfs|glusterfs|s3fs)"
)


class ForeignDatabaseError(UsageError):
    """The database is not dia-repro's, or of another version of it."""


def sqlite_path(location: str) -> Path | None:
    """Return the file of a SQLite location, or None for another backend."""
    if "://" not in location:
        return Path(location)
    url = _url(location)
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:":
        raise UsageError("--db needs a file: a database in memory is lost at the end")
    return Path(url.database)


def make_engine(location: str, *, create: bool) -> Engine:
    """Return an engine whose transactions keep the promises above.

    Args:
        create: whether a SQLite file may be made.

    Raises:
        AbsentError: the package for PostgreSQL is not installed.
        UsageError: the location is of no kind that dia-repro knows.
    """
    path = sqlite_path(location)
    return _postgres(location) if path is None else _sqlite(path, create)


def exists(path: Path) -> bool:
    """Return whether a SQLite file is there.

    Raises:
        UsageError: its name is too long, or a folder above it cannot be searched.
    """
    try:
        return path.exists()
    except OSError as error:
        raise UsageError(f"--db {str(path)[:LONGEST_SHOWN]}: {error.strerror or error}") from error


def check_place(path: Path) -> None:
    """Raise `UsageError` where no SQLite file can be."""
    there = exists(path)
    if path.is_dir():
        raise ForeignDatabaseError(f"--db {path} is a folder: give a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"--db {path}: the folder {path.parent} does not exist")
    if there and not path.is_file():
        raise ForeignDatabaseError(f"--db {path} is not a file")
    # SQLite takes a file of one byte for an empty database, and would write over it.
    if there and 0 < path.stat().st_size < SMALLEST_PAGE:
        raise ForeignDatabaseError(f"--db {path} is not a database")


def check_leftovers(path: Path) -> None:
    """Refuse to make a SQLite file where another one of its name left a journal or a log.

    SQLite would roll the journal back into the new file.

    Raises:
        ForeignDatabaseError: there are such files.
    """
    names = [path.with_name(path.name + suffix) for suffix in ("-journal", "-wal")]
    if left := [name for name in names if os.path.lexists(name)]:
        raise ForeignDatabaseError(
            f"{left[0]} is left of another database that was at {path}: put it next to that one, "
            "which the next command on it makes whole, or remove it"
        )


def network_file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """Return the kind of network file system that a path is on; None on others, or if unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:  # not Linux
        return None
    best, kind = "", ""
    real = os.path.realpath(path)  # a link may lead to a network file system
    for line in filter(None, lines):
        _, mounted, file_system, *_ = line.split(" ")
        folder = mounted.replace("\\040", " ").rstrip("/")
        if (real == folder or real.startswith(f"{folder}/")) and len(folder) >= len(best):
            best, kind = folder, file_system
    return kind if NETWORK_FILE_SYSTEM.fullmatch(kind) else None


def _url(location: str) -> URL:
    try:
        url = make_url(location)
    except (ArgumentError, ValueError) as error:
        raise UsageError(f"--db {displayed(location)!r} is not a database URL") from error
    if "@" in (url.host or ""):  # it would be shown as a host that is not found
        raise UsageError(f"--db {displayed(location)!r}: write @ in a password as %40")
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername not in DRIVERS or (url.drivername == "sqlite" and url.query):
        raise UsageError(
            f"--db {displayed(location)!r}: a database is a path, sqlite:///PATH or "
            "postgresql+psycopg://…"
        )
    return url


def _postgres(location: str) -> Engine:
    url = _url(location)
    try:
        engine = create_engine(url, poolclass=NullPool, connect_args=POSTGRES_OPTIONS)
    except ModuleNotFoundError as error:
        raise AbsentError(
            "a PostgreSQL database needs another package: pip install 'dia-repro[postgres]'"
        ) from error

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        # A setting of the server, the user or the database can have numbers come rounded.
        connection.execute("set extra_float_digits = 3")
        connection.commit()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        if connection.get_execution_options().get("immediate", False):
            _patiently(lambda: _lock_postgres(connection))

    return engine


def _lock_postgres(connection: Connection) -> None:
    wait = round(1000 * ONE_WAIT_SECONDS)
    try:
        connection.exec_driver_sql(f"set local lock_timeout = {wait}")
        # A limit of the role's on statements would end the wait with another code.
        connection.exec_driver_sql("set local statement_timeout = 0")
        connection.exec_driver_sql(f"select pg_advisory_xact_lock({WRITE_LOCK})")
        # What else may be waited for is what other programs do with the tables.
        connection.exec_driver_sql(f"set local lock_timeout = {round(1000 * BUSY_SECONDS)}")
        connection.exec_driver_sql("set local statement_timeout to default")
    except DBAPIError:
        connection.connection.rollback()  # it accepts no more statements; the next try begins again
        raise


def _patiently(call: Callable[[], object]) -> None:
    """Try again while other processes write, for as long as `BUSY_SECONDS`."""
    begun = time.monotonic()
    while True:
        try:
            call()
        except (sqlite3.OperationalError, DBAPIError) as error:
            if not is_locked(error) or interrupts.patience_ends(begun, BUSY_SECONDS):
                raise
        else:
            return


def is_locked(error: Exception) -> bool:
    """Return whether a database could not be used since other processes write to it."""
    original = getattr(error, "orig", error)  # without the statement, which may quote anything
    return LOCKED in str(original) or getattr(original, "sqlstate", None) in LOCKED_CODES


def is_interrupted(error: DBAPIError) -> bool:
    """Return whether a signal ended a statement of SQLite's."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return bool(code == sqlite3.SQLITE_INTERRUPT)


def upgraders_of(engine: Engine) -> Engine:
    """Return the engine for a change of the schema, in which SQLite replaces whole tables.

    Rows that refer to those of a replaced table would go with it: no reference is looked at.
    """
    return writers_of(engine).execution_options(references=False)


def writers_of(engine: Engine) -> Engine:
    """Return the engine for transactions that hold the write lock from their start.

    They see what was committed before they got the lock. In PostgreSQL's stricter isolation levels,
    which a server may have as default, they would see what was before they began to wait for it.
    """
    if engine.dialect.name != "sqlite":
        engine = engine.execution_options(isolation_level="READ COMMITTED")
    return engine.execution_options(immediate=True)


def create_file(path: Path) -> None:
    """Create an empty file for SQLite where there is none, with what the umask allows.

    SQLite itself would never let a group write; its journals are like the database. Where the file
    cannot be created, SQLite says so.
    """
    with suppress(OSError):
        path.touch(exist_ok=False)


def _sqlite(path: Path, create: bool) -> Engine:
    mode = "rwc"
    if create:
        if not os.path.lexists(path):
            check_leftovers(path)
        create_file(path)
    else:
        # A killed writer leaves a journal, which only a connection that may write rolls back.
        writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        mode = "rw" if writable else "ro"
    # With an empty authority, or a path that begins with // would be taken for one.
    uri = f"file://{quote(os.fsencode(path.absolute()))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            uri, uri=True, timeout=ONE_WAIT_SECONDS, isolation_level=None, factory=_Patient
        )

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say
        # A handler that raises `Interrupted` in it ends the statement.
        connection.set_progress_handler(lambda: 0, INSTRUCTIONS)
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma cache_spill = off")  # only a commit has to wait for readers
        _patiently(lambda: connection.execute("pragma synchronous = full"))  # reads the schema

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        immediate = options.get("immediate", False)
        if not options.get("references", True):  # SQLite takes this outside a transaction only
            connection.exec_driver_sql("pragma foreign_keys = off")
        _patiently(lambda: _begin_sqlite(connection, immediate=immediate))

    return engine


def _begin_sqlite(connection: Connection, *, immediate: bool) -> None:
    if immediate:
        connection.exec_driver_sql("begin immediate")
        return
    connection.exec_driver_sql("begin")
    try:  # a lock to read is taken by what is read first, and waited for here
        connection.exec_driver_sql("select 1 from sqlite_master limit 1").all()
    except DBAPIError:
        connection.connection.rollback()
        raise


class _Patient(sqlite3.Connection):
    """A connection that waits for readers to end before it commits."""

    def commit(self) -> None:
        """Commit; the transaction stays open where that fails."""
        _patiently(super().commit)
