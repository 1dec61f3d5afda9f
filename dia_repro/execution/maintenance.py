"""Maintenance of runs and their checkpoints: stores, dead runs, folders without a run, removal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import text

from dia_repro.errors import UsageError
from dia_repro.execution import leasing
from dia_repro.execution.run_store import RunStore
from dia_repro.results import leases, writer
from dia_repro.results.backends import make_engine, sqlite_path
from dia_repro.results.checks import Finding
from dia_repro.results.database import Database, DatabaseError, LockedError
from dia_repro.results.leases import Owner
from dia_repro.results.queries import RunSummary, UnknownRunError, all_runs, run_detail
from dia_repro.results.schema import OURS, State
from dia_repro.training.checkpoint import run_folder, sorted_names
from dia_repro.training.probing import check_reachable
from dia_repro.training.store import Store, store_at


class BusyRunError(UsageError):
    """The run is being trained."""


def checkpoint_store(database: Database, location: str | None = None) -> Store:
    """Return the store of the checkpoints of a database's runs.

    Args:
        location: a folder or a URL; by default `default_root`.

    Raises:
        UsageError, AbsentError: see `store_at`.
    """
    return store_at(location) if location is not None else Store(default_root(database.location))


def reachable_store(database: Database, location: str | None) -> Store:
    """Return the store of checkpoints that was named, or the default; seen to answer.

    Raises:
        UsageError: the location is neither a folder nor a URL of a known kind.
        AbsentError: nothing answers there, or a package for it is not installed.
    """
    store = checkpoint_store(database, location)
    check_reachable(store)
    return store


def default_root(location: str) -> Path:
    """Return the folder of a database's checkpoints where no other is named.

    Each database has its own: after a merge two of them have runs of the same uid, and a run that
    is removed in one of them keeps its checkpoints in the other.

    It is next to a SQLite file and named after it: runs.db has runs-checkpoints, and a copy
    runs.bak has runs.bak.checkpoints. PostgreSQL's is in the working folder:
    `DATABASE@HOST-PORT-checkpoints`, without user and password.

    Raises:
        DatabaseError: the server cannot be reached.
    """
    path = sqlite_path(location)
    if path is None:
        return Path(f"{_server_database(location)}-checkpoints")
    own = f"{path.stem}-checkpoints" if path.suffix == ".db" else f"{path.name}.checkpoints"
    return path.with_name(own)


def _server_database(location: str) -> str:
    """Return a name of a PostgreSQL database, and of its schema unless that is the usual one.

    The server and the driver tell it: what a URL leaves out is in libpq's variables and files.
    """
    database = Database(make_engine(location, create=False), location)
    asked = text("select current_database(), current_schema()")
    try:
        with database.reading() as session:
            name, schema = session.execute(asked).one()
            info = session.connection().connection.driver_connection.info  # type: ignore[union-attr]
            host, port = info.host.lower(), info.port
    finally:
        database.close()
    named = [name] if schema == "public" else [name, str(schema)]
    return f"{'+'.join(quote(part, safe='') for part in named)}@{quote(host, safe='')}-{port}"


def folder_of(store: Store, run: RunSummary) -> Store:
    """Return the folder of a run's checkpoints."""
    return run_folder(store, run.spec_id, run.seed, run.uid, ours=run.origin == OURS)


def dead_runs(
    database: Database, store: Store, lease: float | None = None
) -> dict[int, Owner | None]:
    """Return the runs that are running by the database but by no process, with their last owner.

    Locks tell of this machine's runs; owners elsewhere are watched for a sign of life.

    Args:
        lease: seconds that an owner elsewhere may be silent; by default `LEASE_SECONDS`.
    """
    held = {owner.lease.run_id: owner for owner in leases.owners(database)}
    dead: dict[int, Owner | None] = {}
    elsewhere = []
    for run in (run for run in all_runs(database) if run.state is State.RUNNING):
        location, owner = leasing.lock_location(folder_of(store, run)), held.get(run.id)
        lock = leasing.acquire_lock(location) if location.is_dir() else None
        if lock is None and location.is_dir():
            continue  # a process on this machine has it
        if owner is None or (lock is not None and owner.lock_id == leasing.lock_id(location)):
            dead[run.id] = owner
        else:
            elsewhere.append(owner)
        if lock is not None:
            lock.release()
    try:
        watched = leasing.silent(RunStore(database).look, elsewhere, lease=lease)
    except LockedError:
        raise
    except DatabaseError:  # read-only here: heartbeats cannot be watched
        watched = ()
    dead |= {owner.lease.run_id: owner for owner in watched}
    # A run may have been taken up, or have given a sign of life, since it was looked at.
    now = {owner.lease.run_id: owner for owner in leases.owners(database)}
    return {run: owner for run, owner in dead.items() if now.get(run) == owner}


def folder_findings(database: Database, store: Store) -> Iterator[Finding]:
    """Yield the folders of checkpoints that belong to no run."""
    known = {folder_of(store, run).path for run in all_runs(database)}
    for path, size in store.run_folders().items():
        if path not in known:
            folder = store.part(path)
            what = f"{folder} belongs to no run of this database ({size / 1e6:,.1f} MB)"
            yield Finding(what, bad=False)


@contextmanager
def removable(
    database: Database, store: Store, run: RunSummary
) -> Iterator[tuple[Path, tuple[leases.Owner, ...]]]:
    """Keep others with the same checkpoints from training a run for the time of the block.

    Yields:
        The location of its lock, and the owners of its leases, none of which trains it.

    Raises:
        UnknownRunError: it is not the run any more that was shown, or has other results.
        BusyRunError: another process trains it.
    """
    number = run.id
    location = leasing.lock_location(folder_of(store, run))
    lock = leasing.acquire_lock(location)
    if lock is None:
        raise BusyRunError(f"run {number} is being trained by {run.owner or 'another process'}")
    try:
        if run_detail(database, number).summary != run:
            raise UnknownRunError(f"run {number} is another one than the one shown, or has changed")
        seen = leases.owners(database, number)
        for owner in seen:
            if owner.lock_id != leasing.lock_id(location):
                raise BusyRunError(
                    f"run {number} is leased by {owner.process}: "
                    "if that is dead, 'dia-repro db check --repair' frees it"
                )
        yield location, seen
    finally:
        lock.release()


def check_removable(database: Database, store: Store, run: RunSummary) -> None:
    """See that a run may be removed, before a person is asked; errors as of `removable`."""
    # Where there is neither a folder nor a lease, nothing trains it, and no folder is made.
    there = leasing.lock_location(folder_of(store, run)).is_dir()
    if there or any(leases.owners(database, run.id)):
        with removable(database, store, run):
            pass


def remove_run(database: Database, store: Store, run: RunSummary, *, only_checkpoints: bool) -> int:
    """Remove a run, or only its checkpoints; return the number of its checkpoints.

    Args:
        run: the run as it was shown; one that has changed since is not removed.

    Raises:
        UnknownRunError: there is no such run any more, or it has changed.
        BusyRunError: another process trains it.
    """
    with removable(database, store, run) as (location, seen):
        # Looked at again with the row: a process with another folder of checkpoints may take it up.
        if not only_checkpoints and not writer.remove_run(database, run.uid, run.changed_at, seen):
            raise BusyRunError(f"run {run.id} was taken up by another process: nothing is removed")
        folder = folder_of(store, run)
        count = len(sorted_names(folder))
        for name in folder.names():
            if name not in (leasing.LOCK, leasing.IDENTITY):
                folder.remove(name)
    if not only_checkpoints:
        folder.remove("")
        shutil.rmtree(location, ignore_errors=True)
    return count
