"""Dialogue of a campaign with a person, or with a program's log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

from dia_repro.errors import AbsentError

if TYPE_CHECKING:
    from dia_repro.execution.messages import Job, Message

LOG = logging.getLogger("dia_repro")

OnProgress = Callable[[int, int], None]


class ConfirmationError(AbsentError):
    """A question needs an answer, and there is no person to ask."""


class Listener(Protocol):
    """Receiver of what runs under way report."""

    def on_message(self, job: Job, message: Message) -> None:
        """Take a message of a worker."""

    def on_stopping(self) -> None:
        """Take note that a signal has come and runs are being saved."""


class Dialogue:
    """Dialogue without a person: what is said goes to the log `dia_repro`."""

    has_person = False
    watch_shows = True  # whether `watch` shows anything here

    def notice(self, text: str) -> None:
        """Say a line that is no part of the data."""
        LOG.info("%s", text)

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Return whether to go on with something long, or that cannot be undone.

        Args:
            yes: whether the answer was given before.

        Raises:
            ConfirmationError: it was not, and there is no person to ask.
        """
        if not yes:
            raise ConfirmationError(f"no terminal to ask in: {question} Pass yes=True to answer")
        return True

    def watch(self, label: str) -> AbstractContextManager[OnProgress]:
        """Show how much of something is done; the block gets a function to tell it to."""
        self.notice(f"{label} …")
        return nullcontext(lambda _done, _total: None)

    def progress(self, jobs: Sequence[Job]) -> AbstractContextManager[Listener]:
        """Show the progress of runs."""
        del jobs
        return nullcontext(self)

    def on_message(self, job: Job, message: Message) -> None:
        """Say what a worker reports."""
        from dia_repro.execution.messages import describe

        if line := describe(job, message):
            self.notice(line)

    def on_stopping(self) -> None:
        """Say that runs are being saved."""
        self.notice("Stopping: runs under way save what they have.")


def duration(seconds: float) -> str:
    """Return seconds as people say them: 41 s, 3 min 20 s, 5.2 h, 60 h (2 days)."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours:,.0f} h ({hours / 24:.0f} days)"
