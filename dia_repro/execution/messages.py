"""Messages between the process that starts runs and its workers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, assert_never

from dia_repro import plugins
from dia_repro.experiments.names import DataLocation, Keep
from dia_repro.experiments.spec import Spec

if TYPE_CHECKING:
    from dia_repro.results.leases import Lease
    from dia_repro.training.store import Store


@dataclass(frozen=True)
class Job:
    """One run for one worker process.

    Attributes:
        label: the run's name for people, e.g. "SENet ResNet83 r=16 on digits, seed 0".
        checkpoints: store of the checkpoints of all runs.
        device: `cpu`, `cuda:0`, …; set by the executor that places the run.
        threads: CPU threads that the worker may use.
        processes: number of processes that share the run, each on its own GPU: `device` and those
            after it.
        command: the command line that asked for the run, for provenance.
        deterministic: whether a GPU is to give the same bits every time.
        keep: which weights stay when the run is done.
        memory: estimated bytes that it takes where it is trained; 0 where that does not matter.
        weight: cost of the run, in any unit, for the progress of several runs.
        plugins: value of `DIA_REPRO_PLUGINS`: where plugins are found.
    """

    run_id: int
    label: str
    spec_json: str
    seed: int
    database: str = field(repr=False)  # may hold a password
    checkpoints: Store
    data: DataLocation
    device: str
    threads: int
    command: str
    deterministic: bool = False
    keep: Keep = Keep.LAST
    memory: int = 0
    processes: int = 1
    weight: int = 1
    plugins: str = ""

    @property
    def spec(self) -> Spec:
        """Return the experiment; its attention kind may come from a plugin."""
        plugins.use(self.plugins)
        return Spec.from_json(self.spec_json)

    def elsewhere(self, **changes: Any) -> Job:
        """Return the job, with changes, for a process with another working folder."""
        from dia_repro.results.backends import sqlite_path

        file = sqlite_path(self.database)
        return replace(
            self,
            data=self.data.absolute(),
            database=str(file.absolute()) if file else self.database,
            checkpoints=self.checkpoints.absolute(),
            **changes,
        )


class Outcome(StrEnum):
    """State in which a worker left a run."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    BUSY = "busy"  # another process has it
    DONE_BEFORE = "done before"  # another process had finished it meanwhile


@dataclass(frozen=True)
class Notice:
    """Text for a person, e.g. that a damaged checkpoint was passed over."""

    text: str


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Attributes:
        epochs, of_epochs: epochs that are done, and all.
        steps, of_steps: steps of the epoch under way that are done, and all.
        top1: test accuracy of the last epoch, %; None before the first.
    """

    epochs: int
    of_epochs: int
    steps: int
    of_steps: int
    top1: float | None

    @property
    def fraction(self) -> float:
        """Return the part that is done, from 0 to 1."""
        return (self.epochs + self.steps / self.of_steps) / self.of_epochs


@dataclass(frozen=True)
class Begun:
    """A worker has taken up its run: if it dies, this lease frees the run."""

    lease: Lease


@dataclass(frozen=True)
class Ended:
    """Last message of a worker.

    Attributes:
        detail: reason of a failure or divergence, or the process that is busy with the run.
    """

    outcome: Outcome
    detail: str | None = None


Message = Notice | Progress | Begun | Ended


def describe(job: Job, message: Message) -> str | None:
    """Return a message as a line of a log; None for one that comes many times an epoch."""
    match message:
        case Notice(text=text):
            return text
        case Progress(epochs=epochs, of_epochs=of_epochs, steps=0, top1=top1):
            accuracy = "" if top1 is None else f", top-1 {top1:.2f} %"
            return f"{job.label}: epoch {epochs}/{of_epochs}{accuracy}"
        case Ended(outcome=outcome, detail=detail):
            return f"{job.label} {outcome.value}{f': {detail}' if detail else ''}"
        case Progress() | Begun():
            return None
        case _:
            assert_never(message)
