"""Run store: all that an attempt at a run reads of the results database, and writes to it.

It is an object, so that another process can do its work for one that cannot reach the database.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from dia_repro import interrupts
from dia_repro.results import leases, writer
from dia_repro.results.database import Database, LockedError, open_database
from dia_repro.results.queries import run_detail

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

# A run would lose more by failing than by waiting: with a hundred writers on a slow disk some wait
# for minutes, since SQLite lets them in by chance.
PATIENCE_SECONDS = 900.0


def _patient(
    call: Callable[Concatenate[Database, Arguments], Answer],
) -> Callable[Concatenate[RunStore, Arguments], Answer]:
    """Return a method that calls a function of `results`, again while others hold the database."""

    @wraps(call)
    def patient(self: RunStore, /, *args: Arguments.args, **options: Arguments.kwargs) -> Answer:
        begun = time.monotonic()
        while True:
            try:
                return call(self.database, *args, **options)
            except LockedError:
                if interrupts.patience_ends(begun, PATIENCE_SECONDS):
                    raise

    return patient


class RunStore:
    """Runs in the results database. Methods are the functions of `results` of the same names."""

    run_detail = _patient(run_detail)
    look = _patient(leases.look)
    take = _patient(leases.take)
    align = _patient(writer.align)
    set_parameters = _patient(writer.set_parameters)
    record_epoch = _patient(writer.record_epoch)
    record_gradients = _patient(writer.record_gradients)
    end = _patient(writer.end)

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def at(cls, location: str) -> RunStore:
        """Return the store of a database that exists."""
        return cls(open_database(location, create=False))

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def renew(self, lease: leases.Lease) -> None:
        """Renew a lease; the next heartbeat comes soon, so that this one waits for nothing."""
        leases.renew(self.database, lease)
