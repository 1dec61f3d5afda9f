"""Ends of runs from outside: signals that stop them, workers that die or do not stop in time."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dia_repro import interrupts
from dia_repro.errors import DiaReproError
from dia_repro.execution.messages import Begun, Ended, Job, Message, Notice, Outcome, Progress
from dia_repro.results import writer
from dia_repro.results.database import Database, VanishedError
from dia_repro.results.leases import Lease

# A step, a checkpoint and the end of an attempt take seconds. A database that others write to is
# waited for as long as `interrupts.STOPPING_SECONDS` each time, a network may be slow. Less than
# `slurm.SECONDS_TO_SAVE`, after which Slurm kills the task.
SECONDS_TO_STOP = 60.0
# More than a supervisor takes from one look at its workers to the next, unless it does not run.
LONGEST_TURN = 5.0
STOPPED_AT_ONCE = Ended(Outcome.INTERRUPTED, "stopped at once by a second signal")
OnMessage = Callable[[Job, Message], None]


class Signals:
    """Counter of SIGINT, SIGTERM and SIGHUP inside its block, whose code asks; a context manager.

    Those that came before the block, and whose exception was lost, are counted too.

    Args:
        raise_at: number of the signal, from 1, that raises `Interrupted`; None for none.
    """

    def __init__(self, raise_at: int | None = None) -> None:
        self.count, self.raise_at = 0, raise_at

    @property
    def stop(self) -> bool:
        """Return whether runs are to save and stop."""
        return self.count > 0

    @property
    def kill(self) -> bool:
        """Return whether runs are to stop without saving."""
        return self.count > 1

    def _on_signal(self, _number: int, _frame: object) -> None:
        self.count += 1
        interrupts.note_wish()
        if self.raise_at is not None and self.count >= self.raise_at:
            raise interrupts.Interrupted

    def __enter__(self) -> Signals:
        self._before = {
            number: signal.signal(number, self._on_signal)
            for number in interrupts.STOPPING
            # `nohup` has the closing of the terminal ignored.
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
        }
        self.count += interrupts.count()
        interrupts.note_wish(self.stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def cause_of_death(exit_code: int | None) -> str:
    """Describe the death of a process that sent no message of its end."""
    if exit_code is not None and exit_code < 0:
        known = {number.value for number in signal.Signals}
        name = signal.Signals(-exit_code).name if -exit_code in known else f"signal {-exit_code}"
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the training process was killed by {name}{hint}"
    return f"the training process ended with exit code {exit_code}"


class OwnTime:
    """Clock of a supervisor, in seconds, that it reads in each turn of its loop.

    It does not go on while the process is stopped, as by Ctrl-Z: its workers are stopped as well.
    """

    def __init__(self) -> None:
        self._seconds, self._read = 0.0, time.monotonic()

    def __call__(self) -> float:
        """Return the seconds in which the process ran."""
        now = time.monotonic()
        self._seconds += min(now - self._read, LONGEST_TURN)
        self._read = now
        return self._seconds


@dataclass(kw_only=True)
class Supervised:
    """Run under way, as its supervisor sees it.

    Attributes:
        patience: seconds that its worker may take to stop, in addition to the longest pause so far
            between two reports of progress: as long as a step, or a batch of a test, may take
            again.
        clock: the supervisor's.
        asked: when the worker was first asked to stop, by that clock; None before.
    """

    job: Job
    patience: float
    clock: OwnTime
    lease: Lease | None = None
    ended: Ended | None = None
    asked: float | None = None
    longest: float = 0.0
    _heard: float | None = None

    def hear(self, message: Message) -> None:
        """Take note of a message."""
        match message:
            case Ended():
                self.ended = message
            case Begun(lease=lease):
                self.lease = lease
            case Progress():
                before, self._heard = self._heard, self.clock()
                if before is not None:
                    self.longest = max(self.longest, self._heard - before)

    def ask_to_stop(self) -> None:
        """Take note that the worker is asked to stop."""
        if self.asked is None:
            self.asked = self.clock()

    @property
    def allowed(self) -> float:
        """Return the seconds from being asked that the worker may take."""
        return self.patience + self.longest

    @property
    def is_late(self) -> bool:
        """Return whether the worker has taken longer than it may."""
        return self.asked is not None and self.clock() - self.asked > self.allowed

    @property
    def killed_late(self) -> Ended:
        """Return the end of a run whose worker was killed since it did not stop."""
        return Ended(
            Outcome.INTERRUPTED,
            f"did not stop within {self.allowed:.0f} seconds and was killed: "
            "it goes on from its last checkpoint",
        )


class Supervisor(ABC):
    """Base of what gives runs to workers, and records the ends that these cannot record.

    Args:
        database: where the failure of a worker that died is recorded.
        on_message: called in this process with each message of a worker.
        on_stopping: called once when a signal has come and workers are saving.

    Attributes:
        patience: seconds that a worker may take, once it is asked to stop, before it is killed.
        clock: read in each turn; measures the time that workers take to stop.
        stopping: whether a signal has come.
        gone: the error, once the database is gone.
    """

    patience = SECONDS_TO_STOP

    def __init__(
        self,
        database: Database,
        on_message: OnMessage,
        on_stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self.database, self.on_message, self.on_stopping = database, on_message, on_stopping
        self.clock = OwnTime()
        self.stopping = False
        self.gone: VanishedError | None = None

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> dict[int, Ended]:
        """Work through the jobs; return how each that was started ended, by run number."""

    def hear(self, run: Supervised, message: Message) -> None:
        """Take a message of a worker, and pass on those that are for people."""
        run.hear(message)
        if not isinstance(message, Ended | Begun):
            self.on_message(run.job, message)

    def close(self, run: Supervised, ended: Ended, *, killed: bool) -> Ended:
        """Record an end that the worker could not record, and report it.

        Args:
            killed: whether the worker was killed since it was to stop: that is no failure.
        """
        if killed or ended.outcome is Outcome.FAILED:
            self._record(run, ended, killed=killed)
        if not self.gone:  # or they would all say the same
            self.on_message(run.job, ended)
        return ended

    def _record(self, run: Supervised, ended: Ended, *, killed: bool) -> None:
        what = "interruption" if killed else "failure"
        try:
            spec_id = run.job.spec.spec_id  # fails where the spec cannot be read
            failure = None if killed else ended.detail or ""
            writer.record_loss(self.database, spec_id, run.job.seed, run.lease, failure)
        except DiaReproError as error:
            try:
                self.database.check_there()
            except VanishedError as gone:  # no other run can end well
                self.gone = gone
                return
            # As on a full disk: the other runs go on; this one is found dead by the next command.
            self.on_message(run.job, Notice(f"its {what} could not be recorded: {error}"))
