"""The store of checkpoints that a command reads or clears."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dia_repro.results.database import Database
    from dia_repro.training.store import Store


def reachable_store(database: Database, location: str | None) -> Store:
    """The one that was named, or the default; that somebody answers there is seen at once.

    Raises:
        UsageError: the location is neither a folder nor a URL of a known kind.
        AbsentError: nobody answers there, or a package for it is not installed.
    """
    from dia_repro.execution.planning import checkpoint_store
    from dia_repro.training.probing import check_reachable

    store = checkpoint_store(database, location)
    check_reachable(store)
    return store
