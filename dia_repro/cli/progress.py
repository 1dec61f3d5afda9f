"""Progress of runs under way: bars in a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from dia_repro.cli import output
from dia_repro.cli.output import stderr
from dia_repro.execution.dialogue import Dialogue, Listener, duration
from dia_repro.execution.messages import Ended, Job, Message, Notice, Outcome, Progress

# The first seconds say nothing yet of how long the rest takes.
SECONDS_BEFORE_ESTIMATE = 5.0


class RunProgress:
    """Shows finished runs, and each run's epoch, accuracy and time left.

    Args:
        jobs: the runs to come.
        console: where to show it; by default standard error.

    Attributes:
        share: part of the whole cost that is done; a sum, since thousands of runs report.
        share_before: part of it that was done before.
    """

    def __init__(self, jobs: Sequence[Job], console: Console | None = None) -> None:
        self.console = console or stderr()
        self.live = self.console.is_terminal
        whole = sum(job.weight for job in jobs) or 1
        self.weights = {job.run_id: job.weight / whole for job in jobs}
        self.fractions = {job.run_id: 0.0 for job in jobs}
        self.epochs: dict[int, int] = {}
        self.share = self.share_before = 0.0
        self.done = 0
        self.tasks: dict[int, TaskID] = {}
        self.started: float | None = None
        self.bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self.console,
            disable=not self.live,
        )
        self.total = self.bars.add_task("all runs", total=1.0, detail=self._overall())

    def __enter__(self) -> RunProgress:
        self.bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.bars.stop()

    def on_message(self, job: Job, message: Message) -> None:
        """Show what a worker says."""
        match message:
            case Notice(text=text):
                self._print(text)
            case Progress():
                self._on_progress(job, message)
            case Ended():
                self._on_ended(job, message)
        self.bars.update(self.total, completed=self.share, detail=self._overall())

    def on_stopping(self) -> None:
        """Print that the signal was received."""
        self._print("Stopping: runs under way save what they have. Once more to kill them.")

    def _on_progress(self, job: Job, message: Progress) -> None:
        run = job.run_id
        self.started = self.started or time.monotonic()  # workers have loaded by now
        if run not in self.epochs:  # epochs of an earlier attempt
            self.share_before += self.weights[run] * message.fraction
        self._note(run, message.fraction)
        accuracy = "" if message.top1 is None else f", top-1 {message.top1:.2f} %"
        if self.live:
            if run not in self.tasks:
                self.tasks[run] = self.bars.add_task(job.label, total=1.0, detail="")
            under_way = min(message.epochs + 1, message.of_epochs)
            detail = f"epoch {under_way}/{message.of_epochs}{accuracy}"
            self.bars.update(self.tasks[run], completed=message.fraction, detail=detail)
        elif message.epochs > self.epochs.get(run, 0):
            epoch = f"epoch {message.epochs}/{message.of_epochs}"
            self._print(f"{job.label}: {epoch}{accuracy} ({self._overall()})")
        self.epochs[run] = message.epochs

    def _on_ended(self, job: Job, message: Ended) -> None:
        if message.outcome in (Outcome.FINISHED, Outcome.DIVERGED, Outcome.DONE_BEFORE):
            self.done += 1
            self._note(job.run_id, 1.0)
        if job.run_id in self.tasks:
            self.bars.remove_task(self.tasks.pop(job.run_id))
        if message.outcome is Outcome.BUSY:
            self._print(f"{job.label} is being trained by {message.detail}")
        else:
            detail = f": {message.detail}" if message.detail else ""
            self._print(f"{job.label} {message.outcome.value}{detail}")

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)

    def _note(self, run: int, fraction: float) -> None:
        self.share += self.weights[run] * (fraction - self.fractions[run])
        self.fractions[run] = fraction

    def _overall(self) -> str:
        text = f"{self.done} of {len(self.fractions)} runs done"
        if self.done == len(self.fractions):
            return text
        if self.started is None:
            return f"{text}, workers are starting"
        elapsed = time.monotonic() - self.started
        gained = self.share - self.share_before
        if gained > 0 and elapsed > SECONDS_BEFORE_ESTIMATE:
            left = max(0.0, 1 - self.share)  # shares add up to 1 but for rounding
            text += f", about {duration(left / gained * elapsed)} left"
        return text


class OnlyFailures:
    """Says only which runs fail, diverge or are another process's."""

    def on_message(self, job: Job, message: Message) -> None:
        """Say how a run ended, unless it finished."""
        said = (Outcome.FAILED, Outcome.DIVERGED, Outcome.BUSY)
        if isinstance(message, Ended) and message.outcome in said:
            detail = f": {message.detail}" if message.detail else ""
            output.notice(f"{job.label} {message.outcome.value}{detail}")

    def on_stopping(self) -> None:
        """Say nothing: runs are being saved."""


class Terminal(Dialogue):
    """Dialogue with the person at the terminal, on standard error."""

    has_person = property(lambda _self: output.has_person())
    watch_shows = property(lambda _self: stderr().is_terminal)
    notice = staticmethod(output.notice)
    confirm = staticmethod(output.confirm)
    watch = staticmethod(output.watch)
    progress = staticmethod(RunProgress)


class Quiet(Dialogue):
    """The same, which only asks and says what fails."""

    has_person = property(lambda _self: output.has_person())
    confirm = staticmethod(output.confirm)

    def notice(self, text: str) -> None:
        """Say nothing."""

    def progress(self, jobs: Sequence[Job]) -> AbstractContextManager[Listener]:
        """Say which runs fail."""
        del jobs
        return nullcontext(OnlyFailures())
