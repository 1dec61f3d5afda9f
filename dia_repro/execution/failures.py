"""A run that failed before it could say so in the database, or whose process died."""

from __future__ import annotations

from dia_repro.errors import DiaReproError
from dia_repro.execution.messages import Notice
from dia_repro.results import writer
from dia_repro.results.database import Database


def record_failure(database: Database, run_id: int, owner: str, reason: str) -> Notice | None:
    """Say so for it; gives what a person should read where even that fails.

    Raises:
        VanishedError: the database is gone, and no other run could come to an end either.
    """
    try:
        writer.record_failure(database, run_id, owner, reason)
    except DiaReproError as error:
        database.check_there()
        # As on a full disk. The other runs go on; this one is found dead when it is next asked for.
        return Notice(f"its failure could not be recorded: {error}")
    return None
