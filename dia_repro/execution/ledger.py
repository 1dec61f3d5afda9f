"""What an attempt at a run reads of the results database, and writes to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from dia_repro import interrupts
from dia_repro.results import leases, writer
from dia_repro.results.database import Database, LockedError, open_database
from dia_repro.results.leases import Holder, Lease
from dia_repro.results.queries import RunSummary, run_detail
from dia_repro.results.schema import State

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

# A run would lose more by failing than by waiting: with a hundred writers on a slow disk some wait
# for minutes, since SQLite lets them in by chance.
PATIENCE_SECONDS = 900.0


def _patient(call: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Try again where others were writing for longer than the backend waits."""

    @wraps(call)
    def patient(*arguments: Arguments.args, **options: Arguments.kwargs) -> Answer:
        begun = time.monotonic()
        while True:
            try:
                return call(*arguments, **options)
            except LockedError:
                if interrupts.patience_ends(begun, PATIENCE_SECONDS):
                    raise

    return patient


class Ledger:
    """All of it, so that another process can do it for one that cannot reach the database.

    Methods are the functions of `results` of the same names.

    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def at(cls, location: str) -> Ledger:
        """Of a database that is there."""
        return cls(open_database(location, create=False))

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    @_patient
    def summary(self, run_id: int) -> RunSummary:
        """The run as it is now."""
        return run_detail(self._database, run_id).summary

    @_patient
    def attempts(self, run_id: int) -> tuple[dict[str, object], ...]:
        """Return the provenance of the run's attempts, oldest first."""
        return run_detail(self._database, run_id).provenance

    @_patient
    def look(self, run_id: int | None = None) -> tuple[Holder, ...]:
        """Who has the run, or which run, at a moment at which heartbeats can be written."""
        return leases.look(self._database, run_id)

    @_patient
    def take(
        self,
        run_id: int,
        owner: str,
        lock_id: str,
        provenance: Mapping[str, Any],
        dead: Holder | None = None,
        seen: tuple[str, int] | None = None,
    ) -> Lease:
        """Take up a run."""
        return leases.take(self._database, run_id, owner, lock_id, provenance, dead, seen)

    def beat(self, lease: Lease) -> None:
        """A sign of life."""
        leases.beat(self._database, lease)

    @_patient
    def align(
        self,
        lease: Lease,
        history: Sequence[Mapping[str, Any]],
        gradients: Mapping[int, str],
    ) -> int:
        """Make the run's rows those of a checkpoint; return how many were others."""
        return writer.align(self._database, lease, history, gradients)

    @_patient
    def set_parameters(self, lease: Lease, parameters: int) -> None:
        """The size of the network."""
        writer.set_parameters(self._database, lease, parameters)

    @_patient
    def record_epoch(self, lease: Lease, figures: Mapping[str, Any]) -> None:
        """Add an epoch."""
        writer.record_epoch(self._database, lease, figures)

    @_patient
    def record_gradients(
        self, lease: Lease, circumstances: str, records: Mapping[int, str]
    ) -> None:
        """Keep what is known of gradients, by epochs trained before."""
        writer.record_gradients(self._database, lease, circumstances, records)

    @_patient
    def end(self, lease: Lease, state: State, **figures: Any) -> None:
        """The run has come to an end, or is interrupted."""
        writer.end(self._database, lease, state, **figures)
