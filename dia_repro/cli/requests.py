"""Databases and stores as commands open them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dia_repro.errors import UsageError, displayed
from dia_repro.execution.options import DEFAULT_DATABASE

if TYPE_CHECKING:
    from dia_repro.results.database import Database
    from dia_repro.training.store import Store


class NoDatabaseError(UsageError):
    """The database that was named does not exist."""


def open_existing(location: str) -> Database:
    """Open a database that has to exist.

    Raises:
        NoDatabaseError: it does not.
    """
    from dia_repro.results.backends import sqlite_path
    from dia_repro.results.database import open_database

    path = sqlite_path(location)
    if path is not None and not path.exists():
        raise NoDatabaseError(f"there is no database {displayed(location)}")
    return open_database(location, create=False)


def open_results(location: str) -> Database:
    """Open a database to show its results; only the default one need not exist yet.

    Raises:
        NoDatabaseError: the one that was named does not exist.
    """
    from dia_repro.results.database import open_database

    if location == DEFAULT_DATABASE:
        return open_database(location, create=False)
    return open_existing(location)


def reachable_store(database: Database, location: str | None) -> Store:
    """Return the store of checkpoints that was named, or the default; seen to answer.

    Raises:
        UsageError: the location is neither a folder nor a URL of a known kind.
        AbsentError: nothing answers there, or a package for it is not installed.
    """
    from dia_repro.execution.planning import checkpoint_store
    from dia_repro.training.probing import check_reachable

    store = checkpoint_store(database, location)
    check_reachable(store)
    return store
