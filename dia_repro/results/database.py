"""Opening a results database, and its transactions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from threading import local
from typing import ParamSpec, TypeVar

from sqlalchemy import Engine, ExceptionContext, create_engine, delete, event, select
from sqlalchemy.exc import DBAPIError, NoResultFound
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from dia_repro import interrupts
from dia_repro.errors import ABSENT, AbsentError, DiaReproError, UsageError, displayed
from dia_repro.results import backends, migrations
from dia_repro.results.backends import ForeignDatabaseError, sqlite_path
from dia_repro.results.parts import first_reason
from dia_repro.results.schema import (
    OURS,
    AnalysisPartRow,
    AnalysisRow,
    Base,
    EpochRow,
    LeaseRow,
    ProvenanceRow,
    RunRow,
    SpecRow,
    now,
)

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")
NOT_A_DATABASE = ("file is not a database", "malformed", "unsupported file format")


class DatabaseError(DiaReproError):
    """The database cannot be read or written: locked, damaged, full, out of reach."""


class LockedError(DatabaseError):
    """Other processes wrote for longer than one waits; nothing has been changed."""


class VanishedError(DatabaseError):
    """The database was there, and is not any more."""

    exit_code = ABSENT


class NoDatabaseError(AbsentError):
    """The database that was named is not there."""


class Database:
    """An open results database.

    Attributes:
        location: path or URL as the user gave it.
        name: location without a password, for messages.
        engine: the engine, for what needs no transaction.
        origin: whose runs are read where runs are asked for by their specs; see `of`.
        is_stand_in: whether this is an empty database in memory, since there are no tables yet at
            the location.
    """

    def __init__(self, engine: Engine, location: str, *, is_stand_in: bool = False) -> None:
        self.engine, self._readers = engine, engine
        if engine.dialect.name != "sqlite":  # whose readers see one state always
            self._readers = engine.execution_options(isolation_level="REPEATABLE READ")
        self._writers = backends.writers_of(engine)
        self.location, self.name = location, displayed(location)
        # A merge reads one database while it writes another: an error says in which it came up.
        event.listen(engine, "handle_error", self._sign)
        self.origin, self.is_stand_in = OURS, is_stand_in
        self._of_thread = local()

    def _sign(self, context: ExceptionContext) -> None:
        context.original_exception.__dict__.setdefault("database", self.name)

    def of(self, origin: str) -> Database:
        """Return the same database, from which others' runs are read instead of ours.

        Raises:
            UsageError: it has no runs of that origin.
        """
        known = self.origins()
        if origin not in known:
            named = ", ".join(map(repr, known)) or "none"
            raise UsageError(f"{self.name} has no runs of {origin!r}: runs of others are {named}")
        theirs = copy.copy(self)
        theirs.origin = origin
        return theirs

    def origins(self) -> tuple[str, ...]:
        """Return whose runs it has besides ours, sorted."""
        with self.reading() as session:
            known = session.scalars(select(RunRow.origin).distinct().order_by(RunRow.origin))
            return tuple(origin for origin in known if origin != OURS)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the database throughout; rows stay readable after it.

        Within another one of the same thread, it is that session.
        """
        outer: Session | None = getattr(self._of_thread, "session", None)
        if outer is not None:
            yield outer
            return
        with (
            self.translated(),
            Session(self._readers, expire_on_commit=False) as session,
            session.begin(),
        ):
            self._of_thread.session = session
            try:
                yield session
            finally:
                self._of_thread.session = None

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that holds the write lock from its start; commits at the end, or not at all."""
        with self.translated(), Session(self._writers) as session, session.begin():
            yield session

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the backend's errors into `DatabaseError` or `ForeignDatabaseError`."""
        interrupts.check()
        try:
            yield
        except DBAPIError as error:
            if backends.is_interrupted(error):
                raise interrupts.Interrupted from error
            name = getattr(error.orig, "database", self.name)
            reason = " ".join(str(error.orig).split())
            message = f"database {name}: {reason}"
            if any(sign in reason for sign in NOT_A_DATABASE):
                raise ForeignDatabaseError(message) from error
            kind = LockedError if backends.is_locked(error) else DatabaseError
            raise kind(message) from error
        except (NoResultFound, ValueError) as error:
            if isinstance(error, DiaReproError):
                raise
            # dia-repro writes no invalid date, no text that is not UTF-8, no row without parent.
            raise DatabaseError(
                f"database {self.name} is damaged: {first_reason(error)}: see 'dia-repro db check'"
            ) from error

    def check_there(self) -> None:
        """See that a database that could be read a while ago still can be.

        Raises:
            VanishedError: its file was removed, or its server does not answer.
        """
        path = sqlite_path(self.location)
        try:
            if path is not None and not path.is_file():
                raise DatabaseError("there is no such file any more")
            with self.reading() as session:
                session.execute(select(RunRow.id).limit(1))
        except DiaReproError as error:
            reason = str(error).removeprefix(f"database {self.name}: ")
            raise VanishedError(
                f"database {self.name} is gone ({reason}); runs under way keep their weights: "
                "bring it back, and the same command goes on"
            ) from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_database(location: str, *, create: bool) -> Database:
    """Open a results database.

    Args:
        location: a file's path, or a SQLAlchemy URL.
        create: make it where there is none; otherwise what is missing reads as empty.

    Raises:
        ForeignDatabaseError: it holds other tables, views or triggers, or is of an older or newer
            version.
        DatabaseError: it cannot be opened.
        UsageError: the location is neither a path nor a URL of a kind that is known.
    """
    path = sqlite_path(location)
    if path is not None:
        backends.check_place(path)
        if not create and not path.exists():
            return _empty(location)
    database = Database(backends.make_engine(location, create=create), location)
    with database.translated():
        with database.engine.connect() as connection:
            migrations.check_objects(connection, database.name)
            empty = not migrations.table_names(connection)
        if empty and not create:
            # Another process is about to create it: to a reader it is empty still.
            return _empty(location)
        if empty:
            migrations.create_if_empty(database.engine)
        with database.engine.connect() as connection:
            migrations.check(connection, database.name)
    if create and path is not None:
        # Created once is enough: a file that is removed later must not be found empty.
        return Database(backends.make_engine(location, create=False), location)
    return database


def try_creating(location: str) -> None:
    """Make the tables in an empty file or an empty database of a server, and undo it.

    Raises:
        DatabaseError: they cannot be made, or it cannot be opened.
    """
    database = Database(backends.make_engine(location, create=False), location)
    with closing(database), database.writing() as session:
        connection = session.connection()
        if not migrations.table_names(connection):  # another process may have been faster
            migrations.migrate(connection)
        session.rollback()


def try_rows(database: Database) -> None:
    """Add a row to each table, change and remove one, and undo all of it.

    Raises:
        DatabaseError: it cannot be done.
    """
    with database.writing() as session:
        spec = SpecRow(spec_id="probe", json="{}")
        session.add(spec)
        session.flush()
        run = RunRow(spec_id=spec.spec_id, seed=0)
        unit = dict.fromkeys(("lr", "train_loss", "train_top1", "seconds"), 1.0)
        run.epochs.append(EpochRow(epoch=1, **unit))
        words = ("host", "device", "python", "torch", "package", "command", "data_sha256")
        texts = dict.fromkeys(words, "probe")
        attempt = ProvenanceRow(started_at=now(), threads=1, from_epoch=0, **texts)
        run.attempts.append(attempt)
        analysis = AnalysisRow(settings="{}", circumstances="{}")
        analysis.parts.append(AnalysisPartRow(part=1, content="{}", seconds=1.0))
        run.analyses.append(analysis)
        session.add(run)
        session.flush()
        session.add(LeaseRow(run_id=run.id, attempt=attempt.id, lock_id="probe"))
        run.reason = "probe"
        session.flush()
        session.execute(delete(LeaseRow).filter_by(run_id=run.id))
        session.execute(delete(RunRow).filter_by(id=run.id))
        session.rollback()


def one_state(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Let all reads of a function see one state of the database among its arguments."""

    @wraps(function)
    def reading(*arguments: Arguments.args, **options: Arguments.kwargs) -> Answer:
        given = (*arguments, *options.values())
        with next(value for value in given if isinstance(value, Database)).reading():
            return function(*arguments, **options)

    return reading


def open_existing(location: str) -> Database:
    """Open a database that has to be there.

    Raises:
        NoDatabaseError: there is no such file.
        DiaReproError: see `open_database`.
    """
    path = sqlite_path(location)
    if path is not None and not backends.exists(path):
        raise NoDatabaseError(f"there is no database {displayed(location)}")
    return open_database(location, create=False)


def _empty(location: str) -> Database:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    return Database(engine, location, is_stand_in=True)
