"""A run that sleeps instead of training, and does everything else that a run does."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, cast

from sqlalchemy import Engine, event

from dia_repro.data.dataset import AnyDataset
from dia_repro.execution import worker
from dia_repro.execution.attempt import Attempt
from dia_repro.execution.messages import Ended, Job, Message, Outcome, Progress
from dia_repro.execution.run_store import RunStore
from dia_repro.results.database import open_database
from dia_repro.results.schema import State
from dia_repro.training.metrics import EpochMetrics

SIGMA = 0.5  # of the logarithm of a run's duration: 1 in 40 is longer than 2.3 means
WRITES = ("take", "beat", "align", "set_parameters", "record_epoch", "end")
LOCKING = ("begin immediate", "select pg_advisory_xact_lock")
LOCKED_SECONDS = 0.001  # shortest sleep of SQLite when it finds the lock taken


@dataclass(frozen=True)
class Load:
    """Load of a simulated run.

    Attributes:
        seconds: mean duration of a run.
        epochs: number of epochs, evenly spread over the run.
    """

    seconds: float
    epochs: int

    def duration(self, seed: int) -> float:
        """Return the seconds of the run with a seed, drawn from a lognormal distribution."""
        mu = math.log(self.seconds) - SIGMA**2 / 2
        return random.Random(seed).lognormvariate(mu, SIGMA)


@dataclass
class Course:
    """Course of a run, in seconds of a clock that all processes of a machine share.

    Attributes:
        begun, ended: first and last moment of the attempt.
        waits: duration of each write.
        locked: waiting time of each write that found the lock taken.
    """

    begun: float
    ended: float = 0.0
    waits: list[float] = field(default_factory=list)
    locked: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, ended: Ended) -> Course:
        """Return the course that a run reports at its end."""
        return cls(**json.loads(ended.detail or ""))


def main(load: Load, job: Job, connection: Connection) -> None:
    """Entry point of a worker process."""
    worker.main(job, connection, partial(attempt, load))


def attempt(
    load: Load,
    job: Job,
    send: Callable[[Message], None],
    should_stop: Callable[[], bool],
    run_store: RunStore | None = None,
) -> Ended:
    """Simulate a run in this process; a finished run reports its `Course`."""
    course = Course(time.monotonic())

    def make(*arguments: Any) -> Attempt:
        return _Simulated(load, course, *arguments)

    ended = worker.attempt(job, send, should_stop, run_store, make)
    course.ended = time.monotonic()
    finished = ended.outcome is Outcome.FINISHED
    return replace(ended, detail=json.dumps(asdict(course))) if finished else ended


class _Simulated(Attempt):
    def __init__(
        self,
        load: Load,
        course: Course,
        job: Job,
        send: Callable[[Message], None],
        should_stop: Callable[[], bool],
        run_store: RunStore | None,
    ) -> None:
        watched = run_store or _watched_store(job.database, course)
        timed = cast("RunStore", _TimedStore(watched, course.waits))
        super().__init__(job, send, should_stop, timed)
        self.load = load

    def _load(self) -> AnyDataset:
        return cast("AnyDataset", _NoData())

    def _train(self, dataset: AnyDataset) -> tuple[State, str | None, int | None]:
        del dataset
        epochs, lease = self.load.epochs, self.lease
        self.run_store.set_parameters(lease, 1)
        begun, seconds = time.monotonic(), self.load.duration(self.job.seed)
        for epoch in range(1, epochs + 1):
            # Sleep until a moment, so that the rest of its work is part of the same duration.
            time.sleep(max(0.0, begun + seconds * epoch / epochs - time.monotonic()))
            if self.should_stop():
                return State.INTERRUPTED, None, None
            metrics = EpochMetrics(epoch, 0.1, 1.0, 50.0, 1.0, 50.0, seconds / epochs)
            self.run_store.record_epoch(lease, asdict(metrics))
            self.send(Progress(epoch, epochs, 0, 1, metrics.test_top1))
        return State.FINISHED, None, None


class _NoData:
    test = range(1000)  # a run records its length

    @staticmethod
    def digest() -> str:
        return "0" * 64


class _TimedStore:
    """A run store that records the duration of its writes."""

    def __init__(self, run_store: RunStore, waits: list[float]) -> None:
        self._run_store, self._waits = run_store, waits

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._run_store, name)
        return self._timed(call) if name in WRITES else call

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            with _noting(self._waits):
                return call(*arguments, **options)

        return timed


@contextmanager
def _noting(seconds: list[float], least: float = 0.0) -> Iterator[None]:
    begun = time.monotonic()
    yield
    taken = time.monotonic() - begun
    if taken >= least:
        seconds.append(round(taken, 6))


def _watched_store(location: str, course: Course) -> RunStore:
    database = open_database(location, create=False)
    _watch_lock(database.engine, course.locked)
    return RunStore(database)


def _watch_lock(engine: Engine, locked: list[float]) -> None:
    begun: list[float] = []  # a statement that fails is repeated, and ends with the last try

    @event.listens_for(engine, "before_cursor_execute")
    def before(*_: object) -> None:
        begun.append(time.monotonic())

    @event.listens_for(engine, "after_cursor_execute")
    def after(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        taken = time.monotonic() - begun[0]
        begun.clear()
        if statement.startswith(LOCKING) and taken >= LOCKED_SECONDS:
            locked.append(round(taken, 6))
