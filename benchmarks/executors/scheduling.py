"""Cost of keeping a cluster busy: many simulated runs on the real executors."""

from __future__ import annotations

import heapq
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from benchmarks.executors import simulated
from benchmarks.executors.processes import cpu_seconds
from benchmarks.executors.simulated import Course, Load
from benchmarks.measurements import BenchmarkError, Measurement
from benchmarks.step.suites import resnet
from benchmarks.storage.tiny import jobs_for
from dia_repro.errors import displayed
from dia_repro.execution import forkserver
from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Slots
from dia_repro.execution.messages import Ended, Job, Message, Outcome
from dia_repro.experiments.spec import NoAttention
from dia_repro.interrupts import Interrupted
from dia_repro.results.backends import make_engine, sqlite_path
from dia_repro.results.database import Database, open_database
from dia_repro.training.store import store_at

NODES = 4
# Measured memory of a Ray worker that has imported torch, and the share of the machine's memory
# that workers may use: Ray kills workers when it is full.
WORKER_BYTES, USABLE = 550_000_000, 0.8
STORE_BYTES = 80 * 1024**2  # the least that Ray takes
REGISTER_SECONDS = 900  # many workers start slowly on one machine

OnMessage = Callable[[Job, Message], None]
Watching = Callable[[Sequence[Job]], AbstractContextManager[OnMessage]]


class _Executor(Protocol):
    stopping: bool

    def run(self, jobs: Sequence[Job]) -> dict[int, Ended]: ...


@dataclass(frozen=True)
class Simulation:
    """Numbers of simulated runs and slots, and their load.

    Attributes:
        watching: context whose function gets each run's progress, as that of `dia-repro run`.
        server: URL of a PostgreSQL server on which databases may be created; None for SQLite.
    """

    runs: int
    slots: int
    load: Load
    watching: Watching
    server: str | None = None

    @property
    def durations(self) -> list[float]:
        """Seconds of all runs, the longest first."""
        return sorted(map(self.load.duration, range(self.runs)), reverse=True)

    @property
    def ideal_seconds(self) -> float:
        """Total time if nothing but the runs takes time, the longest run first."""
        free = [0.0] * self.slots
        for duration in self.durations:
            heapq.heapreplace(free, free[0] + duration)
        return max(free)


@dataclass
class _Outcome:
    courses: dict[int, Course] = field(default_factory=dict)
    begun: float = 0.0
    seconds: float = 0.0
    entered_seconds: float = 0.0
    cpu_seconds: float = 0.0
    file_bytes: int = 0
    failures: list[str] = field(default_factory=list)


def local(simulation: Simulation) -> Iterator[Measurement]:
    """Simulate runs in worker processes of this machine."""

    def make(database: Database, on_message: OnMessage) -> _Executor:
        slots = Slots.on_cpu(simulation.slots)
        train = partial(simulated.main, simulation.load)
        return LocalSupervisor(database, slots, on_message, train=train)

    forkserver.start()
    yield from _measure(simulation, "local", make)


def on_ray(simulation: Simulation) -> Iterator[Measurement]:
    """Simulate runs on a Ray cluster of several nodes, all on this machine.

    Raises:
        BenchmarkError: the memory does not hold a worker for each slot.
    """
    has = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fit = int(has * USABLE / WORKER_BYTES)
    if simulation.slots > fit:
        raise BenchmarkError(
            f"{simulation.slots} workers of Ray do not fit into {has / 1e9:.0f} GB: --slots {fit}"
        )
    from dia_repro.execution.ray_nodes import Share, connect  # raises if Ray is missing

    with _cluster(simulation.slots) as address:
        from dia_repro.execution.executors.ray import RaySupervisor

        connect(address)

        def make(database: Database, on_message: OnMessage) -> _Executor:
            attempt = partial(simulated.attempt, simulation.load)
            return RaySupervisor(database, Share(0, 1), on_message, attempt=attempt)

        yield from _measure(simulation, "Ray", make)


@contextmanager
def _cluster(slots: int) -> Iterator[str]:
    import ray
    from ray.cluster_utils import Cluster

    shares = [slots // NODES + (number < slots % NODES) for number in range(NODES)]
    nodes: list[dict[str, Any]] = [
        {"num_cpus": share, "object_store_memory": STORE_BYTES} for share in shares
    ]
    first = {
        **nodes[0],
        "include_dashboard": False,
        "_system_config": {"worker_register_timeout_seconds": REGISTER_SECONDS},
    }
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    made = Cluster(initialize_head=True, head_node_args=first)
    try:
        for node in nodes[1:]:
            made.add_node(**node)
        yield made.address
    finally:
        ray.shutdown()
        made.shutdown()  # type: ignore[no-untyped-call]


def _measure(
    simulation: Simulation, name: str, make: Callable[[Database, OnMessage], _Executor]
) -> Iterator[Measurement]:
    kind = "PostgreSQL" if simulation.server else "SQLite"
    with tempfile.TemporaryDirectory() as folder, _location(simulation, folder) as location:
        outcome = _run(simulation, location, Path(folder), make)
    yield from _measurements(f"{name}, {kind}", simulation, outcome)


@contextmanager
def _location(simulation: Simulation, folder: str) -> Iterator[str]:
    """Yield the location of a new database, which is dropped at the end."""
    if simulation.server is None:
        yield str(Path(folder) / "runs.db")
        return
    name = f"dia_repro_benchmarks_{os.getpid()}"
    _on_server(simulation.server, f"create database {name}")
    try:
        yield make_url(simulation.server).set(database=name).render_as_string(hide_password=False)
    finally:
        _on_server(simulation.server, f"drop database {name} with (force)")


def _on_server(server: str, statement: str) -> None:
    engine = make_engine(server, create=False).execution_options(isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    except DBAPIError as error:
        reason = " ".join(str(error.orig).split())
        raise BenchmarkError(f"no database can be made on {displayed(server)}: {reason}") from error
    finally:
        engine.dispose()


def _run(
    simulation: Simulation,
    location: str,
    folder: Path,
    make: Callable[[Database, OnMessage], _Executor],
) -> _Outcome:
    outcome = _Outcome()
    database = open_database(location, create=True)
    begun = time.monotonic()
    seeds = sorted(range(simulation.runs), key=simulation.load.duration, reverse=True)
    store = store_at(str(folder / "checkpoints"))
    jobs = jobs_for(database, resnet(83, NoAttention()), seeds, folder, store)
    jobs = [replace(job, weight=round(1e3 * simulation.load.duration(job.seed))) for job in jobs]
    outcome.entered_seconds = time.monotonic() - begun
    with simulation.watching(jobs) as on_message:

        def listen(job: Job, message: Message) -> None:
            if isinstance(message, Ended) and message.outcome is Outcome.FINISHED:
                outcome.courses[job.run_id] = Course.of(message)
                message = replace(message, detail=None)
            on_message(job, message)

        executor = make(database, listen)
        before, outcome.begun = cpu_seconds(), time.monotonic()
        ended = executor.run(jobs)
        outcome.seconds = time.monotonic() - outcome.begun
        outcome.cpu_seconds = cpu_seconds() - before
    file = sqlite_path(location)
    outcome.file_bytes = file.stat().st_size if file else _size(database)
    database.close()
    if executor.stopping:
        raise Interrupted
    outcome.failures = [
        end.detail or "" for end in ended.values() if end.outcome is not Outcome.FINISHED
    ]
    if len(outcome.courses) < 2:
        raise BenchmarkError(f"simulated runs failed: {', '.join(outcome.failures[:1])}")
    return outcome


def _size(database: Database) -> int:
    with database.reading() as session:
        return int(session.scalar(text("select pg_database_size(current_database())")) or 0)


def _measurements(name: str, simulation: Simulation, outcome: _Outcome) -> Iterator[Measurement]:
    runs, slots = simulation.runs, simulation.slots
    courses = outcome.courses.values()
    slept = sum(simulation.durations)
    failed = len(outcome.failures)
    ideal = simulation.ideal_seconds
    full = sorted(course.begun for course in courses)[min(slots, len(courses)) - 1]
    full -= outcome.begun
    held = sum(course.ended - course.begun for course in courses)
    waits = sorted(1e3 * wait for course in courses for wait in course.waits)
    locked = [1e3 * wait for course in courses for wait in course.locked]
    how = f"{runs} runs of {simulation.load.seconds:g} s, {slots} slots"

    def measured(what: str, value: float, unit: str, how: str = how) -> Measurement:
        return Measurement(f"{name}: {what}", value, unit, how=how)

    yield measured("ideal total", ideal, "s", f"{slept:,.0f} s of runs, the longest first")
    yield measured("total", outcome.seconds, "s")
    yield measured("failed", failed, "", "; ".join(sorted(set(outcome.failures))[:2]))
    yield measured("1 - ideal / total", 100 * (1 - ideal / outcome.seconds), "%")
    yield measured("until all slots were busy", full, "s")
    yield measured("processor time a run", 1e3 * outcome.cpu_seconds / runs, "ms", "all processes")
    added = 1e3 * (held - slept) / runs
    between = 1e3 * (outcome.seconds * slots - held) / runs
    yield measured("of a slot, within a run in addition to its duration", added, "ms")
    yield measured("of a slot, between runs, start and end of all included", between, "ms")
    yield measured("entering the runs", outcome.entered_seconds, "s")
    writes = f"{len(waits)} writes, {simulation.load.epochs} epochs a run"
    yield measured("writes a second", len(waits) / outcome.seconds, "/s", writes)
    quantiles = statistics.quantiles(waits, n=100)
    spread = f"95 %: {quantiles[94]:.1f}, 99 %: {quantiles[98]:.1f}, longest {waits[-1]:.0f}"
    yield measured("wait of a write, median", quantiles[49], "ms", spread)
    longest = f"longest {max(locked, default=0.0):.0f} ms" if locked else ""
    share = 100 * len(locked) / len(waits)
    yield measured("writes that found the lock taken", share, "%", longest)
    yield measured("size of the database", outcome.file_bytes / 1e6, "MB")
