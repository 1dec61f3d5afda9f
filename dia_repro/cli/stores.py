"""The store of checkpoints that a command reads or clears."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dia_repro.cli.output import notice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


def mark_used(database: Database, location: str | None) -> None:
    """Leave a database's mark in its store, if that is there; say if it cannot be left."""
    from dia_repro.execution.planning import checkpoint_store
    from dia_repro.execution.roots import register
    from dia_repro.training.store import CheckpointError

    store = checkpoint_store(database, location)
    if store.root is None or store.root.is_dir():
        try:
            register(database, store)
        except CheckpointError as error:
            notice(f"Other databases will not know that {database.name} uses these: {error}.")


def say_shared(shared: Mapping[str, Sequence[str]], store: Store) -> None:
    """Say whose checkpoints stay since another database may need them.

    Args:
        shared: names of the other databases by a run's uid.
    """
    if shared:
        others = ", ".join(sorted({name for names in shared.values() for name in names}))
        runs = f"{len(shared)} run{'s' if len(shared) > 1 else ''}"
        notice(
            f"Checkpoints of {runs} stay in {store.name}: database {others} may need them. "
            "If it does not, remove its file in "
            f"{store.name}/databases, or the runs' folders, by hand."
        )
