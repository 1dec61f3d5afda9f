"""What the starting process and its workers tell each other."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

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
        label: the run's name for people, e.g. "resnet83 se r=16 on digits, seed 0".
        checkpoints: where those of all runs are.
        device: `cpu`, `cuda:0`, …; whoever places the run says which.
        threads: CPU threads the worker may use.
        processes: that share the run, each on a GPU of its own: `device` and those after it.
        command: the command line that asked for the run, for provenance.
        deterministic: whether a GPU is to give the same bits every time.
        keep: which weights stay when the run is done.
        memory: bytes that it is reckoned to hold where it is trained; 0 where that does not matter.
        plugins: where plugins are found, as `DIA_REPRO_PLUGINS` says it.
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
    plugins: str = ""

    @property
    def spec(self) -> Spec:
        """Return the experiment; its attention kind may come from a plugin."""
        plugins.use(self.plugins)
        return Spec.from_json(self.spec_json)


def describe_owner(pid: int) -> str:
    """Who trains a run, for the message that another process prints."""
    return f"process {pid} on {socket.gethostname()}"


class Outcome(StrEnum):
    """How a worker left a run."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    BUSY = "busy"  # another process has it
    DONE_BEFORE = "done before"  # another process had finished it meanwhile


STOPPED_AT_ONCE = "stopped at once by a second signal"


@dataclass(frozen=True)
class Notice:
    """Something a person should read, e.g. that a damaged checkpoint was passed over."""

    text: str


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        epochs: done.
        of_epochs: in all.
        steps: done in the epoch under way.
        of_steps: in an epoch.
        top1: test accuracy of the last epoch, %; None before the first.
    """

    epochs: int
    of_epochs: int
    steps: int
    of_steps: int
    top1: float | None

    @property
    def fraction(self) -> float:
        """From 0 to 1."""
        return (self.epochs + self.steps / self.of_steps) / self.of_epochs


@dataclass(frozen=True)
class Begun:
    """A worker has taken up its run: if it dies, the run is freed by this lease."""

    lease: Lease


@dataclass(frozen=True)
class Ended:
    """A worker's last word.

    Attributes:
        detail: the reason of a failure, how it diverged, or who is busy with it.
    """

    outcome: Outcome
    detail: str | None = None


Message = Notice | Progress | Begun | Ended


def describe(job: Job, message: Message) -> str | None:
    """Return a message as a line of a log; None for what happens many times an epoch."""
    match message:
        case Notice(text=text):
            return text
        case Progress(epochs=epochs, of_epochs=of_epochs, steps=0, top1=top1):
            return f"{job.label}: epoch {epochs}/{of_epochs}, top-1 {top1} %"
        case Ended(outcome=outcome, detail=detail):
            return f"{job.label} {outcome.value}{f': {detail}' if detail else ''}"
        case Progress() | Begun():
            return None
        case _:
            assert_never(message)
