"""Progress of runs under way: bars in a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from dia_repro.cli import output
from dia_repro.cli.output import duration, stderr
from dia_repro.execution.dialogue import Dialogue, OnProgress
from dia_repro.execution.messages import Ended, Job, Message, Notice, Outcome, Progress

ALL = "all runs"
# The first seconds say nothing yet of how long the rest takes.
SECONDS_BEFORE_ESTIMATE = 5.0


class RunProgress:
    """Shows which run of how many, epoch, accuracy and time left.

    Args:
        jobs: the runs to come.
        console: where to show it; by default standard error.
    """

    def __init__(self, jobs: Sequence[Job], console: Console | None = None) -> None:
        self.console = console or stderr()
        self.live = self.console.is_terminal
        self.whole = sum(job.weight for job in jobs) or 1
        self.fractions = dict.fromkeys((job.run_id for job in jobs), 0.0)
        self.resumed_at: dict[int, float] = {}
        # Of the whole cost, the parts that are done and that were before; kept as sums, since of
        # many thousand runs each says something every other second.
        self.share = self.share_before = 0.0
        self.done = 0
        self.epochs: dict[int, int] = {}
        self.tasks: dict[int, TaskID] = {}
        self.started: float | None = None
        self.bars = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self.console,
            disable=not self.live,
        )
        self.total = self.bars.add_task(ALL, total=1.0, detail=self._overall())

    def __enter__(self) -> RunProgress:
        self.bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.bars.stop()

    def on_message(self, job: Job, message: Message) -> None:
        """Show what a worker says."""
        match message:
            case Notice(text=text):
                self.console.print(text, markup=False, soft_wrap=True)
            case Progress():
                self._on_progress(job, message)
            case Ended():
                self._on_ended(job, message)
        self.bars.update(self.total, completed=self.share, detail=self._overall())

    def on_stopping(self) -> None:
        """Print that the signal was received."""
        self._print("Stopping: runs under way save what they have. Once more to kill them.")

    def _on_progress(self, job: Job, message: Progress) -> None:
        self.started = self.started or time.monotonic()  # workers have loaded by now
        if job.run_id not in self.resumed_at:
            self.resumed_at[job.run_id] = message.fraction
            self.share_before += job.weight * message.fraction / self.whole
        self._note(job, message.fraction)
        accuracy = "" if message.top1 is None else f", top-1 {message.top1:.2f} %"
        if self.live:
            task = self.tasks.get(job.run_id)
            if task is None:
                task = self.bars.add_task(job.label, total=1.0, detail="")
                self.tasks[job.run_id] = task
            under_way = min(message.epochs + 1, message.of_epochs)
            detail = f"epoch {under_way}/{message.of_epochs}{accuracy}"
            self.bars.update(task, completed=message.fraction, detail=detail)
        elif message.epochs > self.epochs.get(job.run_id, 0):
            epoch = f"epoch {message.epochs}/{message.of_epochs}"
            self._print(f"{job.label}: {epoch}{accuracy} ({self._overall()})")
        self.epochs[job.run_id] = message.epochs

    def _on_ended(self, job: Job, message: Ended) -> None:
        if message.outcome in (Outcome.FINISHED, Outcome.DIVERGED, Outcome.DONE_BEFORE):
            self.done += 1
            self._note(job, 1.0)
        task = self.tasks.pop(job.run_id, None)
        if task is not None:
            self.bars.remove_task(task)
        if message.outcome is Outcome.BUSY:
            self._print(f"{job.label} is being trained by {message.detail}")
        else:
            detail = f": {message.detail}" if message.detail else ""
            self._print(f"{job.label} {message.outcome.value}{detail}")

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)

    def _note(self, job: Job, fraction: float) -> None:
        gained = fraction - self.fractions[job.run_id]
        self.share += job.weight * gained / self.whole
        self.fractions[job.run_id] = fraction

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


class Terminal(Dialogue):
    """Dialogue with the person at the terminal, on standard error."""

    def notice(self, text: str) -> None:
        """Print a line that is no part of the data."""
        output.notice(text)

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Ask; a no ends the command."""
        output.confirm(question, yes=yes)
        return True

    def watch(self, label: str) -> AbstractContextManager[OnProgress]:
        """Show a bar."""
        return output.watch(label)

    def progress(self, jobs: Sequence[Job]) -> RunProgress:
        """Show bars of runs, or a line for each epoch."""
        return RunProgress(jobs)
