"""Databases and stores as commands open them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dia_repro.execution.options import DEFAULT_DATABASE

if TYPE_CHECKING:
    from dia_repro.results.database import Database
    from dia_repro.training.store import Store


def open_results(location: str) -> Database:
    """Open a database to show its results; only the default one need not exist yet.

    Raises:
        NoDatabaseError: the one that was named does not exist.
    """
    from dia_repro.results.database import open_database, open_existing

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
