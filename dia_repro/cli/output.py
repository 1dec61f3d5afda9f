"""Output of commands: data to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO, assert_never

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import Progress
from rich.segment import Segment

from dia_repro.cli.options import Format
from dia_repro.errors import DONE
from dia_repro.execution.dialogue import ConfirmationError
from dia_repro.rendering.escaping import visible
from dia_repro.rendering.records import Record, to_csv, to_json

PIPE_WIDTH = 160


class SafeConsole(Console):
    """Console that shows control sequences in texts instead of sending them to the terminal."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Yield the segments of a renderable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def stdout() -> Console:
    """Return the console for tables; without a terminal it is wide enough for any of them."""
    terminal = _terminal(sys.stdout)
    width = PIPE_WIDTH if terminal is False else None
    return SafeConsole(width=width, highlight=False, force_terminal=terminal)


def stderr() -> Console:
    """Return the console for progress and notices."""
    return SafeConsole(stderr=True, highlight=False, force_terminal=_terminal(sys.stderr))


def _terminal(stream: TextIO | None) -> bool | None:
    """Return False for a file or a pipe, None for a terminal, which rich then asks for colours.

    FORCE_COLOR, which continuous integration often sets, would fill a log with bars.
    """
    return None if stream is not None and stream.isatty() else False


def notice(text: str) -> None:
    """Print a line for the person at the terminal, never part of the data."""
    stderr().print(text, soft_wrap=True, markup=False)


def emit(
    format_: Format, fields: Sequence[str], records: Sequence[Record], table: RenderableType
) -> None:
    """Print records as CSV or JSON, or the table that shows them to people."""
    match format_:
        case Format.CSV:
            sys.stdout.write(to_csv(fields, records))
        case Format.JSON:
            shown = [{name: record[name] for name in fields} for record in records]
            sys.stdout.write(to_json(shown))
        case Format.TABLE:
            # A command may be longer than a line: cut off it would be another one.
            stdout().print(table, crop=False)
        case _:
            assert_never(format_)


def has_person() -> bool:
    """Return whether there is a person at the terminal to ask."""
    return sys.stdin is not None and sys.stdin.isatty()


def confirm(question: str, *, yes: bool) -> bool:
    """Ask before something that is long or cannot be undone; a no ends the command.

    Raises:
        ConfirmationError: there is no person to ask, and `yes` was not said before.
    """
    if yes:
        return True
    if not has_person():
        raise ConfirmationError(f"no terminal to ask in: {question} Add --yes to answer")
    if not typer.confirm(visible(question), err=True):
        raise typer.Exit(DONE)
    return True


@contextmanager
def watch(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr for something that says how much of how much is done."""
    console = stderr()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(escape(label), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
