"""Local executor: runs in worker processes of this machine, one process a run.

A worker that dies takes down no other.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from dia_repro.execution import forkserver, worker
from dia_repro.execution.dialogue import Dialogue, Listener
from dia_repro.execution.endings import (
    STOPPED_AT_ONCE,
    OnMessage,
    Signals,
    Supervised,
    Supervisor,
    cause_of_death,
)
from dia_repro.execution.executors import Executor, register
from dia_repro.execution.machine import Slots, find_machine
from dia_repro.execution.messages import Ended, Job, Outcome
from dia_repro.execution.options import Resources
from dia_repro.results.database import Database

POLL_SECONDS = 0.5
EXIT_SECONDS = 30.0  # after a worker's last message: CUDA takes seconds to give memory back
# Given by multiprocessing where the server that a process was forked from is gone.
UNKNOWN_EXIT_CODE = 255


@register("local")
class Local(Executor):
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
        """Return the supervisor of a number of runs."""
        slots = self._slots(runs)
        return LocalSupervisor(database, slots, listener.on_message, listener.on_stopping)

    def _slots(self, runs: int) -> Slots:
        asked = self.resources
        return self.machine.slots(runs, asked.jobs, asked.per_gpu, asked.gpus_per_run)


@dataclass
class _Worker(Supervised):
    process: BaseProcess
    connection: Connection

    def stop(self) -> None:
        """Ask it to save and end."""
        self.ask_to_stop()
        forkserver.send_signal(self.process, signal.SIGTERM)
        forkserver.send_signal(self.process, signal.SIGCONT)  # or a stopped process never takes it


class LocalSupervisor(Supervisor):
    """Supervisor that keeps all slots busy until every job is done, or a signal says stop.

    Args:
        database, on_message, on_stopping: see `Supervisor`.
        slots: where jobs go, each to its own worker process; a job that finds no room lets those
            after it pass.
        train: function of a worker process; sends messages and ends with one `Ended`.
    """

    def __init__(
        self,
        database: Database,
        slots: Slots,
        on_message: OnMessage,
        on_stopping: Callable[[], None] = lambda: None,
        train: Callable[[Job, Connection], None] = worker.main,
    ) -> None:
        super().__init__(database, on_message, on_stopping)
        self.slots, self.train = slots, train
        self._signals = Signals()
        self._active: list[_Worker] = []

    def run(self, jobs: Sequence[Job]) -> dict[int, Ended]:
        """Work through the jobs; those that a signal kept from starting are missing in the result.

        Raises:
            VanishedError: the database is gone; workers have saved what they had.
        """
        waiting, ended = list(jobs), dict[int, Ended]()
        forkserver.start()
        with self._signals:
            try:
                while self._active or (waiting and not self._winding_up):
                    ended |= self._take_turn(waiting)
            finally:  # after an error in this process workers save and end, too
                if self._active:
                    self.stop_now()
        if self.gone:
            raise self.gone
        return ended

    def stop_now(self) -> None:
        """Have the runs under way saved, and wait until they are; may be called by a signal."""
        self.stopping = True
        active = list(self._active)
        for running in active:
            running.stop()
        for running in active:
            forkserver.join(running.process, lambda: self._kill_late(active))

    @property
    def _winding_up(self) -> bool:
        return self.stopping or self.gone is not None

    def _take_turn(self, waiting: list[Job]) -> dict[int, Ended]:
        """Start jobs that find room, listen to workers, and return how runs ended."""
        self.clock()
        self.stopping = self._signals.stop
        while not self._winding_up and (job := self._place(waiting)):
            started = forkserver.start_process(self.train, job)
            running = _Worker(*started, job=job, patience=self.patience, clock=self.clock)
            self._active.append(running)
        if self._winding_up:
            self._stop()
        wait([running.connection for running in self._active], timeout=POLL_SECONDS)
        ended = {}
        for running in list(self._active):
            if self._listen(running):
                self._active.remove(running)
                self.slots.give_back(running.job.device, running.job.memory)
                ended[running.job.run_id] = self._settle(running)
        return ended

    def _place(self, waiting: list[Job]) -> Job | None:
        """Take the first job that finds room from those that wait, and give it its device."""
        for job in waiting if self.slots.free else ():
            device = self.slots.take(job.memory)
            if device is not None:
                waiting.remove(job)
                return replace(job, device=device)
        return None

    def _stop(self) -> None:
        """Ask each worker once to save and end."""
        asked = [running for running in self._active if running.asked is None]
        for running in asked:
            running.stop()
        self._kill_late(self._active)
        if asked and self.stopping:
            self.on_stopping()

    def _kill_late(self, workers: Sequence[_Worker]) -> None:
        """Kill workers whose time to stop is over, or all of them after a second signal."""
        for running in workers:
            if self._signals.kill or running.is_late:
                forkserver.send_signal(running.process, signal.SIGKILL)

    def _listen(self, running: _Worker) -> bool:
        """Take the messages that are there; return whether they were the last."""
        # A child of the worker, such as one that decodes images, may keep the connection open.
        dead = running.process.exitcode not in (None, UNKNOWN_EXIT_CODE)
        while True:
            try:
                if not running.connection.poll():
                    return dead
                message = running.connection.recv()
            except (EOFError, OSError):
                return True
            self.hear(running, message)

    def _settle(self, ended: _Worker) -> Ended:
        """Wait for the end of a worker's process, and record how its run ended."""
        deadline = time.monotonic() + EXIT_SECONDS

        def insist() -> None:
            # A thread of a plugin may go on.
            if self._signals.kill or time.monotonic() > deadline:
                forkserver.send_signal(ended.process, signal.SIGKILL)

        forkserver.join(ended.process, insist)
        ended.connection.close()
        last = ended.ended or self._died(ended)
        killed = ended.ended is None and last.outcome is Outcome.INTERRUPTED
        return self.close(ended, last, killed=killed)

    def _died(self, dead: _Worker) -> Ended:
        """Return how a worker ended that sent no `Ended`."""
        code = dead.process.exitcode
        killed = code in (-signal.SIGKILL, UNKNOWN_EXIT_CODE)
        if self._signals.kill and killed:
            return STOPPED_AT_ONCE
        if dead.is_late and killed:
            return dead.killed_late
        if (dead.asked or self._signals.stop) and code == -signal.SIGTERM:
            return Ended(Outcome.INTERRUPTED, "stopped before it could save anything")
        return Ended(Outcome.FAILED, cause_of_death(code))
