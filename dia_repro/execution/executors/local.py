"""Local executor: runs in worker processes of this machine, one process a run.

A worker that dies takes down no other.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from dia_repro.execution import forkserver, worker
from dia_repro.execution.dialogue import Dialogue, Listener
from dia_repro.execution.endings import (
    SECONDS_TO_STOP,
    OnMessage,
    Pace,
    Signals,
    Supervisor,
    cause_of_death,
)
from dia_repro.execution.executors import WaitingExecutor, register
from dia_repro.execution.machine import Slots, find_machine
from dia_repro.execution.messages import (
    STOPPED_AT_ONCE,
    Begun,
    Ended,
    Job,
    Outcome,
)
from dia_repro.execution.options import Resources
from dia_repro.results.database import Database
from dia_repro.results.leases import Lease

POLL_SECONDS = 0.5
EXIT_SECONDS = 30.0  # from a worker's last word to its end: CUDA takes seconds to give memory back
# What multiprocessing gives where the server that a process was forked from is gone.
UNKNOWN_EXIT_CODE = 255


@register("local")
class Local(WaitingExecutor):
    """Worker processes of this machine: by default one for each GPU, or each core of a CPU."""

    options = frozenset({"jobs", "per_gpu", "gpus_per_run"})
    data_is_here = True

    def __init__(self, resources: Resources, dialogue: Dialogue) -> None:
        gpus = resources.gpus_per_run or 1 / (resources.per_gpu or 1)
        super().__init__(find_machine(resources.device), gpus)
        self.resources = resources
        for reason in self.machine.unusable:
            dialogue.notice(f"Not used: {reason}.")

    def room(self, runs: int) -> int:
        """Return one run for each GPU, or each core of a CPU, unless options say otherwise."""
        return self._slots(runs).total

    def supervisor(self, database: Database, runs: int, listener: Listener) -> LocalSupervisor:
        """Return what keeps the slots of so many runs busy."""
        slots = self._slots(runs)
        return LocalSupervisor(database, slots, listener.on_message, listener.on_stopping)

    def _slots(self, runs: int) -> Slots:
        asked = self.resources
        return self.machine.slots(runs, asked.jobs, asked.per_gpu, asked.gpus_per_run)


@dataclass
class _Worker:
    job: Job
    process: BaseProcess
    connection: Connection
    pace: Pace
    lease: Lease | None = None
    ended: Ended | None = None

    def stop(self) -> None:
        """Ask it to save and end."""
        self.pace.ask()
        ask_to_end(self.process)


class LocalSupervisor(Supervisor):
    """Keeps all slots busy until every job is done, or a signal says stop.

    Args:
        database, on_message, on_stopping: see `Supervisor`.
        slots: where jobs go, each to a worker process of its own; a job that finds no room
            lets those after it pass.
        train: what a worker process does; sends messages and ends with one `Ended`.
        patience: seconds that a worker may take, once it is asked to stop, before it is killed.
    """

    def __init__(
        self,
        database: Database,
        slots: Slots,
        on_message: OnMessage,
        on_stopping: Callable[[], None] = lambda: None,
        train: Callable[[Job, Connection], None] = worker.main,
        patience: float = SECONDS_TO_STOP,
    ) -> None:
        super().__init__(database, on_message, on_stopping)
        self.slots, self.train, self.patience = slots, train, patience
        self._signals = Signals()
        self._active: list[_Worker] = []

    def run(self, jobs: Sequence[Job]) -> dict[int, Ended]:
        """Work through the jobs.

        Returns:
            How each job that was started ended, by run number; those that a signal kept
            from starting are missing.

        Raises:
            VanishedError: the database is gone; workers have saved what they had.
        """
        waiting = list(jobs)
        active = self._active
        ended: dict[int, Ended] = {}
        forkserver.start()
        with self._signals, self._none_left_behind():
            while active or (waiting and not self._winding_up):
                self.clock()
                self.stopping = self._signals.stop
                while not self._winding_up and (placed := self._place(waiting)):
                    active.append(self._start(placed))
                if self._winding_up:
                    self._stop(active)
                wait([one.connection for one in active], timeout=POLL_SECONDS)
                for one in list(active):
                    if self._listen(one):
                        active.remove(one)
                        self.slots.give_back(one.job.device, one.job.memory)
                        ended[one.job.run_id] = self._settle(one)
        if self.gone:
            raise self.gone
        return ended

    def stop_now(self) -> None:
        """Have the runs under way saved, and wait until they are; may be called by a signal."""
        self.stopping = True
        active = list(self._active)
        for one in active:
            one.stop()
        for one in active:
            forkserver.join(one.process, lambda: self._kill_late(active))

    @contextmanager
    def _none_left_behind(self) -> Iterator[None]:
        """Where something goes wrong in this process, workers save and end."""
        try:
            yield
        finally:
            if self._active:
                self.stop_now()

    @property
    def _winding_up(self) -> bool:
        return self.stopping or self.gone is not None

    def _place(self, waiting: list[Job]) -> Job | None:
        """The first that finds room, with its device; it waits no longer."""
        for job in waiting if self.slots.free else ():
            device = self.slots.take(job.memory)
            if device is not None:
                waiting.remove(job)
                return replace(job, device=device)
        return None

    def _stop(self, active: list[_Worker]) -> None:
        """Ask each worker once to save and end."""
        asked = [one for one in active if one.pace.asked is None]
        for one in asked:
            one.stop()
        self._kill_late(active)
        if asked and self.stopping:
            self.on_stopping()

    def _kill_late(self, workers: Iterable[_Worker]) -> None:
        """Kill workers whose time to stop is over, or all of them if it is to be at once."""
        for one in workers:
            if self._signals.kill or one.pace.is_over:
                forkserver.send_signal(one.process, signal.SIGKILL)

    def _start(self, job: Job) -> _Worker:
        return _Worker(
            job, *forkserver.start_process(self.train, job), Pace(self.patience, self.clock)
        )

    def _listen(self, one: _Worker) -> bool:
        """Take what a worker has said; True when it will say no more."""
        # A process of its own, such as one that decodes images, may keep the connection open.
        dead = one.process.exitcode not in (None, UNKNOWN_EXIT_CODE)
        while True:
            try:
                if not one.connection.poll():
                    return dead
                message = one.connection.recv()
            except (EOFError, OSError):
                return True
            one.pace.hear(message)
            match message:
                case Ended():
                    one.ended = message
                case Begun(lease=lease):
                    one.lease = lease
                case _:
                    self.on_message(one.job, message)

    def _settle(self, one: _Worker) -> Ended:
        deadline = time.monotonic() + EXIT_SECONDS

        def insist() -> None:
            # Its last word is said, but a thread of a plugin may go on.
            if self._signals.kill or time.monotonic() > deadline:
                forkserver.send_signal(one.process, signal.SIGKILL)

        forkserver.join(one.process, insist)
        one.connection.close()
        silent = one.ended is None
        one.ended = one.ended or self._died(one)
        killed = silent and one.ended.outcome is Outcome.INTERRUPTED
        self.record(one.job, one.lease, one.ended, killed=killed)
        if not self.gone:  # or they would all say the same
            self.on_message(one.job, one.ended)
        return one.ended

    def _died(self, one: _Worker) -> Ended:
        """How a worker ended that could not say so."""
        code = one.process.exitcode
        killed = code in (-signal.SIGKILL, UNKNOWN_EXIT_CODE)
        if self._signals.kill and killed:
            return Ended(Outcome.INTERRUPTED, STOPPED_AT_ONCE)
        if one.pace.is_over and killed:
            return one.pace.ended
        if (one.pace.asked or self._signals.stop) and code == -signal.SIGTERM:
            return Ended(Outcome.INTERRUPTED, "stopped before it could save anything")
        return Ended(Outcome.FAILED, cause_of_death(code))


def ask_to_end(process: BaseProcess) -> None:
    """Send SIGTERM to a process, and SIGCONT, without which one that is stopped never takes it."""
    forkserver.send_signal(process, signal.SIGTERM)
    forkserver.send_signal(process, signal.SIGCONT)
