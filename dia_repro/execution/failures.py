"""A run that failed before it could say so in the database, or whose process died."""

from __future__ import annotations

import signal
from collections.abc import Callable

from dia_repro.errors import DiaReproError
from dia_repro.execution.messages import Notice, WorkOrder
from dia_repro.results import writer
from dia_repro.results.database import Database
from dia_repro.results.leases import Lease


def cause_of_death(exit_code: int | None) -> str:
    """Return in words what an exit code tells of a process that ended without one."""
    if exit_code is not None and exit_code < 0:
        known = {number.value for number in signal.Signals}
        name = signal.Signals(-exit_code).name if -exit_code in known else f"signal {-exit_code}"
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the training process was killed by {name}{hint}"
    return f"the training process ended with exit code {exit_code}"


def record_failure(
    database: Database, order: WorkOrder, lease: Lease | None, reason: str
) -> Notice | None:
    """Say so for it; gives what a person should read where even that fails.

    Raises:
        VanishedError: the database is gone, and no other run could come to an end either.
    """
    return _recorded(
        database,
        lambda: writer.record_failure(database, _spec_id(order), order.seed, lease, reason),
        "failure",
    )


def record_kill(database: Database, order: WorkOrder, lease: Lease | None) -> Notice | None:
    """Say that a run is interrupted whose process was told to end at once.

    Returns, Raises:
        As `record_failure`.
    """
    return _recorded(
        database,
        lambda: writer.record_kill(database, _spec_id(order), order.seed, lease),
        "interruption",
    )


def _spec_id(order: WorkOrder) -> str:
    return order.spec.spec_id


def _recorded(database: Database, write: Callable[[], None], what: str) -> Notice | None:
    try:
        write()
    except DiaReproError as error:
        database.check_there()
        # As on a full disk. The other runs go on; this one is found dead when it is next asked for.
        return Notice(f"its {what} could not be recorded: {error}")
    return None
