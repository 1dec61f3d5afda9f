"""Where text goes: data to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import Progress
from rich.segment import Segment

from dia_repro.cli.options import Format
from dia_repro.errors import DONE
from dia_repro.execution.dialogue import ConfirmationError, duration
from dia_repro.rendering.escaping import visible
from dia_repro.rendering.records import Record, to_csv, to_json

__all__ = ["confirm", "duration", "emit", "notice", "stderr", "stdout", "watch"]

PIPE_WIDTH = 160


class SafeConsole(Console):
    """A console whose control sequences are all its own: those in texts are shown."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Yield the segments of a renderable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def stdout() -> Console:
    """For tables; wide enough for any of them where no terminal says how wide it is."""
    terminal = _terminal(sys.stdout)
    width = PIPE_WIDTH if terminal is False else None
    return SafeConsole(width=width, highlight=False, force_terminal=terminal)


def stderr() -> Console:
    """For progress and notices."""
    return SafeConsole(stderr=True, highlight=False, force_terminal=_terminal(sys.stderr))


def _terminal(stream: TextIO | None) -> bool | None:
    """Return False for a file or a pipe, None for a terminal, which rich then asks for colours.

    FORCE_COLOR, which continuous integration often sets, would fill a log with bars.
    """
    return None if stream is not None and stream.isatty() else False


def notice(text: str) -> None:
    """A line for the person at the terminal, never part of the data."""
    stderr().print(text, soft_wrap=True, markup=False)


def emit(
    format_: Format, fields: Sequence[str], records: Sequence[Record], table: RenderableType
) -> None:
    """Records as CSV or JSON, or the table that shows them to people."""
    if format_ is Format.CSV:
        sys.stdout.write(to_csv(fields, records))
    elif format_ is Format.JSON:
        sys.stdout.write(to_json([{name: record[name] for name in fields} for record in records]))
    else:
        stdout().print(table)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that is long or cannot be undone; a no ends the command.

    Raises:
        ConfirmationError: nobody is there to be asked, and `yes` was not said before.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfirmationError(f"nobody to ask: {question} Add --yes to say so")
    if not typer.confirm(visible(question), err=True):
        raise typer.Exit(DONE)


@contextmanager
def watch(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr for something that says how much of how much is done."""
    console = stderr()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(escape(label), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
